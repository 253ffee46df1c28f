"""Configs that train but are hardly meant: one warning, which names the value and what to do."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
import torch
from breaking import GONE, changed, faults
from mmengine.config import Config
from mmengine.registry import MODELS

from mmplugins.checkpoint import save_weights
from mmplugins.checks import memory, preflight
from mmplugins.checks.inspection import NotRun
from mmplugins.checks.weights import check_weights_of

VAL = "val_dataloader.dataset"

WARNINGS = {
    "entry that no one reads": (
        "retinanet",
        {"optim_wraper": dict(type="OptimWrapper")},
        "optim_wraper: is not read by anyone: did you mean 'optim_wrapper'",
    ),
    "entry of older configs": (
        "retinanet",
        {"lr_config": dict(policy="step", step=[8, 11])},
        "lr_config: was read by OpenMMLab 1.x, and nobody reads it now: give param_scheduler",
    ),
    "optimiser where it was": (
        "retinanet",
        {"optimizer": dict(type="SGD", lr=0.02)},
        "optimizer: was read by OpenMMLab 1.x.*give optim_wrapper",
    ),
    "loss switched off": (
        "retinanet",
        {"model.bbox_head.loss_bbox.loss_weight": 0.0},
        "loss_bbox.loss_weight: is 0, which switches.*positive",
    ),
    "decay cut off": (
        "retinanet",
        {"param_scheduler[1].end": 36},
        r"param_scheduler\[1\]: ends at 36.*after 12 epochs.*give end=12",
    ),
    "milestones too late": (
        "retinanet",
        {"param_scheduler[1].milestones": [8, 24]},
        r"milestones \[24\] are never reached.*give smaller ones, for example \[8, 11\]",
    ),
    "begin too late": (
        "retinanet",
        {"param_scheduler[1]": dict(type="ConstantLR", begin=20, end=30, by_epoch=True)},
        r"param_scheduler\[1\]: begins at 20.*give an earlier begin",
    ),
    "period that is not the length": (
        "retinanet",
        {"param_scheduler[1]": dict(type="CosineAnnealingLR", T_max=6, begin=0, end=12)},
        "T_max=6 is not its length.*give T_max=12",
    ),
    "warm-up longer than training": (
        "retinanet",
        {"param_scheduler[0].end": 500},
        r"LinearLR ends at iteration 500, but training has only 72 \(6 per epoch\): give",
    ),
    "validated at the end only": (
        "retinanet",
        {"train_cfg.val_interval": 50},
        "val_interval=50 is more than the 12 epochs.*its end only: give at most 12",
    ),
    "never validated": (
        "retinanet",
        {"train_cfg.val_begin": 50},
        "val_begin=50 is more than the 12 epochs.*is never validated: give at most 12",
    ),
    "saved at the end only": (
        "semantic_fpn",
        {"default_hooks.checkpoint.interval": 4000},
        "checkpoint: interval=4000 is more than the 40 iters.*its end is saved.*at most 40",
    ),
    "saved after more steps than there are": (
        "retinanet",
        {"default_hooks.checkpoint": dict(type="CheckpointHook", by_epoch=False, interval=500)},
        "checkpoint: interval=500 is more than the 72 iterations.*at most 72",
    ),
    "saved by epochs that are not counted": (
        "semantic_fpn",
        {"default_hooks.checkpoint.by_epoch": True},
        "checkpoint: interval=20 counts epochs.*give by_epoch=False",
    ),
    "chosen by a validation that there is not": (
        "retinanet",
        {
            **dict.fromkeys(("val_dataloader", "val_cfg", "val_evaluator")),
            "default_hooks.checkpoint.save_best": "auto",
        },
        "save_best: is 'auto', which needs validation, and has no effect without: add",
    ),
    "nothing saved": (
        "retinanet",
        {"default_hooks.checkpoint": None},
        "no checkpoint is saved: gi",
    ),
    "rate of another batch size": (
        "retinanet",
        {"auto_scale_lr": dict(base_batch_size=16)},
        "learning rate belongs to 16 .* 2 are trained.*--auto-scale-lr",
    ),
    "not shuffled": (
        "retinanet",
        {"train_dataloader.sampler.shuffle": False},
        "train_dataloader.sampler.shuffle: is False: training needs",
    ),
    "rule that no one reads": (
        "retinanet",
        {"optim_wrapper.paramwise_cfg": dict(norm_decay_mul=0)},
        "paramwise_cfg.norm_decay_mul: is not read.*'norm_decay_mult'",
    ),
    "key without a parameter": (
        "retinanet",
        {"optim_wrapper.paramwise_cfg": dict(custom_keys=dict(token_mixr=dict(lr_mult=0.1)))},
        "custom_keys: 'token_mixr'.*no effect.*such as",
    ),
    "padding that strides do not divide": (
        "retinanet",
        {"model.data_preprocessor.pad_size_divisor": 20},
        "pad_size_divisor: is 20.*give 32",
    ),
    "padding to a size of its own": (
        "retinanet",
        {
            "model.data_preprocessor.batch_augments": [
                dict(type="BatchFixedSizePad", size=(256, 256), pad_mask=False)
            ]
        },
        r"batch_augments\[0\].size: is \(256, 256\), but .*at most \(.*padding: give size=",
    ),
    "padding to the preprocessor's size": (
        "semantic_fpn",
        {"model.data_preprocessor.size": (128, 128)},
        r"data_preprocessor.size: is \(128, 128\), but .*most of a batch is padding: give size=",
    ),
    "figures for 0..1": (
        "retinanet",
        {"model.data_preprocessor.mean": [0.485, 0.456, 0.406]},
        r"mean: is \[0.485, 0.456, 0.406\].*multiply",
    ),
    "unused map": (
        "semantic_fpn",
        {
            "model.decode_head.in_index": [1, 2, 3],
            "model.decode_head.in_channels": [16] * 3,
            "model.decode_head.feature_strides": [8, 16, 32],
        },
        r"trainable parameters get no gradient: backbone.out_norms.0.weight.*leave out",
    ),
    "evaluator of the training file": (
        "retinanet",
        {"val_evaluator.ann_file": "TRAIN_FILE"},
        "val_evaluator.ann_file: .*instances_train.json is not the file of the data loader",
    ),
}


@pytest.mark.parametrize("case", WARNINGS)
def test_a_suspicious_config_is_one_warning(healthy, shapes, case):
    name, changes, message = WARNINGS[case]
    changes = {
        path: str(shapes / "annotations/instances_train.json") if value == "TRAIN_FILE" else value
        for path, value in changes.items()
    }
    found = faults(changed(healthy[name], changes))
    assert [r.status for r in found] == ["warning"], [str(r) for r in found]
    assert re.search(message, found[0].message, re.DOTALL), found[0].message


@pytest.fixture(scope="module")
def pretrained(healthy, tmp_path_factory):
    """The healthy RetinaNet with weights of its own, as if trained on ImageNet."""
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    backbone = MODELS.build({**healthy["retinanet"].model.backbone, "out_indices": (0, 1, 2, 3)})
    save_weights(backbone.state_dict(), path)
    init = dict(type="Pretrained", checkpoint=str(path))
    return changed(healthy["retinanet"], {"model.backbone.init_cfg": init})


def test_weights_that_fit_are_named(pretrained):
    (weights,) = [r for r in preflight(pretrained) if r.name == "weights"]
    assert weights.status == "ok"
    assert re.search(r"\d+ tensors of .*tiny.safetensors fit PoolFormer", weights.message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model.data_preprocessor.bgr_to_rgb": False},
            "bgr_to_rgb=False, but .*bgr_to_rgb=True: g",
        ),
        ({"model.data_preprocessor.mean": [127.5] * 3}, r"mean=\[127.5.*\[123.675.*: give these"),
        (
            {"model.data_preprocessor.mean": GONE, "model.data_preprocessor.std": GONE},
            r"has mean=None, std=None.* mean=\[123.675.*: give these",
        ),
    ],
)
def test_colours_of_pretrained_weights(pretrained, changes, message):
    (found,) = faults(changed(pretrained, changes))
    assert (found.name, found.status) == ("normalisation", "warning")
    assert re.search(message, found.message), found.message


def test_weights_of_another_backbone(pretrained):
    other = dict(depths=(1, 1, 1, 1), dims=(8, 16, 24, 48))
    cfg = {"model.backbone.arch": other, "model.neck.in_channels": [16, 24, 48]}
    (found,) = faults(changed(pretrained, cfg))
    assert (found.name, found.status) == ("weights", "failure")
    assert "tiny.safetensors does not fit PoolFormer" in found.message
    assert "strict=False" in found.message


def test_weights_with_nan(pretrained, tmp_path):
    path = tmp_path / "nan.pth"
    backbone = MODELS.build(dict(pretrained.model.backbone, init_cfg=None))
    weights = {
        key: torch.full_like(value, torch.nan) for key, value in backbone.state_dict().items()
    }
    torch.save(weights, path)
    (found,) = faults(changed(pretrained, {"model.backbone.init_cfg.checkpoint": str(path)}))
    assert (found.name, found.status) == ("weights", "failure") and "NaN" in found.message


def test_a_checkpoint_of_another_model(healthy, tmp_path):
    path = tmp_path / "other.pth"
    torch.save(dict(state_dict={"a.weight": torch.zeros(2)}), path)
    (found,) = faults(changed(healthy["retinanet"], {"load_from": str(path)}))
    assert found.status == "failure"
    assert "load_from: no tensor of" in found.message and "a.weight" in found.message


def test_a_checkpoint_with_other_classes(healthy, tmp_path):
    path = tmp_path / "coco.pth"
    model = MODELS.build(dict(healthy["semantic_fpn"].model, _scope_="mmseg"))
    weights = model.state_dict()
    weights["decode_head.conv_seg.weight"] = torch.zeros(80, 16, 1, 1)
    torch.save(dict(state_dict=weights), path)
    (found,) = faults(changed(healthy["semantic_fpn"], {"load_from": str(path)}))
    assert found.status == "warning"
    assert "1 of the model's" in found.message and "decode_head.conv_seg.weight" in found.message


def test_a_checkpoint_that_training_would_refuse(healthy, tmp_path):
    """As strict as LoadReportHook, which loads it: the neck is there, the backbone another's."""
    path = tmp_path / "half.pth"
    cfg = healthy["retinanet"]
    weights = MODELS.build(dict(changed(cfg, {}).model, _scope_="mmdet")).state_dict()
    weights = {key: value for key, value in weights.items() if "stages.2" not in key}
    torch.save(dict(state_dict=weights), path)
    (found,) = faults(changed(cfg, {"load_from": str(path)}))
    assert (found.name, found.status) == ("weights", "failure")
    assert "backbone.stages.2" in found.message and "load_report.strict=False" in found.message
    lenient = {"load_from": str(path), "default_hooks.load_report.strict": False}
    (found,) = faults(changed(cfg, lenient))
    assert (found.name, found.status) == ("weights", "warning")


