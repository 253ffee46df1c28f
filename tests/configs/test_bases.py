"""The bases are the published settings: against mmdet's and mmseg's files, and the tables."""

from __future__ import annotations

import pytest
from config_tree import CONFIGS, LEAVES, MMDET, MMSEG, outline, read
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper

from mmplugins.engine.compiling import TORCH_2_4


def load(path):
    return Config.fromfile(path, import_custom_modules=False)  # theirs ask for mmpretrain


def model(path):
    return load(path).model


def ours(name):
    return model(CONFIGS / "_base_/models" / name)


def test_retinanet_is_mmdets():
    mine, theirs = ours("retinanet.py"), model(MMDET / "_base_/models/retinanet_r50_fpn.py")
    for part in ("data_preprocessor", "bbox_head", "train_cfg", "test_cfg"):
        assert mine[part] == theirs[part], part
    # They leave stride 4 out in the neck (start_level=1), we in the backbone (out_indices).
    neck = {k: v for k, v in theirs.neck.items() if k not in ("in_channels", "start_level")}
    assert mine.neck == neck and theirs.neck.start_level == mine.backbone.out_indices[0]


def test_mask_rcnn_is_mmdets():
    mine, theirs = ours("mask_rcnn.py"), model(MMDET / "_base_/models/mask-rcnn_r50_fpn.py")
    for part in ("data_preprocessor", "rpn_head", "roi_head", "train_cfg", "test_cfg"):
        assert mine[part] == theirs[part], part
    assert dict(mine.neck, in_channels=theirs.neck.in_channels) == theirs.neck


def test_cascade_mask_rcnn_is_mmdets_with_the_heads_of_convnext():
    (path,) = (MMDET / "convnext").glob("cascade-mask-rcnn_convnext-t*.py")
    mine, theirs = ours("cascade_mask_rcnn.py"), model(path)
    for part in ("type", "data_preprocessor", "rpn_head", "roi_head", "train_cfg", "test_cfg"):
        assert mine[part] == theirs[part], part


def test_semantic_fpn_is_mmsegs():
    mine, theirs = ours("semantic_fpn.py"), model(MMSEG / "_base_/models/fpn_r50.py")
    for part in ("type", "data_preprocessor", "train_cfg", "test_cfg"):
        assert mine[part] == theirs[part], part
    assert mine.decode_head == dict(theirs.decode_head, num_classes=150)
    assert dict(mine.neck, in_channels=theirs.neck.in_channels) == theirs.neck


@pytest.mark.parametrize(
    ("leaf", "theirs"),
    [
        ("tiny_160k_ade20k", "tiny_upernet_8xb2-amp-160k_ade20k-512x512"),
        ("xlarge-in21k_160k_ade20k-640x640", "xlarge_upernet_8xb2-amp-160k_ade20k-640x640"),
    ],
)
def test_upernet_is_mmsegs(leaf, theirs):
    cfg = read(f"convnext/upernet_convnext-{leaf}.py")
    official = load(MMSEG / f"convnext/convnext-{theirs}.py")
    for part in ("type", "data_preprocessor", "decode_head", "auxiliary_head", "test_cfg"):
        assert cfg.model[part] == official.model[part], part
    assert cfg.param_scheduler == official.param_scheduler
    # One kernel for all parameters computes the same: tests/engine/test_layer_decay.py.
    assert cfg.optim_wrapper.optimizer == dict(official.optim_wrapper.optimizer, fused=True)
    kind = {k: official.optim_wrapper.paramwise_cfg[k] for k in ("decay_rate", "decay_type")}
    assert cfg.optim_wrapper.paramwise_cfg == kind
    assert cfg.train_dataloader.batch_size == official.train_dataloader.batch_size == 2
    pipelines = cfg.train_pipeline, official.train_pipeline
    for mine, other in zip(*pipelines, strict=True):
        other.pop("reduce_zero_label", None)  # ours stands in the data set
        assert mine == other
    assert cfg.train_dataloader.dataset.pipeline == cfg.train_pipeline
    assert cfg.test_pipeline[1] == official.test_pipeline[1]


