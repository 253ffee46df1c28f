"""How the weights of a file meet a whole detector or segmentor, part by part.

mmengine's own loader passes over what does not fit with a line in the log. Here a misfit is an
error, but for what fine-tuning on other classes brings with it.
"""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from mmplugins.backbones.pyramid import PyramidBackbone

from .loading import likely_cause, match
from .payload import find_weights
from .reading import FLOATS, check_tensors
from .report import MatchReport, MismatchError

_BODY = ("backbone", "neck")
"""Parts that know nothing of classes."""

_SHOWN = 4


@dataclass
class PartReport:
    """How one part of a model (``backbone``, ``neck``, ``bbox_head`` ...) was met.

    Attributes:
        matched: Keys loaded as they are or resampled.
        missing: Keys of the model that the file lacks.
        unexpected: Keys of the file that the model lacks.
        mismatched: Keys in both, with the two shapes.
        class_layers: Keys of layers whose size follows the number of classes, with the two shapes.
        afresh: Keys of the model that files of pretrained backbones never hold (output norms).
        absent: Keys on one side only, as expected.
    """

    matched: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: dict[str, str] = field(default_factory=dict)
    class_layers: dict[str, str] = field(default_factory=dict)
    afresh: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)

    @property
    def in_file(self) -> bool:
        """Whether the file knows anything of this part."""
        return bool(self.matched or self.unexpected or self.mismatched or self.class_layers)

    @property
    def in_model(self) -> bool:
        """Whether the model has this part."""
        return bool(self.matched or self.missing or self.mismatched or self.class_layers)


@dataclass
class ModelReport:
    """How the weights of a file meet a whole model.

    Attributes:
        source: The file.
        model: Class of the model.
        parts: By the model's and the file's first names.
        backbone: The backbone's own report, if it is one of the suite.
        classes: Number of classes the file was trained for, None if it does not say.
    """

    source: str
    model: str
    parts: dict[str, PartReport] = field(default_factory=dict)
    backbone: MatchReport | None = None
    classes: int | None = None

    def part(self, key: str) -> PartReport:
        """The part to which a key belongs."""
        return self.parts.setdefault(key.split(".")[0], PartReport())

    def problems(self, whole: bool) -> list[str]:
        """What must not be.

        Args:
            whole: Everything must fit, as for testing and resuming; else, for fine-tuning, layers
                that depend on the number of classes may differ, and parts may be new.
        """
        problems = []
        for name, part in self.parts.items():
            if not part.in_model:
                continue
            wrong = dict(part.mismatched)
            if whole:
                wrong.update(part.class_layers)
            new = not part.in_file and name != "backbone" and not whole
            missing = [*part.missing, *(part.afresh if whole else [])]
            if missing and not new:
                problems.append(f"{name}: {_some(missing, 'missing in the file')}")
            if wrong:
                shapes = [f"{key} ({shapes})" for key, shapes in wrong.items()]
                problems.append(f"{name}: {_some(shapes, 'of another shape or dtype')}")
            if name in _BODY and part.unexpected:
                problems.append(f"{name}: {_some(part.unexpected, 'not in the model')}")
        if not any(part.matched for part in self.parts.values()):
            problems = [
                "nothing in it is of this model; weights of a backbone alone are for "
                "init_cfg=dict(type='Pretrained', checkpoint=...) of the backbone"
            ]
        elif problems and self.backbone is not None and self.backbone.cause:
            problems.append(f"likely cause: {self.backbone.cause}")
        return problems

    def notes(self) -> list[str]:
        """What is as it may be, and yet should be known."""
        notes = []
        layers = [key for part in self.parts.values() for key in part.class_layers]
        if layers:
            made_for = f" (it was trained for {self.classes})" if self.classes else ""
            notes.append(f"another number of classes{made_for}: {_some(layers, 'start afresh', 6)}")
        fresh = [n for n, part in self.parts.items() if part.missing and not part.in_file]
        unused = [n for n, part in self.parts.items() if part.unexpected and not part.in_model]
        if fresh:
            notes.append(f"not in the file, start afresh: {', '.join(fresh)}")
        if unused:
            notes.append(f"in the file only, not used: {', '.join(unused)}")
        return notes

    def raise_if_wrong(self, whole: bool) -> None:
        """Raise :class:`MismatchError` if there are :meth:`problems`."""
        problems = self.problems(whole)
        if problems:
            lines = "\n  ".join(problems)
            remedy = (
                "Testing and resuming want all of the model: give the config that the file was "
                "trained with (its work dir holds it), or another file"
                if whole
                else "To load what fits and start the rest afresh: "
                "default_hooks.load_report.strict=False"
            )
            raise MismatchError(
                f"{self.source} does not fit {self.model}:\n  {lines}\n{remedy}", self
            )

    def table(self) -> Table:
        """Counts by part, for rich."""
        columns = {
            "matched": "matched",
            "missing": "missing",
            "unexpected": "unexpected",
            "shape mismatch": "mismatched",
            "other classes": "class_layers",
            "starts afresh": "afresh",
            "absent as expected": "absent",
        }
        table = Table(
            title=f"{self.model} from {self.source}", title_justify="left", box=SIMPLE_HEAD
        )
        table.add_column("part", no_wrap=True)
        for name in columns:
            table.add_column(name, justify="right")
        for name, part in self.parts.items():
            counts = [len(getattr(part, column)) for column in columns.values()]
            table.add_row(name, *(str(n) if n else "-" for n in counts))
        return table

    def __str__(self) -> str:
        """The table and the notes as plain text."""
        text = io.StringIO()
        Console(file=text, width=110, color_system=None).print(self.table())
        return "\n".join([text.getvalue().rstrip(), *self.notes()])


