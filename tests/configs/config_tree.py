"""The config tree as the tests see it: what there is, read once, and models without memory."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import mmdet
import mmseg
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from programs import ROOT, load

CONFIGS = ROOT / "configs"
MMDET = Path(mmdet.__file__).parent / ".mim/configs"
MMSEG = Path(mmseg.__file__).parent / ".mim/configs"

RECIPES = (
    "retinanet/retinanet_1x_coco.py",
    "retinanet/retinanet_shapes.py",
    "mask_rcnn/mask-rcnn_1x_coco.py",
    "mask_rcnn/mask-rcnn_ms-crop-3x_coco.py",
    "mask_rcnn/mask-rcnn_shapes.py",
    "cascade_mask_rcnn/cascade-mask-rcnn_ms-crop-3x_coco.py",
    "semantic_fpn/semantic-fpn_40k_ade20k.py",
    "semantic_fpn/semantic-fpn_80k_ade20k.py",
    "semantic_fpn/semantic-fpn_shapes.py",
    "upernet/upernet_160k_ade20k.py",
    "upernet/upernet_160k_ade20k-640x640.py",
    "linear/linear_40k_ade20k.py",
    "linear/linear-last_40k_ade20k.py",
    "linear/linear_shapes.py",
)
ALL = tuple(
    sorted(
        path.relative_to(CONFIGS).as_posix()
        for path in CONFIGS.glob("*/*.py")
        if path.parent.name != "_base_"
    )
)
FILES = tuple(name for name in ALL if "_distill-" not in name)
"""Recipes and leaves, without those that train the model of another leaf with a teacher."""
LEAVES = tuple(name for name in FILES if name not in RECIPES)
OWN = tuple(name for name in LEAVES if not name.startswith(("resnet/", "pvt/")))
"""Leaves with backbones of this package."""


tool = load("tools/config_tables.py")


@cache
def entries() -> dict[str, dict[str, Any]]:
    """The entries of all metafiles by config, relative to configs/."""
    models = [model for metafile in tool.metafiles() for model in tool.read_models(metafile)]
    return {model["Config"].removeprefix("configs/"): model for model in models}


@cache
def _read(name: str) -> Config:
    return Config.fromfile(CONFIGS / name)


def read(name: str) -> Config:
    """A config below configs/, the caller's to change."""
    return deepcopy(_read(name))  # building a model writes into nested entries


def build(cfg: Config, device: str = "cpu") -> BaseModel:
    """The model of a config in memory, from random weights."""
    with MODELS.switch_scope_and_registry(cfg.default_scope) as models, torch.device(device):
        return models.build(cfg.model)


@cache
def outline(name: str) -> BaseModel:
    """The model of a config without memory; to be looked at only."""
    return tool.build(read(name))


def count(module: torch.nn.Module) -> int:
    """Its parameters, fixed ones included."""
    return sum(p.numel() for p in module.parameters())


def parameters(name: str) -> int:
    """Of a config's model: as its metafile says, which test_leaf_configs recounts, or counted."""
    entry = entries().get(name)
    return entry["Metadata"]["Parameters"] if entry else count(outline(name))


def backbone_name(cfg: Config) -> str:
    """The name of a config's backbone in the catalogue."""
    return f"{cfg.model.backbone.type.lower()}_{cfg.model.backbone.arch}"