def test_weights_to_be_downloaded_are_left_on_the_net(healthy, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    init = dict(type="Pretrained", checkpoint="https://localhost:1/poolformer.pth")
    cfg = changed(healthy["retinanet"], {"model.backbone.init_cfg": init})
    assert faults(cfg) == []
    (weights,) = [r for r in preflight(cfg) if r.name == "weights"]
    assert weights.message == "https://localhost:1/poolformer.pth will be downloaded"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (found,) = faults(cfg)
    assert found.status == "failure" and "HF_HUB_OFFLINE forbids the net" in found.message


def test_ade20k_without_multiples_of_32(healthy):
    """Reported from the config alone; there is no ADE20K here to read."""
    cfg = changed(
        healthy["semantic_fpn"],
        {f"{VAL}.type": "ADE20KDataset", f"{VAL}.generate": GONE, f"{VAL}.pipeline[1]": GONE},
    )
    found = [r for r in faults(cfg) if r.name == "pipelines"]
    assert [r.status for r in found] == ["warning"]
    assert "without ResizeToMultiple" in found[0].message and "size_divisor=32" in found[0].message


def test_more_memory_than_there_is(healthy, monkeypatch):
    monkeypatch.setattr(memory, "device_memory", lambda: 2**20)
    (found,) = faults(healthy["retinanet"])
    assert (found.name, found.status) == ("memory", "warning")
    assert "the device has 1.0 MiB: lower batch_size" in found.message


def test_unreached_parameters_stop_distributed_training(healthy):
    name, changes, _ = WARNINGS["unused map"]
    cfg = changed(healthy[name], changes)
    cfg.auto_scale_lr = {}
    (found,) = faults(cfg, processes=2)
    assert found.status == "failure" and "find_unused_parameters=True" in found.message
    cfg.find_unused_parameters = True
    assert [r.status for r in faults(cfg, processes=2)] == ["warning"]


@pytest.mark.parametrize(
    ("backbone", "dataset", "said"),
    [
        (dict(type="PoolFormer", arch="s12"), {}, "metaformer://poolformer_s12"),
        (dict(type="TimmBackbone", model_name="resnet18"), {}, "timm://resnet18"),
        (dict(type="PoolFormer", arch="s12"), dict(generate=dict()), NotRun),
        (dict(type="PoolFormer", arch=dict(depths=(1,), dims=(8,))), {}, NotRun),
        (dict(type="TimmBackbone", model_name="resnet18", pretrained=True), {}, None),
    ],
)
def test_a_start_from_random_weights_where_others_are_published(backbone, dataset, said):
    warned = []
    model = dict(backbone=backbone)
    inspection = SimpleNamespace(
        cfg=Config(dict(model=model, train_dataloader=dict(dataset=dict(dataset=dataset)))),
        trained=("model", model), model=None, warn=lambda *what: warned.append(what),
    )  # fmt: skip
    if said is NotRun:
        with pytest.raises(NotRun, match="starts from random ones"):
            check_weights_of(inspection)
    else:
        answer = check_weights_of(inspection)
        assert ("pretrained=True" in answer) == (said is None)
    assert [(said in text, where) for text, where in warned] == (
        [(True, "model.backbone")] if isinstance(said, str) else []
    )
