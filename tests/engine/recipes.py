"""Recipes of this project, of mmdet and of mmseg, read once."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import mmdet
import mmseg
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn

ROOT = Path(__file__).parents[2]
DET = Path(mmdet.__file__).parent / ".mim/configs"
SEG = Path(mmseg.__file__).parent / ".mim/configs"
RETINANET = ROOT / "configs/retinanet/retinanet_1x_coco.py"
UPERNET = ROOT / "configs/upernet/upernet_160k_ade20k.py"
RECIPES = {
    "retinanet": RETINANET,
    "mask_rcnn": ROOT / "configs/mask_rcnn/mask-rcnn_1x_coco.py",
    "cascade": ROOT / "configs/cascade_mask_rcnn/cascade-mask-rcnn_ms-crop-3x_coco.py",
    "semantic_fpn": ROOT / "configs/semantic_fpn/semantic-fpn_40k_ade20k.py",
    "upernet": UPERNET,
    "mmdet_retinanet": DET / "retinanet/retinanet_r50_fpn_1x_coco.py",
    "mmdet_mask_rcnn": DET / "mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py",
    "mmdet_cascade": DET / "cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py",
    "mmseg_semantic_fpn": SEG / "sem_fpn/fpn_r50_4xb4-160k_ade20k-512x512.py",
    "mmseg_upernet": SEG / "upernet/upernet_r50_4xb4-80k_ade20k-512x512.py",
}
TINY = dict(type="PoolFormer", arch=dict(depths=(1, 1, 1, 1), dims=(8, 16, 24, 32)))
_read = cache(Config.fromfile)


def recipe(name: str | Path) -> Config:
    """A copy of a recipe, by its name or path."""
    return Config(_read(RECIPES.get(name, name)).to_dict())


def learnt_segmentor(cfg: Config) -> nn.Module:
    """The segmentor of a config after a loss of two pictures and its backward pass."""
    init_default_scope("mmseg")
    cfg.model.data_preprocessor = None
    model = MODELS.build(cfg.model)
    sample = SegDataSample(gt_sem_seg=PixelData(data=torch.zeros(1, 64, 64, dtype=torch.long)))
    losses = model(torch.randn(2, 3, 64, 64), [sample, sample], mode="loss")
    sum(value for name, value in losses.items() if "loss" in name).backward()
    return model


def without_gradient(model: nn.Module) -> list[str]:
    """Names of trainable parameters that got no gradient, at which distributed training stops."""
    return [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
