"""Detectors and segmentors of a thin PoolFormer, with their config in the checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from PIL import Image

CONFIGS = Path(__file__).parents[2] / "configs"
CLASSES = ("disc", "bar", "cross")
PALETTE = [(220, 20, 60), (0, 130, 200), (60, 180, 75)]
SCALE = (96, 64)

_DATA = f"""
metainfo = dict(classes={CLASSES!r}, palette={PALETTE!r})
"""

_DETECTION = """
test_dataloader = dict(batch_size=1, num_workers=0, dataset=dict(
    type='CocoDataset', ann_file='none.json', data_prefix=dict(img=''), metainfo=metainfo,
    test_mode=True, pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(96, 64), keep_ratio=True),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='PackDetInputs',
             meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
    ]))
visualizer = dict(type='DetLocalVisualizer')
default_scope = 'mmdet'
"""

_SEGMENTATION = """
test_dataloader = dict(batch_size=1, num_workers=0, dataset=dict(
    type='BaseSegDataset', metainfo=metainfo, test_mode=True, pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(96, 64), keep_ratio=True),
        dict(type='LoadAnnotations'),
        dict(type='PackSegInputs'),
    ]))
visualizer = dict(type='SegLocalVisualizer')
default_scope = 'mmseg'
"""

_BACKBONE = "dict(type='PoolFormer', arch=dict(depths=(1, 1, 1, 1), dims=(8, 16, 24, 32))"

_RETINANET = f"""
model = dict(
    backbone={_BACKBONE}, out_indices=(1, 2, 3)),
    neck=dict(in_channels=[16, 24, 32], out_channels=16),
    bbox_head=dict(num_classes=3, in_channels=16, feat_channels=16, stacked_convs=1),
    test_cfg=dict(score_thr=0.3, nms_pre=200),
)
"""

_REGIONS = """
    neck=dict(in_channels=[8, 16, 24, 32], out_channels=16),
    rpn_head=dict(in_channels=16, feat_channels=16),
    test_cfg=dict(rpn=dict(nms_pre=100, max_per_img=60), rcnn=dict(score_thr=0.2)),
"""

_MASKS = """
        bbox_roi_extractor=dict(out_channels=16),
        mask_roi_extractor=dict(out_channels=16),
        mask_head=dict(num_convs=1, in_channels=16, conv_out_channels=16, num_classes=3),
"""

_MASK_RCNN = f"""
model = dict(
    backbone={_BACKBONE}),{_REGIONS}
    roi_head=dict({_MASKS}
        bbox_head=dict(in_channels=16, fc_out_channels=32, num_classes=3)))
"""

_SEMANTIC_FPN = f"""
model = dict(
    data_preprocessor=dict(size=(64, 64)),
    backbone={_BACKBONE}),
    neck=dict(in_channels=[8, 16, 24, 32], out_channels=16),
    decode_head=dict(in_channels=[16] * 4, channels=8, num_classes=3),
)
"""

_CASCADE = f"""
model = dict(
    backbone={_BACKBONE}),{_REGIONS}
    roi_head=dict({_MASKS}
        bbox_head=[
            dict(type='Shared2FCBBoxHead', in_channels=16, fc_out_channels=32, roi_feat_size=7,
                 num_classes=3, reg_class_agnostic=True, bbox_coder=dict(
                     type='DeltaXYWHBBoxCoder', target_means=[0.0] * 4, target_stds=stds))
            for stds in ([0.1, 0.1, 0.2, 0.2], [0.05, 0.05, 0.1, 0.1], [0.03, 0.03, 0.07, 0.07])]))
"""

_FCOS = f"""
model = dict(
    type='FCOS',
    data_preprocessor=dict(type='DetDataPreprocessor', mean=[100.0] * 3, std=[50.0] * 3,
                           pad_size_divisor=32),
    backbone={_BACKBONE}, out_indices=(1, 2, 3)),
    neck=dict(type='FPN', in_channels=[16, 24, 32], out_channels=16, num_outs=5,
              add_extra_convs='on_output', relu_before_extra_convs=True),
    bbox_head=dict(type='FCOSHead', num_classes=3, in_channels=16, feat_channels=16,
                   stacked_convs=1, norm_cfg=dict(type='GN', num_groups=4)),
    test_cfg=dict(nms_pre=200, min_bbox_size=0, score_thr=0.05, max_per_img=100,
                  nms=dict(type='nms', iou_threshold=0.5)),
)
"""

_UPERNET = f"""
model = dict(
    data_preprocessor=dict(size=(64, 64)),
    backbone={_BACKBONE}),
    decode_head=dict(in_channels=[8, 16, 24, 32], channels=8, num_classes=3,
                     norm_cfg=dict(type='BN')),
    auxiliary_head=dict(in_channels=24, channels=8, num_classes=3, norm_cfg=dict(type='BN')),
    test_cfg=dict(mode='slide', crop_size=(48, 48), stride=(32, 32)),
)
"""

_FASTER = f"""
model = dict(
    backbone=dict(_delete_=True, type='PoolFormer',
                  arch=dict(depths=(1, 1, 1, 1), dims=(8, 16, 24, 32))),{_REGIONS}
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=16),
        bbox_head=dict(in_channels=16, fc_out_channels=32, num_classes=3)))
"""

_RECIPES = {
    "faster_rcnn": ("mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco", _DETECTION + _FASTER),
    "cascade_mask_rcnn": ("cascade_mask_rcnn", _DETECTION + _CASCADE),
    "fcos": ("../default_runtime", _DETECTION + _FCOS),
    "upernet": ("upernet", _SEGMENTATION + _UPERNET),
    "retinanet": ("retinanet", _DETECTION + _RETINANET),
    "mask_rcnn": ("mask_rcnn", _DETECTION + _MASK_RCNN),
    "semantic_fpn": ("semantic_fpn", _SEGMENTATION + _SEMANTIC_FPN),
}


def config_of(recipe: str, folder: Path) -> Path:
    """Write the config file of a recipe."""
    base, text = _RECIPES[recipe]
    path = folder / f"{recipe}.py"
    base = base if "::" in base else str(CONFIGS / "_base_/models" / base)
    path.write_text(f"_base_ = {base + '.py'!r}\n{_DATA}{text}")
    return path


def checkpoint_of(config: Path, name: str = "model.pth", seed: int = 0) -> Path:
    """Write a checkpoint with random weights, its config and its classes in it."""
    cfg = Config.fromfile(config)
    torch.manual_seed(seed)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
        if hasattr(model, "decode_head"):  # of fresh ones all pixels have one class
            torch.nn.init.normal_(model.decode_head.conv_seg.weight)
    meta = dict(cfg=cfg.pretty_text, dataset_meta=dict(classes=CLASSES, palette=PALETTE))
    path = config.with_name(name)
    torch.save(dict(state_dict=model.state_dict(), meta=meta), path)
    return path


def picture(path: Path, size: tuple[int, int] = (72, 108), seed: int = 0) -> Path:
    """Write a picture of random patches, height and width given."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (size[0] // 6 + 1, size[1] // 6 + 1, 3), np.uint8)
    big = small.repeat(6, 0).repeat(6, 1)[: size[0], : size[1]]
    Image.fromarray(big).save(path)
    return path
