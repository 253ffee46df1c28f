"""Rows made into bare modules: ours, timm's, mmpretrain's, and whole detectors and segmentors."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS
from torch import nn

from mmplugins.backbones.catalog import build_backbone
from mmplugins.checkpoint.config_text import harmless_config
from mmplugins.deployment import reparameterize
from mmplugins.deployment.runtime import Exported
from mmplugins.engine import compose, load_config
from mmplugins.engine.config.settings import task_of

from .rows import MMPRETRAIN, Row

MMPRETRAIN_FAMILIES = {
    "poolformer": ("PoolFormer", (0, 2, 4, 6)),
    "riformer": ("RIFormer", (0, 2, 4, 6)),
    "convnext": ("ConvNeXt", (0, 1, 2, 3)),
}
"""Families that mmpretrain has: class there, and its numbers of the four stages."""


def build_model(row: Row, overrides: Mapping[str, Any] | None = None) -> nn.Module:
    """The bare module of a row, on the current default device, without any option applied.

    Raises:
        ValueError: If the name is unknown.
    """
    overrides = dict(overrides or {})
    if row.with_cp:
        overrides["with_cp"] = True
    if row.whole:
        return _build_whole(row)
    if row.name.startswith(MMPRETRAIN):
        return build_mmpretrain(row.name.removeprefix(MMPRETRAIN))
    return build_backbone(row.name, **overrides)


def _build_whole(row: Row) -> nn.Module:
    cfg = load_config(row.name)
    if row.backbone:
        cfg = compose(cfg, row.backbone)
    task_of(cfg)  # says what is missing if the config does not tell
    if row.with_cp:
        cfg.model.backbone.with_cp = True
    return _built(cfg)


def model_in(exported: Exported) -> nn.Module:
    """The model that an exported file was made from, with random weights, for counting.

    Raises:
        CheckpointError: If its config is not plain data, or builds what is not registered.
    """
    cfg = harmless_config(exported.description["config"], str(exported.path))
    return _built(cfg)


def _built(cfg: Config) -> nn.Module:
    with MODELS.switch_scope_and_registry(cfg.get("default_scope")) as models:
        # mmengine counts no distributed processes here, and its batch norms would look for them.
        return revert_sync_batchnorm(models.build(cfg.model))


def fold(model: nn.Module) -> None:
    """Bring a backbone, or all that folds in a whole model, to its deployed form, in place."""
    if hasattr(model, "switch_to_deploy"):
        model.switch_to_deploy()
        return
    reparameterize(model)


def build_mmpretrain(name: str) -> nn.Module:
    """A backbone of mmpretrain, with its four feature maps and without output norms.

    Args:
        name: Our name of it, for example ``'poolformer_s12'``.

    Raises:
        ValueError: If mmpretrain is not installed or does not have it.
    """
    family, _, arch = name.rpartition("_")
    if family not in MMPRETRAIN_FAMILIES:
        raise ValueError(
            f"mmpretrain has no {name!r}: expected a name of {', '.join(MMPRETRAIN_FAMILIES)}"
        )
    if not importlib.util.find_spec("mmpretrain"):
        raise ValueError(f"{MMPRETRAIN}{name}: mmpretrain is not installed")
    from mmpretrain.models import backbones

    cls, stages = MMPRETRAIN_FAMILIES[family]
    own = dict(gap_before_final_norm=False)
    settings = own if family == "convnext" else dict(frozen_stages=-1)
    model = getattr(backbones, cls)(arch=arch, out_indices=stages, **settings)
    for child in list(model._modules):
        if child.startswith("norm"):
            setattr(model, child, nn.Identity())
    return model


@torch.no_grad()
def show_every_part(model: nn.Module) -> nn.Module:
    """Random weights at which no branch vanishes: a layer scale starts at 1e-5."""
    random = torch.Generator().manual_seed(0)
    for name, value in model.named_parameters():
        if value.ndim < 2:
            mean = 0.0 if name.endswith("bias") else 1.0
            value.uniform_(mean - 0.3, mean + 0.3, generator=random)
        elif value.requires_grad:
            value.normal_(0, value[0].numel() ** -0.5, generator=random)
    return model
