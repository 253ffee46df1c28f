"""Whether neck and heads are made for what the backbone puts out."""

from __future__ import annotations

import pytest
from mmengine.config import Config
from recipes import DET, SEG, recipe

from mmplugins.engine import SettingError, check_fit


@pytest.mark.parametrize(
    ("name", "place", "value", "message"),
    [
        (
            "retinanet",
            "neck.in_channels",
            [64, 128, 320, 512],
            r"neck=FPN expects in_channels=\[64, 128, 320, 512\], but model\.backbone=PoolFormer "
            r"puts out channels \[128, 320, 512\] at strides \[8, 16, 32\]",
        ),
        ("retinanet", "backbone.out_indices", (0, 1, 2), r"\[64, 128, 320\] at strides \[4, 8, 16"),
        ("retinanet", "bbox_head.in_channels", 128, r"bbox_head\.in_channels is 128.*expected 256"),
        (
            "retinanet",
            "neck.start_level",
            1,
            r"anchor_generator\.strides is \[8, 16, 32, 64, 128\]",
        ),
        ("mmdet_mask_rcnn", "neck.num_outs", 3, "num_outs=3.*all that are used must be put out"),
        # Each level doubles the stride: to count up to such a number fills the memory.
        ("mmdet_mask_rcnn", "neck.num_outs", 1e308, r"num_outs=1e\+308: expected a whole number"),
        ("mmdet_mask_rcnn", "neck.num_outs", 10**12, "num_outs=10{12}: .* of at most 32"),
        ("mmdet_mask_rcnn", "neck.num_outs", None, "num_outs=None: expected a whole number"),
        (
            "mask_rcnn",
            "roi_head.mask_roi_extractor.featmap_strides",
            [8, 16, 32],
            r"mask_roi_extractor\.featmap_strides is \[8, 16, 32\].*\[4, 8, 16, 32, 64\]",
        ),
        ("upernet", "decode_head.in_channels", [1, 2, 3, 4], r"UPerHead expects .*\[1, 2, 3, 4\]"),
        ("upernet", "auxiliary_head.in_index", 4, r"in_index=4.*4 maps"),
        ("upernet", "auxiliary_head.in_channels", 512, r"FCNHead expects in_channels=512 .*=320"),
        ("semantic_fpn", "decode_head.feature_strides", [8, 16, 32, 64], r"set .*\[4, 8, 16, 32\]"),
        ("semantic_fpn", "decode_head.in_channels", [128] * 4, r"\[256, 256, 256, 256\]"),
    ],
)
def test_check_fit(name, place, value, message):
    cfg = recipe(name)
    check_fit(cfg)
    cfg.merge_from_dict({f"model.{place}": value})
    with pytest.raises(SettingError, match=message):
        check_fit(cfg)


def test_check_fit_has_nothing_to_say_about_other_models():
    assert check_fit(Config(dict(model=dict(type="YOLOX")))) is None
    assert check_fit(Config(dict(train_cfg=dict()))) is None


@pytest.mark.parametrize(
    "path",
    [
        DET / "yolo/yolov3_d53_8xb8-320-273e_coco.py",
        DET / "detectors/cascade-rcnn_r50-rfp_1x_coco.py",
        DET / "scnet/scnet_r50_fpn_1x_coco.py",
        SEG / "mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py",
        SEG / "beit/beit-base_upernet_8xb2-160k_ade20k-640x640.py",
    ],
)
def test_check_fit_passes_unusual_configs_of_openmmlab(path):
    """A neck that counts backwards, one that skips a map, an odd extractor, a head
    that takes all maps, one image size only."""
    assert check_fit(recipe(path)) is None


@pytest.mark.parametrize("channels", [[64, 128, 320], [128, 320, 512]])
def test_a_neck_of_ones_own_may_take_the_first_or_the_last_maps(channels):
    cfg = recipe("mask_rcnn")
    cfg.model.neck = dict(type="OwnNeck", in_channels=channels)
    assert check_fit(cfg) is None
    cfg.model.neck.in_channels = [64, 320, 512]
    with pytest.raises(SettingError, match=r"OwnNeck expects in_channels=\[64, 320, 512\]"):
        check_fit(cfg)
