"""One recipe with any backbone: what changes, what stays, what is refused."""

from __future__ import annotations

import logging

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from recipes import DET, RECIPES, RETINANET, ROOT, SEG, TINY, recipe
from torch import nn

from mmplugins import list_backbones
from mmplugins.engine import SettingError, compose, load_composed
from mmplugins.engine.config import composing
from mmplugins.engine.config.backbone_choice import parse_backbone


def build(cfg: Config, device: str = "meta") -> nn.Module:
    with MODELS.switch_scope_and_registry(cfg.default_scope) as models, torch.device(device):
        return models.build(cfg.model).eval()


def run(model: nn.Module) -> list[tuple[int, ...]]:
    """Shapes of what meets the heads, for an image of 64x96; raises if parts do not fit."""
    image = torch.zeros(1, 3, 64, 96, device="meta")
    maps = model.extract_feat(image)
    for head in ("decode_head", "auxiliary_head"):
        if hasattr(model, head):
            getattr(model, head)(maps)
    return [tuple(x.shape) for x in maps]


@pytest.mark.parametrize(
    ("name", "backbone"),
    [*((name, "caformer_s18") for name in RECIPES), ("upernet", "timm/resnet18")]
    + [("retinanet", "timm/resnet18"), ("mmdet_retinanet", "timm/resnet18")],
)
def test_every_recipe(name, backbone):
    cfg = recipe(name)
    before = cfg.to_dict()
    new = compose(cfg, backbone)
    assert cfg.to_dict() == before, "the given config changed"
    dims = [64, 128, 320, 512] if "caformer" in backbone else [64, 128, 256, 512]
    one_stage = "retinanet" in name
    if "upernet" in name:
        assert new.model.decode_head.in_channels == dims
        assert new.model.auxiliary_head.in_channels == dims[2]
    else:
        assert new.model.neck.in_channels == dims[1 if one_stage else 0 :]
    weights = "metaformer://caformer_s18" if "caformer" in backbone else "timm://resnet18"
    assert new.model.backbone.init_cfg == dict(type="Pretrained", checkpoint=weights)
    assert "mmplugins" in new.custom_imports["imports"]

    model = build(new)
    shapes = run(model)
    first = 8 if one_stage else 4
    assert shapes[0][2:] == (64 // first, 96 // first)
    assert len(shapes) == (4 if cfg.default_scope == "mmseg" else 5)
    # All that is built is used: distributed training stops at parameters without a gradient.
    norms = getattr(model.backbone, "out_norms", {})
    assert list(norms) == (["1", "2", "3"] if one_stage else ["0", "1", "2", "3"]) * bool(norms)


@pytest.mark.parametrize(
    "backbone", [n for n in list_backbones() if n.endswith(("_s12", "_s18", "_t", "_tiny"))]
)
def test_every_family(backbone):
    new = compose(recipe("upernet"), backbone).model
    with torch.device("meta"):
        dims = list(MODELS.build(parse_backbone(backbone)).out_channels)
    assert (new.decode_head.in_channels, new.auxiliary_head.in_channels) == (dims, dims[2])
    assert ("init_cfg" in new.backbone) is (backbone != "smlpnet_t")


@pytest.mark.parametrize("name", ["retinanet", "mmdet_retinanet", "mmseg_upernet"])
def test_a_backbone_of_openmmlab(name):
    new = compose(recipe(name), dict(type="ResNet", depth=18))
    assert new.model.backbone.depth == 18
    assert new.model.backbone.init_cfg.checkpoint == "torchvision://resnet18"
    assert len(run(build(new))) == (4 if "upernet" in name else 5)
    # The same type keeps the recipe's settings, another one does not.
    assert ("norm_eval" in new.model.backbone) is (name == "mmdet_retinanet")


@pytest.mark.parametrize(
    ("name", "in_channels"),
    [
        ("yolo/yolov3_d53_8xb8-320-273e_coco.py", [512, 320, 128]),  # coarsest map first
        ("yolof/yolof_r50-c5_8xb8-1x_coco.py", 512),
        ("detr/detr_r50_8xb2-150e_coco.py", [512]),
        ("fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py", [128, 320, 512]),
    ],
)
def test_other_detectors(name, in_channels):
    assert compose(recipe(DET / name), "caformer_s18").model.neck.in_channels == in_channels


def test_both_conventions_of_retinanet_are_one_neck():
    """mmdet's four maps with start_level=1, ours with three: the same tensors in neck and head."""
    ours, theirs = (compose(recipe(n), "convnext_tiny") for n in ("retinanet", "mmdet_retinanet"))
    assert theirs.model.backbone.out_indices == ours.model.backbone.out_indices == (1, 2, 3)
    assert theirs.model.neck.start_level == 0
    shapes = [{k: v.shape for k, v in build(cfg).state_dict().items()} for cfg in (ours, theirs)]
    assert shapes[0] == shapes[1]

    kept = compose(recipe("retinanet"), dict(type="ConvNeXt", out_indices=(0, 1, 2, 3)))
    assert kept.model.neck.start_level == 1 and kept.model.neck.in_channels == [96, 192, 384, 768]
    assert run(build(kept)) == run(build(ours))


def test_a_neck_named_with_its_scope_is_the_same_neck():
    cfg = recipe("mmdet_retinanet")
    plain = compose(cfg, "caformer_s18").model
    cfg.model.neck.type = "mmdet.FPN"
    assert compose(cfg, "caformer_s18").model == dict(
        plain, neck=dict(plain.neck, type="mmdet.FPN")
    )


def test_what_stays_of_the_recipe():
    cfg = recipe("mask_rcnn")
    cfg.model.backbone.update(
        drop_path_rate=0.4, with_cp=True, in_channels=4, layer_scale=1.0, frozen_stages=2
    )
    cfg.model.backbone.out_norm = "BN"
    kept = dict(drop_path_rate=0.4, with_cp=True, in_channels=4)
    other = compose(cfg, "riformer_s12").model.backbone
    assert other == dict(
        type="RIFormer",
        arch="s12",
        out_indices=(0, 1, 2, 3),
        layer_scale=1.0,
        init_cfg=dict(type="Pretrained", checkpoint="metaformer://riformer_s12"),
        **kept,
    )
    assert "layer_scale" not in compose(cfg, "caformer_s18").model.backbone  # it has none
    same = compose(cfg, "poolformer_s24").model.backbone
    assert (same.arch, same.frozen_stages, same.out_norm, same.layer_scale) == ("s24", 2, "BN", 1.0)
    own = compose(cfg, dict(type="ConvNeXt", drop_path_rate=0.1, with_cp=False)).model.backbone
    assert (own.drop_path_rate, own.with_cp) == (0.1, False)
    resnet = compose(cfg, dict(type="ResNet", depth=18)).model.backbone
    assert resnet.with_cp and resnet.in_channels == 4 and "drop_path_rate" not in resnet


def test_a_setting_that_a_timm_model_refuses_is_left_out(caplog):
    cfg = recipe("mask_rcnn")
    cfg.model.backbone.drop_path_rate = 0.3
    assert compose(cfg, "timm/resnet18").model.backbone.drop_path_rate == 0.3
    with caplog.at_level(logging.WARNING):
        assert "drop_path_rate" not in compose(cfg, "timm/dla34").model.backbone


def test_weights_follow_the_recipe():
    scratch = recipe(ROOT / "configs/retinanet/retinanet_shapes.py")
    assert "init_cfg" not in compose(scratch, "caformer_s18").model.backbone
    own = dict(type="Pretrained", checkpoint="own.pth")
    assert compose(scratch, dict(TINY, init_cfg=own)).model.backbone.init_cfg == own
    given = compose(recipe("retinanet"), dict(type="CAFormer", init_cfg=None)).model.backbone
    assert given.init_cfg is None
    segmentor = compose(recipe("mmseg_upernet"), "poolformer_s12").model
    assert segmentor.pretrained is None
    assert segmentor.backbone.init_cfg.checkpoint == "metaformer://poolformer_s12"


def test_layer_decay_of_openmmlab_becomes_ours():
    cfg = recipe("mmdet_mask_rcnn")
    cfg.optim_wrapper.constructor = "LearningRateDecayOptimizerConstructor"
    cfg.optim_wrapper.paramwise_cfg = dict(decay_rate=0.7, decay_type="stage_wise", num_layers=6)
    new = compose(cfg, "caformer_s18").optim_wrapper
    assert new.constructor == "LayerDecayOptimWrapperConstructor"
    assert new.paramwise_cfg == dict(decay_rate=0.7, decay_type="stage_wise")


def test_inside_of_a_wrapper():
    cfg = recipe("mask_rcnn")
    cfg.model = dict(type="SemiBaseDetector", detector=cfg.model)
    assert compose(cfg, "smlpnet_s").model.detector.neck.in_channels == [96, 192, 384, 768]
    cfg.model.second = cfg.model.detector
    with pytest.raises(SettingError, match=r"at model\.detector, model\.second: expected exactly"):
        compose(cfg, "smlpnet_s")


def test_a_recipe_that_leaves_the_backbone_open():
    cfg = recipe(ROOT / "configs/_base_/models/upernet.py")
    cfg.default_scope = "mmseg"
    assert compose(cfg, "poolformer_m36").model.auxiliary_head.in_channels == 384


@pytest.mark.parametrize(
    ("name", "backbone", "message"),
    [
        ("retinanet", "caformer_s19", "Unknown backbone 'caformer_s19'.*'caformer_s18'"),
        ("retinanet", "timm/resnet5", "no model.*resnet5"),
        ("retinanet", dict(type="Resnet", depth=18), "'Resnet' is not registered.*'ResNet'"),
        (
            "retinanet",
            dict(type="PoolFormer", arch="s13"),
            "Unknown arch 's13'.*expected one of s12",
        ),
        ("retinanet", dict(type="PoolFormer", depht=1), "depht"),
        (
            "mask_rcnn",
            dict(type="CAFormer", out_indices=(1, 2, 3)),
            r"channels \[128, 320, 512\] at strides \[8, 16, 32\].*strides \[4, 8, 16, 32\]"
            r".*its own PoolFormer with channels \[64, 128, 320, 512\]",
        ),
        (
            "upernet",
            dict(type="ResNet", depth=18, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4)),
            r"channels \[64, 128, 256, 512\] at strides \[4, 8, 8, 8\]",
        ),
        (DET / "faster_rcnn/faster-rcnn_r50-caffe_c4-1x_coco.py", "caformer_s18", "shared_head"),
        (
            SEG / "pspnet/pspnet_r50-d8_4xb4-80k_ade20k-512x512.py",
            dict(type="ResNet", depth=18),
            r"\[4, 8, 8, 8\]",
        ),
    ],
)
def test_what_does_not_fit(name, backbone, message):
    with pytest.raises(SettingError, match=message):
        compose(recipe(name), backbone)


