"""How a state dict meets a model: brought to the model's names, then compared name by name."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from mmplugins.backbones.deploy_state import form_that_loads
from mmplugins.backbones.key_layouts import KeyLayout, find_layout
from mmplugins.backbones.pyramid import PyramidBackbone

from .adapting import adapt
from .causes import likely_cause
from .identity import NATIVE
from .payload import dataset_names, find_weights
from .reading import FLOATS, check_tensors
from .report import BACKBONE, BODY, MatchReport
from .zoo import licence_of


@dataclass
class Renamed:
    """A state dict by a backbone's own names.

    Attributes:
        tensors: By the names of the backbone.
        given: The same by the names of the file.
        name: Whose names the file used.
        layout: Its layout, None for our own and timm's for a timm model.
        left_out: Keys that have no place in a backbone, with the reason.
    """

    tensors: dict[str, Tensor]
    given: Mapping[str, Tensor]
    name: str
    layout: KeyLayout | None
    left_out: dict[str, str] = field(default_factory=dict)


def rename_for(model: PyramidBackbone, tensors: Mapping[str, Tensor]) -> Renamed:
    """Convert a state dict of a backbone, in any layout, to the names of the model.

    Args:
        model: The backbone.
        tensors: Without anything before the backbone's keys.
    """
    model = form_that_loads(model, tensors)
    layout = find_layout(tensors, model.layouts)
    native = dict(model.convert_state_dict(tensors))
    if layout is not None:
        absent = [key for key in tensors if re.match(layout.absent, key)]
        left_out = {f"head.{key.removeprefix('head.')}": "classifier" for key in absent}
        return Renamed(native, tensors, layout.name, layout, left_out)
    kept = set(map(_memory, native.values()))
    left_out = {
        key: "folded while loading, or not needed for the features"
        for key, value in tensors.items()
        if key not in native and _memory(value) not in kept
    }
    own = native.keys() <= tensors.keys()
    name = NATIVE if own else model.foreign_names(tensors)
    return Renamed(native, tensors, name, None, left_out)


def _memory(value: Tensor) -> tuple[int, int]:
    """Where a tensor's values are, whatever its shape."""
    return value.untyped_storage().data_ptr(), value.storage_offset()


def fit(
    backbone: PyramidBackbone, renamed: Renamed, source: str = "a state dict"
) -> tuple[MatchReport, dict[str, Tensor]]:
    """Compare a state dict with a backbone, name by name.

    Args:
        backbone: The backbone; it stays untouched.
        renamed: State dict of a backbone by its names.
        source: What to call it in the report.

    Returns:
        The report, and the tensors that fit, in the shapes of the backbone.
    """
    model = form_that_loads(backbone, renamed.given)
    report = MatchReport(source, type(model).__name__, renamed.name)
    report.absent.update(renamed.left_out)
    report.license = licence_of(source, renamed.layout)
    report.stages = model.stage_of_tensor
    wanted = model.state_dict()
    fitted: dict[str, Tensor] = {}
    for key, value in renamed.tensors.items():
        if key not in wanted:
            if reason := _no_place(key, model):
                report.absent[key] = reason
            else:
                report.unexpected.append(key)
            continue
        if value.shape != wanted[key].shape:
            value, done = adapt(model, key, value, wanted[key].shape)
            if done:
                report.adapted[key] = done
        if problem := _misfit(value, wanted[key]):
            report.mismatched[key] = problem
            report.adapted.pop(key, None)
            continue
        if key not in report.adapted:
            report.matched.append(key)
        fitted[key] = value
    for key in wanted:
        if key in renamed.tensors:
            continue
        if reason := _not_needed(key):
            report.absent[key] = reason
            if not key.endswith("num_batches_tracked"):
                report.afresh.append(key)
        else:
            report.missing.append(key)
    if renamed.layout is not None and renamed.layout.remark:
        report.remarks += _remark(renamed, fitted)
    if not report.ok and renamed.given:
        report.cause = likely_cause(backbone, renamed.given, report)
    return report, fitted