def test_multi_scale_crops_are_mmdets():
    (path,) = (MMDET / "convnext").glob("mask-rcnn_convnext-t*.py")
    cfg = read("mask_rcnn/mask-rcnn_ms-crop-3x_coco.py")
    official = load(path)
    assert cfg.train_dataloader.dataset.pipeline == official.train_dataloader.dataset.pipeline
    assert cfg.test_dataloader.dataset.pipeline[1].scale == (1333, 800)
    assert cfg.param_scheduler[1] == official.param_scheduler[1]
    # mmdet warms up for 1000 steps, the authors for 500.
    assert cfg.param_scheduler[0] == dict(official.param_scheduler[0], end=500)


@pytest.mark.parametrize("name", [n for n in LEAVES if n.endswith("_1x_coco.py")])
def test_1x(name):
    """The figures of PVT's and PoolFormer's released configs, and mmdet's SGD for the ResNets."""
    cfg = read(name)
    two_stages = "mask-rcnn" in name
    warm_up, steps = cfg.param_scheduler
    assert (warm_up.start_factor, warm_up.end, warm_up.by_epoch) == (0.001, 500, False)
    assert (steps.milestones, steps.gamma, cfg.train_cfg.max_epochs) == ([8, 11], 0.1, 12)
    assert cfg.auto_scale_lr.base_batch_size == 8 * cfg.train_dataloader.batch_size == 16
    assert cfg.model.data_preprocessor.pad_size_divisor == 32
    optimizer = dict(type="AdamW", lr=2e-4 if two_stages else 1e-4, weight_decay=1e-4, fused=True)
    if name.startswith("resnet/"):
        lr = 0.02 if two_stages else 0.01
        optimizer = dict(type="SGD", lr=lr, momentum=0.9, weight_decay=1e-4, fused=True)
    assert cfg.optim_wrapper == dict(type="OptimWrapper", optimizer=optimizer)
    # The authors' PVT is the exception.
    drop_path = 0.1 if name.startswith("pvt/") else 0
    assert cfg.model.backbone.get("drop_path_rate", 0) == drop_path


@pytest.mark.parametrize("name", [n for n in LEAVES if n.endswith("_40k_ade20k.py")])
def test_40k(name):
    cfg = read(name)
    (poly,) = cfg.param_scheduler
    assert (poly.type, poly.power, poly.end, poly.eta_min) == ("PolyLR", 0.9, 40000, 0.0)
    assert cfg.train_cfg.max_iters == 40000
    assert cfg.auto_scale_lr.base_batch_size == 8 * cfg.train_dataloader.batch_size == 32
    optimizer = dict(type="AdamW", lr=2e-4, weight_decay=1e-4, fused=True)
    if name.startswith("resnet/"):
        optimizer = dict(type="SGD", lr=0.02, momentum=0.9, weight_decay=5e-4, fused=True)
    assert cfg.optim_wrapper == dict(type="OptimWrapper", optimizer=optimizer)
    assert cfg.model.data_preprocessor.size == (512, 512)
    assert cfg.model.test_cfg.mode == "whole"
    # The authors' PVT is the exception.
    drop_path = 0.1 if name.startswith("pvt/") else 0
    assert cfg.model.backbone.get("drop_path_rate", 0) == drop_path


def test_80k():
    cfg = read("semantic_fpn/semantic-fpn_80k_ade20k.py")
    adamw = dict(type="AdamW", lr=1e-4, weight_decay=1e-4, fused=True)
    assert cfg.optim_wrapper.optimizer == adamw
    assert cfg.param_scheduler[0].end == cfg.train_cfg.max_iters == 80000
    assert cfg.auto_scale_lr.base_batch_size == 8 * cfg.train_dataloader.batch_size == 16


