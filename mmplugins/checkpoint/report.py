"""The report of a load: what matched, what did not, and the likely cause."""

from __future__ import annotations

import difflib
import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from rich.box import SIMPLE_HEAD
from rich.table import Table

from mmplugins.console import Console, as_text
from mmplugins.utils import few

from .reading import CheckpointError

STAGES = ("stem", "stage 0", "stage 1", "stage 2", "stage 3", "output norms", "classifier", "other")
"""Rows of a backbone in the table."""

BACKBONE = "backbone"
BODY = (BACKBONE, "neck")  # parts that know nothing of classes
_SHOWN = 4  # keys that an error names of each kind


class MismatchError(CheckpointError):
    """Weights that do not fit a model; ``report`` says in which way.

    Attributes:
        report: The :class:`MatchReport`.
    """

    def __init__(self, message: str, report: MatchReport):
        super().__init__(message)
        self.report = report


@dataclass
class MatchReport:
    """How the weights of a file meet a backbone, or a whole detector or segmentor.

    Keys are the model's (``stages.0.blocks.1...``, ``backbone.stages.0...``).

    Attributes:
        source: The file.
        model: Class of the model.
        layout: Whose names the file uses for the backbone.
        prefix: What stands before them in the file.
        payload: Key of the file's dict under which they are, ``''`` for the file itself.
        whole: Whether it is of a whole model, whose keys begin with the names of its parts.
        matched: Loaded as they are.
        adapted: Loaded in another shape, with what was done to them.
        missing: In the model and not in the file, and no reason is known.
        unexpected: In the file and not in the model, and no reason is known.
        mismatched: In both, with shape or dtype of the file and of the model.
        class_layers: In both, with the two shapes, which differ as the number of classes does.
        absent: On one side only, as expected, with the reason.
        afresh: Those of them that the model has to learn, such as output norms.
        outside: Tensors of the file outside the backbone (necks, heads).
        cause: Likely cause of what is wrong, ``''`` if nothing is.
        license: Licence of the weights, ``''`` if it is not known.
        remarks: What else a user should know.
        classes: Number of classes the file was trained for, None if it does not say.
        stages: Gives the stage of a key of the backbone whose name does not tell it (timm's).
    """

    source: str
    model: str
    layout: str = ""
    prefix: str = ""
    payload: str = ""
    whole: bool = False
    matched: list[str] = field(default_factory=list)
    adapted: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: dict[str, str] = field(default_factory=dict)
    class_layers: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    afresh: list[str] = field(default_factory=list)
    outside: int = 0
    cause: str = ""
    license: str = ""
    remarks: list[str] = field(default_factory=list)
    classes: int | None = None
    stages: Callable[[str], int | None] | None = field(default=None, repr=False)

    @property
    def ok(self) -> bool:
        """Whether all that the model needs was in the file, and nothing contradicts."""
        return not (self.missing or self.unexpected or self.mismatched or self.class_layers)

    def include(self, other: MatchReport, prefix: str) -> None:
        """Take in the report of a part, whose keys stand below ``prefix`` in the whole."""
        for name in ("matched", "missing", "unexpected", "afresh"):
            getattr(self, name).extend(prefix + key for key in getattr(other, name))
        for name in ("adapted", "mismatched", "absent"):
            found = getattr(other, name)
            getattr(self, name).update({prefix + key: why for key, why in found.items()})
        self.layout, self.cause, self.stages = other.layout, other.cause, other.stages
        self.license, self.remarks = other.license, [*self.remarks, *other.remarks]

    def part(self, name: str) -> dict[str, list[str]]:
        """Keys of one part of a whole model (``'backbone'``, ``'neck'`` ...), by what they are."""
        kinds = ["matched", "adapted", "missing", "unexpected", "mismatched", "class_layers"]
        kinds += ["afresh", "absent"]
        return {
            kind: [key for key in getattr(self, kind) if key.partition(".")[0] == name]
            for kind in kinds
        }

    def part_names(self) -> list[str]:
        """Parts of a whole model that it or the file has, the backbone first."""
        kinds = (self.matched, self.adapted, self.missing, self.mismatched, self.class_layers)
        names = dict.fromkeys(key.partition(".")[0] for keys in kinds for key in keys)
        names |= dict.fromkeys(key.partition(".")[0] for key in (*self.absent, *self.unexpected))
        return sorted(names, key=lambda name: name != BACKBONE)

    def problems(self, whole: bool = True) -> list[str]:
        """What keeps the weights from fitting, most telling first, with the nearest keys.

        Args:
            whole: All of a whole model must fit, as for testing and resuming. With False, as for
                fine-tuning, layers that depend on the number of classes may differ, and parts may
                be new. Defaults to True.
        """
        if not self.whole:
            kinds = (self.missing, self.unexpected, {**self.mismatched, **self.class_layers})
            problems = _problems("", *kinds)
        elif not (self.matched or self.adapted):
            return [
                "nothing in it is of this model; weights of a backbone alone are for "
                "init_cfg=dict(type='Pretrained', checkpoint=...) of the backbone"
            ]
        else:
            problems = [line for name in self.part_names() for line in self._of_part(name, whole)]
        if problems and self.cause:
            problems.append(f"likely cause: {self.cause}")
        return problems

    def _of_part(self, name: str, whole: bool) -> list[str]:
        part = self.part(name)
        if not _in_model(part):
            return []
        new = not _in_file(part) and name != BACKBONE and not whole
        missing = [] if new else part["missing"] + (part["afresh"] if whole else [])
        wrong = part["mismatched"] + (part["class_layers"] if whole else [])
        shapes = self.mismatched | self.class_layers
        unexpected = part["unexpected"] if name in BODY else []
        return _problems(f"{name}: ", missing, unexpected, {key: shapes[key] for key in wrong})

    def notes(self) -> list[str]:
        """What is as it may be, and yet should be known, one line for each kind."""
        notes = []
        if self.class_layers:
            made_for = f" (it was trained for {self.classes})" if self.classes else ""
            layers = few(list(self.class_layers), 6)
            count = len(self.class_layers)
            notes.append(f"another number of classes{made_for}: {count} start afresh: {layers}")
        if self.whole:
            parts = {name: self.part(name) for name in self.part_names()}
            fresh = [n for n, part in parts.items() if part["missing"] and not _in_file(part)]
            unused = [n for n, part in parts.items() if part["unexpected"] and not _in_model(part)]
            if fresh:
                notes.append(f"not in the file, start afresh: {', '.join(fresh)}")
            if unused:
                notes.append(f"in the file only, not used: {', '.join(unused)}")
        else:
            kinds = (("adapted", self.adapted), ("absent, as expected", self.absent))
            for kind, items in kinds:
                by_reason: dict[str, list[str]] = {}
                for key, reason in items.items():
                    by_reason.setdefault(reason, []).append(key)
                for reason, keys in by_reason.items():
                    notes.append(f"{kind}: {few(keys, 2)}: {reason}")
        if self.outside:
            notes.append(f"{self.outside} tensors of the file lie outside the backbone, not used")
        notes += self.remarks
        if self.license:
            notes.append(f"licence of these weights: {self.license}")
        return notes

    def raise_if_wrong(self, whole: bool = True) -> None:
        """Raise :class:`MismatchError` if there are :meth:`problems`."""
        problems = self.problems(whole)
        if problems:
            lines = "\n  ".join(problems)
            if not self.whole:
                way_out = "strict=False loads what fits."
            elif whole:
                way_out = (
                    "Testing and resuming want all of the model: give the config that the file was "
                    "trained with (its work dir holds it), or another file"
                )
            else:
                way_out = (
                    "To load what fits and start the rest afresh: "
                    "default_hooks.load_report.strict=False"
                )
            raise MismatchError(
                f"{self.source} does not fit {self.model}:\n  {lines}\n{way_out}", self
            )

    def table(self) -> Table:
        """Counts by stage of the backbone and by part of the model, for rich."""
        columns = {
            "matched": self.matched,
            "adapted": self.adapted,
            "missing": self.missing,
            "unexpected": self.unexpected,
            "shape mismatch": self.mismatched,
            "absent as expected": self.absent,
        }
        if self.whole:
            columns |= {"other classes": self.class_layers, "starts afresh": self.afresh}
        where = f", under {self.prefix!r}" if self.prefix else ""
        held = f", in {self.payload!r}" if self.payload else ""
        names = f"\n({self.layout} layout{where}{held})" if self.layout else ""
        table = Table(
            # As text: paths and prefixes may hold brackets, which rich would take for markup.
            title=as_text(f"{self.model} from {self.source}{names}"),
            title_justify="left",
            box=SIMPLE_HEAD,
        )
        table.add_column("part", no_wrap=True)
        for name in columns:
            table.add_column(name, justify="right")
        counts: dict[str, list[int]] = {}
        for i, keys in enumerate(columns.values()):
            for key in keys:
                counts.setdefault(self._row(key), [0] * len(columns))[i] += 1
        order = [f"{BACKBONE} {stage}" if self.whole else stage for stage in STAGES]
        order += [name for name in counts if name not in order]
        for row in order:
            if row in counts:
                table.add_row(as_text(row), *(str(n) if n else "-" for n in counts[row]))
        table.add_section()
        totals = [len(keys) for keys in columns.values()]
        table.add_row("all", *map(str, totals))
        return table

    def _row(self, key: str) -> str:
        if not self.whole:
            return part_of(key, self.stages)
        name, _, rest = key.partition(".")
        known = name == BACKBONE and self.layout  # of the suite
        return f"{name} {part_of(rest, self.stages)}" if known else name

    def __str__(self) -> str:
        """The table and what goes with it as plain text."""
        text = io.StringIO()
        Console(file=text, width=110, color_system=None).print(self.table())
        lines = [text.getvalue().rstrip(), *self.notes()]
        return "\n".join(lines if self.whole else [*lines, *self.problems()])


