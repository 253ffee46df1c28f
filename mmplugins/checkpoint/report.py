"""The report of a load: what matched, what did not, and the likely cause."""

from __future__ import annotations

import difflib
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from .reading import CheckpointError

PARTS = ("stem", "stage 0", "stage 1", "stage 2", "stage 3", "output norms", "classifier", "other")
"""Rows of the table."""

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
    """How the weights of a file meet a backbone. Keys are ours (``stages.0.blocks.1...``).

    Attributes:
        source: The file.
        model: Class of the backbone.
        layout: Whose names the file uses.
        prefix: What stands before them in the file.
        payload: Key of the file's dict under which they are, ``''`` for the file itself.
        matched: Loaded as they are.
        adapted: Loaded in another shape, with what was done to them.
        missing: In the model and not in the file, and no reason is known.
        unexpected: In the file and not in the model, and no reason is known.
        mismatched: In both, with shape or dtype of the file and of the model.
        absent: On one side only, as expected, with the reason.
        outside: Tensors of the file outside the backbone (necks, heads).
        cause: Likely cause of what is wrong, ``''`` if nothing is.
        license: Licence of the weights, ``''`` if it is not known.
        remarks: What else a user should know.
        stages: Stage of keys with a prefix, where names do not tell it themselves (timm's).
    """

    source: str
    model: str
    layout: str
    prefix: str = ""
    payload: str = ""
    matched: list[str] = field(default_factory=list)
    adapted: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    outside: int = 0
    cause: str = ""
    license: str = ""
    remarks: list[str] = field(default_factory=list)
    stages: Mapping[str, int] = field(default_factory=dict, repr=False)

    @property
    def ok(self) -> bool:
        """Whether all that the model needs was in the file, and nothing contradicts."""
        return not (self.missing or self.unexpected or self.mismatched)

    def table(self) -> Table:
        """Counts by part of the network, for rich."""
        columns = {
            "matched": self.matched,
            "adapted": self.adapted,
            "missing": self.missing,
            "unexpected": self.unexpected,
            "shape mismatch": self.mismatched,
            "absent as expected": self.absent,
        }
        where = f", under {self.prefix!r}" if self.prefix else ""
        held = f", in {self.payload!r}" if self.payload else ""
        table = Table(
            title=f"{self.model} from {self.source}\n({self.layout} layout{where}{held})",
            title_justify="left",
            box=SIMPLE_HEAD,
        )
        table.add_column("part", no_wrap=True)
        for name in columns:
            table.add_column(name, justify="right")
        counts = {part: [0] * len(columns) for part in PARTS}
        for i, keys in enumerate(columns.values()):
            for key in keys:
                counts[part_of(key, self.stages)][i] += 1
        for part, row in counts.items():
            if any(row):
                table.add_row(part, *(str(n) if n else "-" for n in row))
        table.add_section()
        totals = [sum(column) for column in zip(*counts.values(), strict=True)]
        table.add_row("all", *map(str, totals))
        return table

    def notes(self) -> list[str]:
        """What the table cannot say: one line for each kind of adapted or absent tensor."""
        notes = []
        for kind, items in (("adapted", self.adapted), ("absent, as expected", self.absent)):
            by_reason: dict[str, list[str]] = {}
            for key, reason in items.items():
                by_reason.setdefault(reason, []).append(key)
            notes += [f"{kind}: {_some(keys, 2)}: {reason}" for reason, keys in by_reason.items()]
        if self.outside:
            notes.append(f"{self.outside} tensors of the file lie outside the backbone, not used")
        notes += self.remarks
        if self.license:
            notes.append(f"licence of these weights: {self.license}")
        return notes

    def problems(self) -> list[str]:
        """What keeps the weights from fitting, most telling first, with the nearest keys."""
        problems = []
        for kind, keys, others in (
            ("missing in the file", self.missing, self.unexpected),
            ("not in the model", self.unexpected, []),
        ):
            if keys:
                shown = [_with_nearest(key, others) for key in keys[:_SHOWN]]
                more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
                problems.append(f"{len(keys)} {kind}: {', '.join(shown)}{more}")
        if self.mismatched:
            shown = [f"{key} ({what})" for key, what in list(self.mismatched.items())[:_SHOWN]]
            more = len(self.mismatched) - _SHOWN
            problems.append(
                f"{len(self.mismatched)} of another shape or dtype: {', '.join(shown)}"
                + (f" and {more} more" if more > 0 else "")
            )
        if self.cause:
            problems.append(f"likely cause: {self.cause}")
        return problems

    def raise_if_wrong(self) -> None:
        """Raise :class:`MismatchError` unless ``ok``."""
        if not self.ok:
            lines = "\n  ".join(self.problems())
            raise MismatchError(
                f"{self.source} does not fit {self.model}:\n  {lines}\n"
                "strict=False loads what fits.",
                self,
            )

    def __str__(self) -> str:
        """The table and what goes with it as plain text."""
        text = io.StringIO()
        Console(file=text, width=110, color_system=None).print(self.table())
        return "\n".join([text.getvalue().rstrip(), *self.notes(), *self.problems()])


def part_of(key: str, stages: Mapping[str, int] | None = None) -> str:
    """The row of the table to which a key of ours belongs.

    Args:
        key: Name of a tensor.
        stages: As in :class:`MatchReport`.
    """
    stage = re.match(r"stages\.([0-3])\.", key)
    if stage:
        return f"stage {stage[1]}"
    for prefix, number in (stages or {}).items():
        if key.startswith(f"{prefix}."):
            return f"stage {number}"
    rows = (("stem.", "stem"), ("out_norms.", "output norms"), ("head.", "classifier"))
    return next((row for start, row in rows if key.startswith(start)), "other")


def _with_nearest(key: str, others: list[str]) -> str:
    near = difflib.get_close_matches(key, others[:400], n=1, cutoff=0.75)
    return f"{key} (nearest in the file: {near[0]})" if near else key


def _some(keys: list[str], count: int) -> str:
    more = f" and {len(keys) - count} more" if len(keys) > count else ""
    return ", ".join(keys[:count]) + more
