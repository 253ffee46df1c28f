"""Loading weights into a backbone, with a report, and an error unless all that matters fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model.weight_init import PretrainedInit, update_init_info
from mmengine.registry import WEIGHT_INITIALIZERS
from torch import Tensor, nn

from mmplugins.backbones.deploy_state import refuse_deployed
from mmplugins.backbones.pyramid import PyramidBackbone
from mmplugins.utils import few

from .fitting import fit, rename_for
from .payload import Weights, find_prefixes, find_weights, prefixes_that_fit, unwrapped
from .reading import CheckpointError, check_tensors
from .report import MatchReport
from .sources import load_source


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
        ValueError: If they are in deployed form and the model is not, even without ``strict``.
        CheckpointError: If the file cannot be read, or holds no such weights.
    """
    report, fitted = fetch_and_fit(model, source, prefix, allow_unsafe)
    if strict:
        report.raise_if_wrong()
    refuse_deployed(report.unexpected, "", report.model)  # it has the same names, but other values
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
    return fetch_and_fit(model, source, prefix, allow_unsafe)[0]


def fetch_and_fit(
    model: nn.Module, source: str | Path, prefix: str | None, allow_unsafe: bool
) -> tuple[MatchReport, dict[str, Tensor]]:
    """Take a weight file the whole way to the backbone of a model, and load nothing.

    Arguments and errors are those of :func:`load_weights`.

    Returns:
        The report, and the tensors that fit, by the names and in the shapes of the backbone.
    """
    backbone = _backbone_of(model)
    content = load_source(source, allow_unsafe)  # fetches the file, and reads it safely
    weights = find_weights(content, source)  # the state dict in what it holds
    prefix = _choose_prefix(weights, backbone, prefix)
    tensors = weights.below(prefix)  # the backbone in the state dict
    check_tensors(tensors, weights.source)
    renamed = rename_for(backbone, tensors)  # converted to the names of the backbone
    report, fitted = fit(backbone, renamed, weights.source)  # compared with it, name by name
    report.prefix, report.payload = prefix, weights.payload
    report.outside = len(weights.tensors) - len(tensors)
    return report, fitted


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
            starts = few(sorted({key.split(".")[0] for key in weights.tensors}), 8)
            raise CheckpointError(
                f"{weights.source} has no keys under {prefix!r}: they begin with {starts}"
            )
        return prefix
    own = set(model.state_dict())
    bare = [key for key in weights.tensors if key in own]
    if model.layouts:
        found = find_prefixes(weights.tensors, model.layouts)
    else:
        found = prefixes_that_fit(weights.tensors, model)
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