CONVNEXT = {  # drop path, rate, decay of the authors' released configs
    "mask-rcnn_convnext-tiny_fpn_ms-crop-3x_coco": (0.4, 1e-4, 0.95),
    "cascade-mask-rcnn_convnext-tiny_fpn_ms-crop-3x_coco": (0.4, 2e-4, 0.7),
    "cascade-mask-rcnn_convnext-small_fpn_ms-crop-3x_coco": (0.6, 2e-4, 0.7),
    "cascade-mask-rcnn_convnext-base_fpn_ms-crop-3x_coco": (0.7, 2e-4, 0.8),
    "cascade-mask-rcnn_convnext-base-in21k_fpn_ms-crop-3x_coco": (0.6, 1e-4, 0.8),
    "cascade-mask-rcnn_convnext-large-in21k_fpn_ms-crop-3x_coco": (0.7, 1e-4, 0.7),
    "cascade-mask-rcnn_convnext-xlarge-in21k_fpn_ms-crop-3x_coco": (0.8, 1e-4, 0.7),
    "upernet_convnext-tiny_160k_ade20k": (0.4, 1e-4, 0.9),
    "upernet_convnext-small_160k_ade20k": (0.3, 1e-4, 0.9),
    "upernet_convnext-base_160k_ade20k": (0.4, 1e-4, 0.9),
    "upernet_convnext-base-in21k_160k_ade20k-640x640": (0.4, 1e-4, 0.9),
    "upernet_convnext-large-in21k_160k_ade20k-640x640": (0.4, 1e-4, 0.9),
    "upernet_convnext-xlarge-in21k_160k_ade20k-640x640": (0.4, 8e-5, 0.9),
}


@pytest.mark.parametrize("name", CONVNEXT)
def test_convnext(name):
    cfg = read(f"convnext/{name}.py")
    drop_path, lr, rate = CONVNEXT[name]
    assert cfg.model.backbone.drop_path_rate == drop_path
    adamw = dict(type="AdamW", lr=lr, betas=(0.9, 0.999), weight_decay=0.05, fused=True)
    assert cfg.optim_wrapper.optimizer == adamw
    assert cfg.optim_wrapper.constructor == "LayerDecayOptimWrapperConstructor"
    kind = "stage_wise" if name.startswith("upernet") else "layer_wise"
    assert cfg.optim_wrapper.paramwise_cfg == dict(decay_rate=rate, decay_type=kind)
    assert cfg.auto_scale_lr.base_batch_size == 8 * cfg.train_dataloader.batch_size == 16


@pytest.mark.parametrize("family", ["convformer", "caformer"])
@pytest.mark.parametrize(("arch", "twin"), [("s18", "tiny"), ("s36", "small"), ("m36", "base")])
@pytest.mark.parametrize(
    "head", ["cascade-mask-rcnn_{}_fpn_ms-crop-3x_coco", "upernet_{}_160k_ade20k"]
)
def test_convformer_and_caformer_have_convnexts_settings(family, arch, twin, head):
    mine = read(f"{family}/{head.format(f'{family}-{arch}')}.py")
    theirs = read(f"convnext/{head.format(f'convnext-{twin}')}.py")
    assert mine.optim_wrapper == theirs.optim_wrapper
    assert mine.param_scheduler == theirs.param_scheduler
    assert mine.model.backbone.drop_path_rate == theirs.model.backbone.drop_path_rate


@pytest.mark.parametrize(
    "name",
    [
        "convnext/cascade-mask-rcnn_convnext-tiny_fpn_ms-crop-3x_coco.py",
        "caformer/upernet_caformer-s18_160k_ade20k.py",
    ],
)
def test_layer_decay(name):
    """The rate falls towards the stem, and vectors do not decay."""
    cfg, model = read(name), outline(name)
    if TORCH_2_4:  # it fuses no parameters of an outline
        cfg.optim_wrapper.optimizer.fused = False
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    rates = {}
    for parameter_name, parameter in model.named_parameters():
        group = groups[id(parameter)]
        assert group["weight_decay"] == (0.05 if parameter.ndim > 1 else 0), parameter_name
        rates[".".join(parameter_name.split(".")[:2])] = group["lr"]
    lr, rate = cfg.optim_wrapper.optimizer.lr, cfg.optim_wrapper.paramwise_cfg.decay_rate
    assert rates["backbone.stem"] == pytest.approx(lr * rate**7)  # 8 layers, by either rule
    last = "decode_head.conv_seg" if "decode_head" in cfg.model else "rpn_head.rpn_cls"
    assert rates[last] == lr