def match_model(
    model: nn.Module, content: Mapping[str, Any], source: str = "a state dict"
) -> tuple[ModelReport, OrderedDict[str, Tensor]]:
    """Compare what a file holds with a whole model.

    Args:
        model: Detector, segmentor or any other; it stays untouched. A backbone of the suite in it,
            as ``backbone``, may have any of its layouts in the file, and weights that are tied to
            the training size are resampled.
        content: As :func:`read_checkpoint` returns it.
        source: The file, for messages.

    Returns:
        The report, and the state dict of what fits, by the model's names and in its shapes.

    Raises:
        CheckpointError: If there is no state dict, or it holds NaN or other impossible tensors.
    """
    tensors = find_weights(content, source).tensors
    check_tensors(tensors, source)
    report = ModelReport(str(source), type(model).__name__, classes=_classes(content))
    fitted: OrderedDict[str, Tensor] = OrderedDict()
    wanted = model.state_dict()
    backbone = getattr(model, "backbone", None)
    if isinstance(backbone, PyramidBackbone):
        prefix = "backbone."
        own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        found, loaded = match(backbone, own, str(source))
        if not found.ok:
            found.cause = likely_cause(backbone, own, found) if own else ""
        report.backbone = found
        report.parts["backbone"] = PartReport(
            matched=[prefix + key for key in (*found.matched, *found.adapted)],
            missing=[prefix + key for key in found.missing],
            unexpected=[prefix + key for key in found.unexpected],
            mismatched={prefix + key: shapes for key, shapes in found.mismatched.items()},
            afresh=[prefix + key for key in found.absent if _has_to_be_learnt(key, backbone)],
            absent=[prefix + key for key in found.absent if not _has_to_be_learnt(key, backbone)],
        )
        fitted.update({prefix + key: value for key, value in loaded.items()})
        tensors = {k: v for k, v in tensors.items() if not k.startswith(prefix)}
        wanted = {k: v for k, v in wanted.items() if not k.startswith(prefix)}
    for key, value in wanted.items():
        part = report.part(key)
        given = tensors.get(key)
        if given is None:
            absent = key.endswith("num_batches_tracked")
            (part.absent if absent else part.missing).append(key)
        elif given.shape != value.shape or (
            value.is_floating_point() and given.dtype not in FLOATS
        ):
            text = f"{_shape(given)} in the file, {_shape(value)} in the model"
            of_class = key.split(".")[0] not in _BODY and _follows_classes(
                model, key, given, value, report.classes
            )
            (part.class_layers if of_class else part.mismatched)[key] = text
        else:
            part.matched.append(key)
            fitted[key] = given
    for key in tensors:
        if key not in wanted:
            report.part(key).unexpected.append(key)
    return report, fitted


def _follows_classes(
    model: nn.Module, key: str, given: Tensor, wanted: Tensor, classes: int | None
) -> bool:
    """Whether two shapes differ as the number of classes makes them differ.

    A layer that tells classes apart has, in its first dimension, k outputs per class, one more
    class for the background or not: k * (C + b). All other dimensions agree.

    Args:
        model: The model; the number of its classes is ``num_classes`` of the nearest module.
        key: Name of the tensor in it.
        given: Tensor of the file.
        wanted: Tensor of the model.
        classes: Number of classes of the file, None if unknown: then any will do.
    """
    own = _num_classes(model, key)
    if not own or given.ndim != wanted.ndim or given.shape[1:] != wanted.shape[1:]:
        return False
    for background in (0, 1):
        each, rest = divmod(wanted.shape[0], own + background)
        if rest or not each:
            continue
        if classes is None and given.shape[0] % each == 0:
            return True
        if classes is not None and given.shape[0] == each * (classes + background):
            return True
    return False


def _has_to_be_learnt(key: str, backbone: PyramidBackbone) -> bool:
    return key in backbone.state_dict() and not key.endswith("num_batches_tracked")


def _num_classes(model: nn.Module, key: str) -> int | None:
    path = key.rpartition(".")[0]
    while path:
        number = getattr(model.get_submodule(path), "num_classes", None)
        if isinstance(number, int):
            return number
        path = path.rpartition(".")[0]
    return None


def _classes(content: Mapping[str, Any]) -> int | None:
    meta = content.get("meta")
    if not isinstance(meta, Mapping):
        return None
    dataset = meta.get("dataset_meta")
    classes = dataset.get("classes") if isinstance(dataset, Mapping) else None
    classes = classes or meta.get("CLASSES")  # mmdet 2.x and mmseg 0.x
    return len(classes) if isinstance(classes, list | tuple) else None


def _shape(tensor: Tensor) -> str:
    shape = "x".join(map(str, tensor.shape)) or "scalar"
    return shape if tensor.dtype in FLOATS else f"{shape} of {tensor.dtype}"


def _some(items: list[str], what: str, shown: int = _SHOWN) -> str:
    more = f" and {len(items) - shown} more" if len(items) > shown else ""
    return f"{len(items)} {what}: {', '.join(items[:shown])}{more}"
