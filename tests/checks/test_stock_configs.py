"""Every config that mmdet and mmseg bring along passes the checks that need no data.

What mmengine itself builds must not be refused. Parts that it does not build, for want of a package
or because the file is broken, may be, and are built here again without any check to tell.
"""

from __future__ import annotations

from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path

import mmdet
import mmseg
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, METRICS, MODELS, DefaultScope
from torch import nn

from mmplugins.checks import failures, preflight
from mmplugins.utils import listed

ROOTS = {m.__name__: Path(m.__file__).parent / ".mim" / "configs" for m in (mmdet, mmseg)}

KINDS = {
    "mmdet": (
        "yolox/yolox_tiny_8xb8-300e_coco.py",  # a wrapped data set
        "rtmdet/rtmdet-ins_tiny_8xb32-300e_coco.py",  # masks without a mask_head
        "mask2former/mask2former_r50_8xb2-lsj-50e_coco.py",
        "panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py",
        "detr/detr_r50_8xb2-150e_coco.py",  # a loss that its head takes apart
        "fpg/retinanet_r50_fpg-chn128_crop640_50e_coco.py",  # dicts with a type of their own
        "cascade_rpn/cascade-rpn_faster-rcnn_r50-caffe_fpn_1x_coco.py",
        "ddq/ddq-detr-4scale_r50_8xb2-12e_coco.py",
        "dyhead/atss_r50_fpn_dyhead_1x_coco.py",
        "faster_rcnn/faster-rcnn_r50-caffe-c4_ms-1x_coco.py",  # a head shared between
        "soft_teacher/soft-teacher_faster-rcnn_r50-caffe_fpn_180k_semi-0.1-coco.py",
        "openimages/ssd300_32xb8-36e_openimages.py",
        "lvis/mask-rcnn_r50_fpn_sample1e-3_ms-1x_lvis-v1.py",
        "dsdl/voc0712.py",  # sampler=None
        "cityscapes/faster-rcnn_r50_fpn_1x_cityscapes.py",
        "htc/htc_r50_fpn_1x_coco.py",
        "pvt/retinanet_pvtv2-b0_fpn_1x_coco.py",
        "yolo/yolov3_mobilenetv2_8xb24-320-300e_coco.py",
    ),
    "mmseg": (
        "maskformer/maskformer_r50-d32_8xb2-160k_ade20k-512x512.py",  # in_index that is not read
        "mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py",
        "ocrnet/ocrnet_hr18s_4xb2-40k_cityscapes-512x1024.py",  # a cascade
        "pidnet/pidnet-s_2xb6-120k_1024x1024-cityscapes.py",
        "segnext/segnext_mscan-t_1xb16-adamw-160k_ade20k-512x512.py",
        "stdc/stdc1_4xb12-80k_cityscapes-512x1024.py",
        "icnet/icnet_r18-d8_4xb2-80k_cityscapes-832x832.py",
        "point_rend/pointrend_r50_4xb2-80k_cityscapes-512x1024.py",
        "sem_fpn/fpn_r50_4xb4-160k_ade20k-512x512.py",
        "unet/unet-s5-d16_fcn_4xb4-40k_chase-db1-128x128.py",
        "segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py",
        "knet/knet-s3_r50-d8_fcn_8xb2-adamw-80k_ade20k-512x512.py",
    ),
}


def all_files(package):
    files = sorted(f for f in ROOTS[package].rglob("*.py") if "_base_" not in f.parts)
    return [str(f.relative_to(ROOTS[package])) for f in files]


@pytest.fixture(autouse=True)
def weights_of_zero(monkeypatch):
    """Values of weights are of no interest here, and drawing them takes most of the time."""

    def zero(module):
        for parameter in module.parameters(recurse=False):
            parameter.data.zero_()

    for cls in (nn.Linear, nn.modules.conv._ConvNd, nn.Embedding):
        monkeypatch.setattr(cls, "reset_parameters", zero)


def builds(cfg, entry):
    """Whether OpenMMLab builds what an entry names; annotations are not there to be read."""
    scope = cfg.get("default_scope") or "mmengine"
    phase, _, part = entry.partition("_")
    if part in ("dataloader", "cfg", "evaluator") and cfg.get(entry) is None:
        return not any(cfg.get(f"{phase}_{other}") for other in ("dataloader", "cfg", "evaluator"))
    with DefaultScope.overwrite_default_scope(scope):
        if entry == "train_cfg":  # as mmengine's runner decides
            return not {"type", "by_epoch"} <= set(cfg.train_cfg)
        if entry == "model":
            return is_built(MODELS, cfg.model)
        if entry.endswith("_dataloader"):
            return is_built(DATASETS, lazy(deepcopy(cfg[entry].dataset)))
        if entry.endswith("_evaluator"):
            given = cfg[entry]
            given = given.get("metrics", given) if isinstance(given, dict) else given
            return all(is_built(METRICS, one) for one in listed(given))
    if entry == "visualizer":  # which imports the package of a logger when the training starts
        return "Wandb" not in str(cfg.visualizer) or find_spec("wandb") is not None
    return True


def is_built(registry, cfg):
    try:
        registry.build(deepcopy(cfg))
    except OSError:  # of data that are not there
        return registry is not MODELS
    except Exception:  # constructors raise what they like
        return False
    return True


def lazy(dataset):
    for inner in (dataset.get("dataset"), *(dataset.get("datasets") or ())):
        if inner:
            lazy(inner)
    if "dataset" not in dataset and "datasets" not in dataset:
        dataset.lazy_init = True
    return dataset


def check(package, name):
    try:
        cfg = Config.fromfile(ROOTS[package] / name)
    except Exception as error:  # files of the release that name others which are not in it
        pytest.skip(f"does not load: {type(error).__name__}")
    if cfg.get("model") is None or cfg.get("train_cfg") is None:
        pytest.skip("is not a whole config of a training")
    results = preflight(cfg, data=False)
    refused = {r.message.split(".")[0].split(":")[0].split("[")[0] for r in failures(results)}
    wrongly = [entry for entry in refused if builds(cfg, entry)]
    assert wrongly == [], [str(r) for r in failures(results)]
    claims = [r.message for r in results if "read" in r.message and r.status == "ok"]
    assert not any("pictures read" in claim for claim in claims)


@pytest.mark.parametrize(("package", "name"), [(p, n) for p in KINDS for n in KINDS[p]])
def test_configs_of_every_kind_pass(package, name):
    check(package, name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "name"), [(p, n) for p in ROOTS for n in all_files(p) if n not in KINDS[p]]
)
def test_all_configs_pass(package, name):
    check(package, name)