def test_load_composed(tmp_path):
    assert "work_dir" not in load_composed(RETINANET, None)
    options = {"model.backbone.drop_path_rate": 0.2, "optim_wrapper.optimizer.lr": 1}
    cfg = load_composed(RETINANET, "timm/resnet18", options)
    assert cfg.work_dir == "work_dirs/retinanet_1x_coco_timm-resnet18"
    assert cfg.model.backbone.drop_path_rate == 0.2 and cfg.optim_wrapper.optimizer.lr == 1
    with pytest.raises(SettingError, match=r"expects in_channels=\[1\]"):
        load_composed(RETINANET, "timm/resnet18", {"model.neck.in_channels": [1]})
    with pytest.raises(SettingError, match=r"param_scheduler\.7.*cannot be merged"):
        load_composed(RETINANET, "timm/resnet18", {"param_scheduler.7.end": 1})


def test_a_config_by_its_path():
    cfg = compose(RETINANET, "caformer_s18")
    assert cfg.to_dict() == compose(recipe("retinanet"), "caformer_s18").to_dict()
    assert compose(str(RETINANET), "caformer_s18").model == cfg.model
    with pytest.raises(SettingError, match="'absent.py' does not exist"):
        compose("absent.py", "caformer_s18")
    with pytest.raises(SettingError, match="config is a NoneType: expected an mmengine Config or"):
        compose(None, "caformer_s18")


def test_a_written_config_is_the_composed_one(tmp_path):
    for name, maps in (("mmdet_retinanet", 5), ("mmseg_upernet", 4)):
        cfg = compose(recipe(name), "randformer_s12")
        path = composing.write_config(cfg, tmp_path / f"{name}.py")
        written = Config.fromfile(path)
        assert written.to_dict() == cfg.to_dict()
        assert len(run(build(written))) == maps
    assert {p.name for p in tmp_path.iterdir()} == {"mmdet_retinanet.py", "mmseg_upernet.py"}
    with pytest.raises(SettingError, match="exists, and nothing is overwritten"):
        composing.write_config(cfg, path)
    with pytest.raises(SettingError, match="ends in .py"):
        composing.write_config(cfg, tmp_path / "a.json")
