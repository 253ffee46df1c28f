"""Loading weights into a backbone, with a report, and an error unless all that matters fits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model.weight_init import PretrainedInit, update_init_info
from mmengine.registry import WEIGHT_INITIALIZERS
from torch import Tensor, nn

from mmplugins.backbones.catalog import families
from mmplugins.backbones.deploy_state import MARK, form_that_loads, is_deployed, refuse_deployed
from mmplugins.backbones.key_layouts import find_layout
from mmplugins.backbones.pyramid import PyramidBackbone

from .adapting import adapt
from .identity import NATIVE, identify
from .known_families import family_of_keys
from .payload import Weights, find_prefixes, find_weights, unwrapped
from .reading import FLOATS, CheckpointError, check_tensors
from .report import MatchReport
from .sources import load_source
from .zoo import licence_of


def load_weights(
    model: nn.Module,
    source: str | Path,
    *,
    strict: bool = True,
    prefix: str | None = None,
    allow_unsafe: bool = False,
) -> MatchReport:
    """Load the weights of a backbone and say what happened.

    Args:
        model: A backbone, or a model with one as ``backbone`` (a detector, a segmentor), whose
            neck and heads then stay as they are.
        source: Local file, URL, ``timm://NAME[.TAG]`` or ``metaformer://NAME``, in any layout that
            the backbone's family knows; also a file of a whole detector or segmentor.
        strict: Fail unless all fits but classifier, output norms and stages not built. Defaults
            to True; with False what fits is loaded and the rest reported.
        prefix: What stands before the backbone's keys in the file. Defaults to None: found out.
        allow_unsafe: As in :func:`read_checkpoint`. Defaults to False.

    Returns:
        The report. The model is untouched if an error is raised.

    Raises:
        MismatchError: If the weights do not fit and ``strict``.
        ValueError: If they are in deploy form and the model is not, even without ``strict``.
        CheckpointError: If the file cannot be read, or holds no such weights.
    """
    report, fitted = _match(model, source, prefix, allow_unsafe)
    if strict:
        report.raise_if_wrong()
    refuse_deployed(report.unexpected, "", report.model)  # its values mean something else
    _backbone_of(model).load_state_dict(fitted, strict=False)
    return report


def check_weights(
    model: nn.Module,
    source: str | Path,
    *,
    prefix: str | None = None,
    allow_unsafe: bool = False,
) -> MatchReport:
    """Report how the weights of a file would meet a model, and load nothing.

    Arguments and errors are those of :func:`load_weights`; a misfit is in the report only. The
    model may be on the meta device.
    """
    return _match(model, source, prefix, allow_unsafe)[0]


def _match(
    model: nn.Module, source: str | Path, prefix: str | None, allow_unsafe: bool
) -> tuple[MatchReport, dict[str, Tensor]]:
    backbone = _backbone_of(model)
    weights = find_weights(load_source(source, allow_unsafe), source)
    prefix = _choose_prefix(weights, backbone, prefix)
    own = weights.below(prefix)
    check_tensors(own, weights.source)
    report, fitted = match(backbone, own, weights.source)
    report.prefix, report.payload = prefix, weights.payload
    report.outside = len(weights.tensors) - len(own)
    if not report.ok:
        report.cause = likely_cause(backbone, own, report)
    return report, fitted


def match(
    model: PyramidBackbone, tensors: Mapping[str, Tensor], source: str = "a state dict"
) -> tuple[MatchReport, dict[str, Tensor]]:
    """Compare a state dict with a backbone.

    Args:
        model: The backbone.
        tensors: State dict of a backbone in any layout, without anything before its keys.
        source: What to call it in the report.

    Returns:
        The report, and the tensors that fit, by our names and in the model's shapes.
    """
    model = form_that_loads(model, tensors)
    layout = find_layout(tensors, model.layouts)
    native = dict(model.convert_state_dict(tensors))
    # A backbone around a timm model takes timm's names without a layout: its own ones are longer.
    bare = NATIVE if native.keys() <= tensors.keys() else "timm"
    report = MatchReport(source, type(model).__name__, layout.name if layout else bare)
    report.license = licence_of(source, layout)
    if layout is not None:
        for key in tensors:
            if re.match(layout.absent, key):
                report.absent[f"head.{key.removeprefix('head.')}"] = "classifier"
    else:
        kept = {id(value) for value in native.values()}
        for key, value in tensors.items():
            if key not in native and id(value) not in kept:
                report.absent[key] = "folded while loading, or not needed for the features"
    report.stages = {
        info["module"]: i for info, i in zip(model.feature_info, model.out_indices, strict=True)
    }
    wanted = model.state_dict()
    fitted: dict[str, Tensor] = {}
    for key, value in native.items():
        if key not in wanted:
            reason = _no_place(key, model)
            if reason:
                report.absent[key] = reason
            else:
                report.unexpected.append(key)
            continue
        if wanted[key].is_floating_point() and value.dtype not in FLOATS:
            report.mismatched[key] = f"{value.dtype} in the file, {wanted[key].dtype} in the model"
            continue
        if value.shape != wanted[key].shape:
            value, done = adapt(model, key, value, wanted[key].shape)
            if not done:
                report.mismatched[key] = (
                    f"{tuple(value.shape)} in the file, {tuple(wanted[key].shape)} in the model"
                )
                continue
            report.adapted[key] = done
        else:
            report.matched.append(key)
        fitted[key] = value
    if layout is not None and layout.remark and any(k.startswith("out_norms.") for k in native):
        report.remarks.append(
            layout.remark
            if any(key.startswith("out_norms.") for key in fitted)
            else "the trained norm after the last stage has no place in this model, and dense "
            "results hang on it: out_norm='LN', or (None, None, None, 'LN') for it alone"
        )
    for key in wanted:
        if key not in native:
            reason = _not_needed(key)
            if reason:
                report.absent[key] = reason
            else:
                report.missing.append(key)
    return report, fitted


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


def likely_cause(model: PyramidBackbone, tensors: Mapping[str, Tensor], report: MatchReport) -> str:
    """Say in a sentence why weights do not fit a backbone.

    Args:
        model: The backbone.
        tensors: The weights.
        report: How they meet.
    """
    if MARK in tensors and not is_deployed(model):
        return (
            "the file holds the deploy form of a model, which cannot be undone; call eval() and "
            "switch_to_deploy() on the backbone before loading"
        )
    mixers = [key for key in report.missing if ".token_mixer." in key]
    if mixers and mixers == report.missing and not (report.unexpected or report.mismatched):
        return (
            "only token mixers are missing: the file holds a deployed form (build the model with "
            "deploy=True) or a network without these mixers, from which a student may start with "
            "strict=False"
        )
    held = identify(tensors)
    if held is None or held.share < 0.5:
        wrong = len(report.missing) + len(report.unexpected) + len(report.mismatched)
        if len(report.matched) > wrong:
            return (
                "the same architecture built with other arguments (depths, dims, in_channels, "
                "token mixers ...), or a part of the file"
            )
        starts = sorted({key.split(".")[0] for key in tensors})[:6]
        family = family_of_keys(tensors)
        if family and family == family_of_keys(model.state_dict()):
            return f"another {family} than the model's, {getattr(model, 'model_name', '')}".rstrip(
                ", "
            )
        if family:
            return (
                f"wrong family: the file holds a {family}, the model is a {type(model).__name__}; "
                "timm's models of other families are timm/NAME (timm.list_models() has the names)"
            )
        return (
            "wrong architecture: no backbone of the suite has such weights (their keys begin with "
            f"{', '.join(starts)})"
        )
    family = next((name for name, cls in families().items() if type(model) is cls), None)
    own = identify(model.state_dict(), only=family) if family else None
    names = (held.backbone, *held.same_as)
    same = next((name for name in names if name.startswith(f"{family}_")), None)
    degree = "holds" if held.exact else "resembles"
    if family is None:
        names = " or ".join(names)
        return f"the file {degree} {names}, the model is another ({type(model).__name__})"
    if same is None:
        name = own.backbone if own else type(model).__name__
        return f"wrong family: the file {degree} {' or '.join(names)}, the model is {name}"
    if own is not None and same not in (own.backbone, *own.same_as):
        arch = same.removeprefix(f"{family}_")
        return (
            f"wrong variant: the file {degree} {same}, the model is {own.backbone}; build it with "
            f"arch={arch!r} or take the weights of {own.backbone}"
        )
    what = same or held.backbone
    if held.exact:
        return f"the file holds all of {what}; the model was built with other arguments"
    return f"the file holds a part of {what} only, or was changed"


def _backbone_of(model: nn.Module) -> PyramidBackbone:
    backbone = model if isinstance(model, PyramidBackbone) else getattr(model, "backbone", None)
    if not isinstance(backbone, PyramidBackbone):
        raise TypeError(
            f"{type(model).__name__} is no backbone of mmplugins and has none as `backbone`: its "
            "weights load with mmengine's load_checkpoint"
        )
    return backbone


def _choose_prefix(weights: Weights, model: PyramidBackbone, prefix: str | None) -> str:
    if prefix is not None:
        prefix = unwrapped(prefix if prefix.endswith(".") or not prefix else f"{prefix}.")
        if not weights.below(prefix):
            starts = sorted({key.split(".")[0] for key in weights.tensors})[:8]
            raise CheckpointError(
                f"{weights.source} has no keys under {prefix!r}: they begin with "
                f"{', '.join(starts)}"
            )
        return prefix
    own = set(model.state_dict())
    bare = [key for key in weights.tensors if key in own]
    found = find_prefixes(weights.tensors, model.layouts)
    if bare or not found:
        return ""
    others = [p for p in found if not (p.startswith(found[0]) or found[0].startswith(p))]
    if others:
        raise CheckpointError(
            f"{weights.source} holds more than one backbone, under "
            f"{', '.join(map(repr, [found[0], *others]))}: choose one with prefix="
        )
    return found[0]


@WEIGHT_INITIALIZERS.register_module(name="Pretrained", force=True)
class PretrainedWithReport(PretrainedInit):
    """``init_cfg=dict(type='Pretrained', ...)``: :func:`load_weights` for backbones of the suite.

    All other modules are initialised by mmengine's own class, from which this one inherits and
    whose name it takes, so that configs need not change.

    Args:
        checkpoint: As ``source`` of :func:`load_weights`.
        prefix: What stands before the keys. Defaults to None, which for a backbone of the suite
            means: found out.
        map_location: As in mmengine; backbones of the suite read to the CPU. Defaults to
            ``'cpu'``.
        strict: For backbones of the suite, see :func:`load_weights`. Defaults to True.
        allow_unsafe: For backbones of the suite, see :func:`read_checkpoint`. Defaults to False.
    """

    def __init__(
        self,
        checkpoint: str,
        prefix: str | None = None,
        map_location: Any = "cpu",
        strict: bool = True,
        allow_unsafe: bool = False,
    ):
        super().__init__(checkpoint, prefix, map_location)
        self.strict = strict
        self.allow_unsafe = allow_unsafe

    @torch.no_grad()
    def __call__(self, module: nn.Module) -> None:
        """Initialise ``module`` in place."""
        if not isinstance(module, PyramidBackbone):
            super().__call__(module)
            return
        report = load_weights(
            module,
            self.checkpoint,
            strict=self.strict,
            prefix=self.prefix,
            allow_unsafe=self.allow_unsafe,
        )
        print_log(f"\n{report}", "current", 20 if report.ok else 30)
        if hasattr(module, "_params_init_info"):
            update_init_info(module, init_info=self._get_init_info())

    def _get_init_info(self) -> str:
        return f"PretrainedInit: load from {self.checkpoint}"
