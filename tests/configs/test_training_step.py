"""A step of training of each task, on a CPU, where every parameter gets a gradient.

Distributed training stops at a parameter without one.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from config_tree import build, read
from mmengine.structures import InstanceData, PixelData

SIDE = 64
NARROW_BOX_HEAD = dict(conv_out_channels=32, fc_out_channels=32)


def detection_sample():
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    mask = np.zeros((1, SIDE, SIDE), np.uint8)
    mask[:, 8:40, 8:40] = 1
    sample = DetDataSample(
        gt_instances=InstanceData(
            bboxes=torch.tensor([[8.0, 8, 40, 40]]),
            labels=torch.tensor([1]),
            masks=BitmapMasks(mask, SIDE, SIDE),
        )
    )
    size = (SIDE, SIDE)
    sample.set_metainfo(dict(img_shape=size, pad_shape=size, batch_input_shape=size))
    sample.set_metainfo(dict(ori_shape=size, scale_factor=(1.0, 1.0), img_id=0))
    return sample


def semantic_sample():
    from mmseg.structures import SegDataSample

    sample = SegDataSample(metainfo=dict(img_shape=(SIDE, SIDE), ori_shape=(SIDE, SIDE)))
    sample.gt_sem_seg = PixelData(data=torch.randint(0, 4, (1, SIDE, SIDE)))
    return sample


def few_regions(cfg):
    for key, value in cfg.items():
        if key in ("num", "max_per_img", "nms_pre"):
            cfg[key] = 16
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict):
                few_regions(each)


@pytest.mark.parametrize(
    "name",
    [
        "poolformer/retinanet_poolformer-s12_fpn_1x_coco.py",
        "poolformer/retinanet_poolformer-s12_fpn_shapes.py",
        "poolformer/mask-rcnn_poolformer-s12_fpn_1x_coco.py",
        "poolformer/mask-rcnn_poolformer-s12_fpn_shapes.py",
        "cascade_mask_rcnn/cascade-mask-rcnn_ms-crop-3x_coco.py",
        "poolformer/semantic-fpn_poolformer-s12_40k_ade20k.py",
        "poolformer/semantic-fpn_poolformer-s12_shapes.py",
        "upernet/upernet_160k_ade20k.py",
    ],
)
def test_every_parameter_gets_a_gradient(name):
    torch.manual_seed(0)
    cfg = read(name)
    # Shallow and narrow, to be quick; of the recipe's form all the same.
    cfg.model.backbone.arch = dict(depths=(1, 1, 1, 1), dims=(64, 128, 320, 512))
    boxes = cfg.model.get("roi_head", {}).get("bbox_head", [])
    for head in boxes if isinstance(boxes, list) else [boxes]:
        head.update(NARROW_BOX_HEAD)
    for stage in ("train_cfg", "test_cfg"):
        few_regions(cfg.model.get(stage) or {})
    if cfg.default_scope == "mmseg":
        cfg.model.decode_head.channels = 32
    model = build(cfg).train()
    sample = semantic_sample if cfg.default_scope == "mmseg" else detection_sample
    images = torch.randn(2, 3, SIDE, SIDE)
    losses = model(images, [sample(), sample()], mode="loss")
    total, _ = model.parse_losses(losses)
    total.backward()
    assert total.isfinite()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []
    model.eval()
    with torch.no_grad():
        assert len(model(images, [sample(), sample()], mode="predict")) == 2