def match_model(
    model: nn.Module, content: Mapping[str, Any], source: str = "a state dict"
) -> tuple[MatchReport, OrderedDict[str, Tensor]]:
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
    weights = find_weights(content, source)
    check_tensors(weights.tensors, source)
    report = MatchReport(
        str(source), type(model).__name__, whole=True, classes=_classes(content, str(source))
    )
    fitted: OrderedDict[str, Tensor] = OrderedDict()
    wanted, tensors = model.state_dict(), weights.tensors
    if isinstance(getattr(model, BACKBONE, None), PyramidBackbone):
        prefix = f"{BACKBONE}."
        renamed = rename_for(model.backbone, weights.below(prefix))
        found, loaded = fit(model.backbone, renamed, str(source))
        report.include(found, prefix)
        fitted.update({prefix + key: value for key, value in loaded.items()})
        tensors = {k: v for k, v in tensors.items() if not k.startswith(prefix)}
        wanted = {k: v for k, v in wanted.items() if not k.startswith(prefix)}
    for key, value in wanted.items():
        given = tensors.get(key)
        if given is None and key.endswith("num_batches_tracked"):
            report.absent[key] = "a counter, starts at 0"
        elif given is None:
            report.missing.append(key)
        elif problem := _misfit(given, value):
            of_class = key.split(".")[0] not in BODY and _follows_classes(
                model, key, given, value, report.classes
            )
            (report.class_layers if of_class else report.mismatched)[key] = problem
        else:
            report.matched.append(key)
            fitted[key] = given
    report.unexpected += [key for key in tensors if key not in wanted]
    return report, fitted


def _misfit(given: Tensor, wanted: Tensor) -> str:
    """What two tensors differ in, or ``''`` if one can take the other's values."""
    floats = wanted.is_floating_point(), given.dtype in FLOATS
    # Scripts that halve every tensor of a file halve the counters of batch norms, too.
    counted = floats == (False, True) and given.ndim == 0 and not given.is_meta
    counted = counted and float(given).is_integer()
    if floats[0] != floats[1] and given.dtype != wanted.dtype and not counted:
        return f"{given.dtype} in the file, {wanted.dtype} in the model"
    if given.shape != wanted.shape:
        return f"{tuple(given.shape)} in the file, {tuple(wanted.shape)} in the model"
    return ""


def _remark(renamed: Renamed, fitted: Mapping[str, Tensor]) -> list[str]:
    """What is said of a trained norm after the last stage, where the file has one."""
    if not any(key.startswith("out_norms.") for key in renamed.tensors):
        return []
    if any(key.startswith("out_norms.") for key in fitted):
        return [renamed.layout.remark] if renamed.layout else []
    return [
        "the trained norm after the last stage has no place in this model, and dense results hang "
        "on it: out_norm='LN', or (None, None, None, 'LN') for it alone"
    ]


def _no_place(key: str, model: PyramidBackbone) -> str:
    """Why a key of the file is rightly not in the model, or ``''``."""
    stage = re.match(r"stages\.(\d+)\.", key)
    if stage and len(model.stages) <= int(stage[1]) < len(model.depths):
        return f"stage not built (out_indices={model.out_indices})"
    if key.startswith("out_norms."):
        return "the model has no such output norm"
    if key.startswith(("head.", "norm.")):
        return "classifier"
    return ""


def _not_needed(key: str) -> str:
    """Why a key of the model may be missing in a file, or ``''``."""
    if key.startswith("pyramid."):
        return "starts afresh: files of plain models hold no feature pyramid"
    if key.startswith("out_norms."):
        return "starts afresh: ImageNet files hold no output norms"
    if key.endswith("num_batches_tracked"):
        return "a counter, starts at 0"
    return ""


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


def _num_classes(model: nn.Module, key: str) -> int | None:
    path = key.rpartition(".")[0]
    while path:
        number = getattr(model.get_submodule(path), "num_classes", None)
        if isinstance(number, int):
            return number
        path = path.rpartition(".")[0]
    return None


def _classes(content: Mapping[str, Any], source: str) -> int | None:
    classes = dataset_names(content, source).get("classes")
    return len(classes) if isinstance(classes, list | tuple) and classes else None
