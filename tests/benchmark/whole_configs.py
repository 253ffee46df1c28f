"""Detectors and segmentors as their papers built them, around a backbone of the suite."""

from __future__ import annotations

from pathlib import Path

import mmdet
import mmseg
from mmengine.config import Config

from mmplugins.backbones.catalog import families

_MODELS = {
    package: Path(package.__file__).parent / ".mim/configs/_base_/models"
    for package in (mmdet, mmseg)
}


def _config(package, name: str) -> dict:
    return Config.fromfile(_MODELS[package] / f"{name}.py").model


def _backbone(family: str, arch: str, **settings) -> tuple[dict, list[int]]:
    config = dict(type=family, arch=arch, _scope_="mmengine", **settings)
    return config, list(families()[family.lower()].variants[arch].dims)


def retinanet(family: str, arch: str) -> dict:
    model = _config(mmdet, "retinanet_r50_fpn")
    model.backbone, dims = _backbone(family, arch, out_indices=(1, 2, 3))
    model.neck.update(in_channels=dims[1:], start_level=0)
    return model


def mask_rcnn(family: str, arch: str) -> dict:
    model = _config(mmdet, "mask-rcnn_r50_fpn")
    model.backbone, model.neck.in_channels = _backbone(family, arch)
    return model


def cascade_mask_rcnn(family: str, arch: str) -> dict:
    """With ConvNeXt's heads: four convolutions and one linear layer, a box for each class."""
    model = _config(mmdet, "cascade-mask-rcnn_r50_fpn")
    model.backbone, model.neck.in_channels = _backbone(family, arch)
    for head in model.roi_head.bbox_head:
        head.update(
            type="ConvFCBBoxHead",
            num_shared_convs=4,
            num_shared_fcs=1,
            conv_out_channels=256,
            reg_class_agnostic=False,
            norm_cfg=dict(type="BN"),
        )
    return model


def upernet(family: str, arch: str) -> dict:
    model = _config(mmseg, "upernet_r50")
    model.pretrained = None
    model.backbone, dims = _backbone(family, arch)
    model.decode_head.update(in_channels=dims, num_classes=150)
    model.auxiliary_head.update(in_channels=dims[2], num_classes=150)
    return model


def semantic_fpn(backbone: dict, channels: list[int]) -> dict:
    model = _config(mmseg, "fpn_r50")
    model.pretrained = None
    model.backbone.update(backbone)
    model.neck.in_channels = channels
    model.decode_head.num_classes = 150
    return model
