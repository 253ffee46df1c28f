"""Healthy configs of the three tasks, small enough to be checked within half a second."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
from breaking import SPEC, point_at
from mmengine.config import Config

from mmplugins.datasets import make_shapes

BASES = Path(__file__).parents[2] / "configs" / "_base_"
TINY = dict(type="PoolFormer", arch=dict(depths=(1, 1, 1, 1), dims=(8, 16, 24, 32)))

RETINANET = dict(
    backbone=TINY,
    neck=dict(in_channels=[16, 24, 32], out_channels=16),
    bbox_head=dict(num_classes=4, in_channels=16, feat_channels=16, stacked_convs=1),
)
MASK_RCNN = dict(
    backbone=TINY,
    neck=dict(in_channels=[8, 16, 24, 32], out_channels=16),
    rpn_head=dict(in_channels=16, feat_channels=16),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=16),
        bbox_head=dict(in_channels=16, fc_out_channels=32, num_classes=4),
        mask_roi_extractor=dict(out_channels=16),
        mask_head=dict(in_channels=16, conv_out_channels=16, num_convs=1, num_classes=4),
    ),
)
SEMANTIC_FPN = dict(
    data_preprocessor=dict(size=(64, 64)),
    backbone=TINY,
    neck=dict(in_channels=[8, 16, 24, 32], out_channels=16),
    decode_head=dict(in_channels=[16] * 4, channels=16, num_classes=4),
)


@pytest.fixture(scope="session")
def shapes(tmp_path_factory) -> Path:
    """The pictures that all configs train on; nobody writes there."""
    return make_shapes(tmp_path_factory.mktemp("preflight") / "shapes", **SPEC)


def _config(shapes: Path, kind: str, model: str, changes: dict, runtime: str) -> Config:
    parts = (f"datasets/shapes_{kind}.py", f"models/{model}.py", f"{runtime}_runtime.py")
    cfg = Config()
    for part in parts:
        cfg.merge_from_dict(Config.fromfile(BASES / part).to_dict())
    cfg.merge_from_dict(dict(model=deepcopy(changes)))
    point_at(cfg, shapes)
    cfg.optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=1e-3))
    cfg.val_cfg = cfg.test_cfg = dict()
    return cfg


def _detection(shapes: Path, kind: str, model: str, changes: dict) -> Config:
    cfg = _config(shapes, kind, model, changes, "detection")
    cfg.train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=12, val_interval=1)
    cfg.param_scheduler = [
        dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=6),
        dict(type="MultiStepLR", by_epoch=True, begin=0, end=12, milestones=[8, 11]),
    ]
    return cfg


@pytest.fixture(scope="session")
def healthy(shapes) -> dict[str, Config]:
    """By name; tests change copies."""
    semantic = _config(shapes, "semantic", "semantic_fpn", SEMANTIC_FPN, "segmentation")
    semantic.default_hooks.checkpoint.interval = 20
    semantic.train_cfg = dict(type="IterBasedTrainLoop", max_iters=40, val_interval=20)
    semantic.param_scheduler = [
        dict(type="PolyLR", by_epoch=False, begin=0, end=40, power=0.9, eta_min=0.0)
    ]
    return dict(
        retinanet=_detection(shapes, "detection", "retinanet", RETINANET),
        mask_rcnn=_detection(shapes, "instance", "mask_rcnn", MASK_RCNN),
        semantic_fpn=semantic,
    )
