"""Models that take a backbone's channels elsewhere than in a neck, and those that cannot."""

from __future__ import annotations

import pytest
import torch
from mmdet.testing import demo_mm_inputs
from mmengine.registry import MODELS, init_default_scope
from recipes import TINY, learnt_segmentor, without_gradient

from mmplugins.engine import SettingError, compose
from mmplugins.engine.config.joints import pyramids_have
from mmplugins.engine.config.settings import load_config

COMPOSED = {
    "faster_rcnn/faster-rcnn_r50-caffe-dc5_1x_coco.py": (16,),
    "centernet/centernet_r18_8xb16-crop512-140e_coco.py": (32,),
    "ssd/ssd300_coco.py": (8, 16),
    "ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py": (16, 32),
    "nas_fpn/retinanet_r50_nasfpn_crop640-50e_coco.py": (8, 16, 32),
    "nas_fcos/nas-fcos_r50-caffe_fpn_fcoshead-gn-head_4xb4-1x_coco.py": (4, 8, 16, 32),
    "mask2former/mask2former_r50_8xb2-lsj-50e_coco.py": (4, 8, 16, 32),
    "maskformer/maskformer_r50_ms-16xb1-75e_coco.py": (4, 8, 16, 32),
}
FASTFCN = "fastfcn/fastfcn_r50-d32_jpu_aspp_4xb2-80k_cityscapes-512x1024.py"
REFUSED = {
    "mmdet::faster_rcnn/faster-rcnn_r50-caffe_c4-1x_coco.py": "shared_head=ResLayer",
    "mmdet::detectors/detectors_cascade-rcnn_r50_1x_coco.py": "rfp_backbone",
    "mmseg::pidnet/pidnet-l_2xb6-120k_1024x1024-cityscapes.py": "decode_head=PIDHead",
    "mmseg::stdc/stdc1_4xb12-80k_cityscapes-512x1024.py": "backbone=STDCContextPathNet",
    "mmseg::icnet/icnet_r101-d8-in1k-pre_4xb2-160k_cityscapes-832x832.py": "backbone=ICNet",
    "mmseg::dpt/dpt_vit-b16_8xb2-160k_ade20k-512x512.py": "decode_head=DPTHead",
    "mmseg::setr/setr_vit-l_naive_8xb2-160k_ade20k-512x512.py": "a plain transformer has",
    "mmseg::bisenetv2/bisenetv2_fcn_4xb4-160k_cityscapes-1024x1024.py": "branches of its own",
    "mmseg::fastscnn/fast_scnn_8xb4-160k_cityscapes-512x1024.py": "branches of its own",
    "mmseg::unet/unet-s5-d16_deeplabv3_4xb4-40k_drive-64x64.py": "a network with a decoder",
}


@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param(
            name,
            id=name.split("/")[1][:20],
            marks=[pytest.mark.slow] if name.startswith(("nas_", "maskformer")) else [],
        )
        for name in COMPOSED
    ],
)
def test_composed(recipe):
    cfg = compose(f"mmdet::{recipe}", TINY)
    init_default_scope("mmdet")
    cfg.model.data_preprocessor.pop("batch_augments", None)
    model = MODELS.build(cfg.model)
    assert model.backbone.out_strides == COMPOSED[recipe]
    panoptic = "panoptic_head" in cfg.model
    side = 300 if "ssd300" in recipe else 128
    batch = demo_mm_inputs(
        2, [(3, side, side)] * 2, num_items=[2, 3], with_mask=panoptic, with_semantic=panoptic
    )
    for sample in batch["data_samples"] if panoptic else ():
        sample.gt_sem_seg.sem_seg = sample.gt_sem_seg.sem_seg.long()
    data = model.data_preprocessor(batch, True)
    loss, _ = model.parse_losses(model(**data, mode="loss"))
    loss.backward()
    unused = without_gradient(model.backbone)
    assert bool(unused) is cfg.get("find_unused_parameters", False), unused
    with torch.no_grad():
        assert len(model.eval()(**data, mode="predict")) == 2


@pytest.mark.parametrize("recipe", REFUSED, ids=lambda name: name.split("/")[0][7:])
def test_refused_with_the_reason(recipe):
    with pytest.raises(SettingError, match=REFUSED[recipe]):
        compose(recipe, TINY)


@pytest.mark.parametrize(("start", "strides"), [(0, (8, 16, 32)), (1, (16, 32))])
def test_a_jpu_passes_maps_on(start, strides):
    recipe = load_config(f"mmseg::{FASTFCN}")
    recipe.model.neck.start_level = start
    if start:
        recipe.model.decode_head.in_index = -1
        recipe.model.auxiliary_head.in_index = 0
    cfg = compose(recipe, TINY)
    model = learnt_segmentor(cfg)
    assert model.backbone.out_strides == strides
    assert cfg.model.auxiliary_head.in_channels == model.backbone.out_channels[-2] == 24
    assert cfg.model.decode_head.in_channels == 2048
    assert without_gradient(model) == []


@pytest.mark.parametrize(
    ("strides", "possible"),
    [
        ([4, 8, 16, 32], True),
        ([8, 8], True),
        ([4, 8, 8, 8], True),
        ([16], True),
        ([8, 16, 16], True),
        ([16, 16, 16, 16], False),
        ([8, 4, 8, 16, 32], False),
        ([2, 4, 8], False),
        ([32, 16, 8], False),
    ],
)
def test_which_maps_a_pyramid_has(strides, possible):
    assert pyramids_have(strides) is possible


def test_a_detector_without_neck_takes_one_map():
    recipe = "mmdet::faster_rcnn/faster-rcnn_r50-caffe-dc5_1x_coco.py"
    with pytest.raises(SettingError, match="recipe is made for feature maps of strides"):
        compose(recipe, TINY | dict(out_indices=(2, 3)))