def part_of(key: str, stage_of: Callable[[str], int | None] | None = None) -> str:
    """The row of the table to which a key of a backbone belongs.

    Args:
        key: Name of a tensor.
        stage_of: As ``stages`` of :class:`MatchReport`.
    """
    stage = re.match(r"stages\.([0-3])\.", key)
    if stage:
        return f"stage {stage[1]}"
    rows = (("stem.", "stem"), ("out_norms.", "output norms"), ("head.", "classifier"))
    for start, row in rows:
        if key.startswith(start):
            return row
    number = stage_of(key) if stage_of else None
    return "other" if number is None else "stem" if number < 0 else f"stage {number}"


def _in_file(part: Mapping[str, list[str]]) -> bool:
    kinds = ("matched", "adapted", "unexpected", "mismatched", "class_layers")
    return any(part[kind] for kind in kinds)


def _in_model(part: Mapping[str, list[str]]) -> bool:
    kinds = ("matched", "adapted", "missing", "mismatched", "class_layers")
    return any(part[kind] for kind in kinds)


def _problems(
    where: str, missing: list[str], unexpected: list[str], wrong: Mapping[str, str]
) -> list[str]:
    problems = []
    for kind, keys, others in (
        ("missing in the file", missing, unexpected),
        ("not in the model", unexpected, []),
        ("of another shape or dtype", [f"{key} ({what})" for key, what in wrong.items()], []),
    ):
        if keys:
            shown = [_with_nearest(key, others) for key in keys[:_SHOWN]]
            more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
            problems.append(f"{where}{len(keys)} {kind}: {', '.join(shown)}{more}")
    return problems


def _with_nearest(key: str, others: list[str]) -> str:
    near = difflib.get_close_matches(key, others[:400], n=1, cutoff=0.75)
    return f"{key} (nearest in the file: {near[0]})" if near else key
