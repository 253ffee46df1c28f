"""Something else where a dict, list or type must stand: one failure, which names the place."""

from __future__ import annotations

import re
from copy import deepcopy

import pytest
from breaking import GONE, changed, faults
from mmengine.config import ConfigDict

from mmplugins.checks import failures, preflight

TRAIN, VAL = "train_dataloader.dataset", "val_dataloader.dataset"
CHOICE = dict(type="RandomChoice", transforms=[["RandomFlip"]])

CASES = {
    "own hook": (
        {"custom_hooks": ["EMAHook"]},
        r"custom_hooks\[0\]: is 'EMAHook'.*dict\(type='EMA",
    ),
    "own hook without a type": (
        {"custom_hooks": [dict(momentum=0.1)]},
        r"custom_hooks\[0\]: has no type: {'momentum': 0.1}; give type=",
    ),
    "own hook of nothing": (
        {"custom_hooks": [None]},
        r"custom_hooks\[0\]: is None: expected a dict",
    ),
    "default hook": (
        {"default_hooks.checkpoint": "CheckpointHook"},
        r"default_hooks.checkpoint: is 'CheckpointHook', a text: expected .*type='CheckpointHook'",
    ),
    "default hook as a number": (
        {"default_hooks.logger": 50},
        r"default_hooks.logger: is 50: expected a dict, dict\(type=",
    ),
    "scheduler": ({"param_scheduler": "MultiStepLR"}, "param_scheduler: is 'MultiStepLR', a text"),
    "scheduler in a list": (
        {"param_scheduler": ["MultiStepLR"]},
        r"param_scheduler\[0\]: is 'MultiStepLR', a text: expected .*type='MultiStepLR'",
    ),
    "scheduler without a type": (
        {"param_scheduler[1].type": GONE},
        r"param_scheduler\[1\]: has no 'type': .*'milestones'.*add it",
    ),
    "scheduler as its arguments": (
        {"param_scheduler": dict(milestones=[8])},
        r"param_scheduler: has no 'type': {'milestones': \[8\]}; add it",
    ),
    "transform": (
        {f"{TRAIN}.pipeline[3]": "RandomFlip"},
        r"train_dataloader.dataset.pipeline\[3\]: is 'RandomFlip', a text: .*type='RandomFlip'",
    ),
    "transform without a type": (
        {f"{TRAIN}.pipeline[3]": dict(prob=0.5)},
        r"pipeline\[3\]: has no type: {'prob': 0.5}; give",
    ),
    "transform of validation": (
        {f"{VAL}.pipeline[1]": "Resize"},
        r"val_.*pipeline\[1\]: is 'Resize'",
    ),
    "transform of a choice": (
        {f"{TRAIN}.pipeline[3]": CHOICE},
        r"pipeline\[3\].transforms\[0\]\[0\]: is 'RandomFlip', a text",
    ),
    "optimiser without a type": (
        {"optim_wrapper.optimizer.type": GONE},
        r"optim_wrapper: has no 'type': .*'optimizer': {'lr': 0.001}",
    ),
    "evaluator": ({"val_evaluator": "CocoMetric"}, "val_evaluator: is 'CocoMetric', a text"),
    "evaluator in a list": (
        {"val_evaluator": ["CocoMetric"]},
        r"val_evaluator\[0\]: is 'CocoMetric'",
    ),
    "evaluator without a type": ({"test_evaluator.type": GONE}, "test_evaluator: has no type"),
    "sampler without a type": (
        {"train_dataloader.sampler.type": GONE},
        "train_dataloader.sampler: has no type: {'shuffle': True}; give type=",
    ),
    "data set": (
        {TRAIN: "CocoDataset"},
        "train_dataloader.dataset: is 'CocoDataset', a text: expected a dict",
    ),
    "backend": (
        {"visualizer.vis_backends": ["LocalVisBackend"]},
        r"vis_backends\[0\]: is 'LocalVisBackend', a text",
    ),
    "model": ({"model": "RetinaNet"}, r"model: is 'RetinaNet': expected a dict, model=dict\("),
    "backbone": ({"model.backbone": "PoolFormer"}, "model.backbone: is 'PoolFormer', a text: exp"),
    "neck without a type": ({"model.neck.type": GONE}, "model.neck: has no type: {.*; give type="),
    "loss": (
        {"model.bbox_head.loss_cls": "FocalLoss"},
        "bbox_head.loss_cls: is 'FocalLoss', a text",
    ),
    "normalisation": ({"model.neck.norm_cfg": "BN"}, r"neck.norm_cfg: is 'BN'.*dict\(type='BN'"),
    "tests of a model": (
        {"model.test_cfg": "whole"},
        "predicting one picture failed with .*'str' object.*check model.test_cfg",
    ),
    "loop of no kind": ({"train_cfg.type": GONE}, "train_cfg: has neither type nor by_epoch"),
    "loop of two kinds": (
        {"train_cfg.by_epoch": True},
        "train_cfg.by_epoch: is True: .*Only one of",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_broken_form_is_one_failure(healthy, case):
    changes, message = CASES[case]
    found = faults(changed(healthy["retinanet"], changes))
    assert [r.status for r in found] == ["failure"], [str(r) for r in found]
    assert re.search(message, found[0].message, re.DOTALL), found[0].message


def test_broken_forms_of_several_parts_are_said_at_once(healthy):
    changes = {"default_hooks.logger": 50, "train_cfg.val_interval": "1", "model.neck": "FPN"}
    results = preflight(changed(healthy["retinanet"], changes))
    failed = [r.message.split(":")[0] for r in results if r.status == "failure"]
    assert sorted(failed) == ["default_hooks.logger", "model.neck", "train_cfg.val_interval"]
    # What needs a broken part is not run; what does not, is.
    others = {r.name for r in results if r.status == "not run"}
    assert others == {
        *("feature maps", "normalisation", "learning", "weights"),
        *("training step", "memory", "validation"),
    }


def test_forms_that_look_odd_and_are_right(healthy):
    cfg = deepcopy(healthy["retinanet"])
    cfg.default_hooks.visualization = None  # switched off
    cfg.train_cfg = dict(by_epoch=True, max_epochs=12)
    cfg.param_scheduler = ConfigDict(cfg.param_scheduler[1])
    cfg.val_evaluator = dict(metrics=[cfg.val_evaluator])
    cfg.custom_hooks = ()
    cfg.optimizer = cfg.optim_wrapper.optimizer  # a name for it, as in mmseg's schedules
    assert faults(cfg) == []


@pytest.mark.parametrize(
    ("name", "path", "value", "message"),
    [
        ("retinanet", "model.backbone.type", 7, "model.backbone.type: is 7: expected the name of"),
        (
            "retinanet",
            "model.neck.type",
            {"a": 1},
            "model.neck.type: is .*: expected the name of a",
        ),
        (
            "retinanet",
            "val_evaluator.type",
            [1],
            r"val_evaluator.type: is \[1\]: expected the name",
        ),
        ("retinanet", "train_dataloader.dataset.type", True, "dataset.type: is True: expected"),
        ("retinanet", "train_dataloader.dataset.type", "../x", "type: .*'../x'"),
        (
            "retinanet",
            "default_hooks.checkpoint.interval",
            None,
            "interval: is None: expected a wh",
        ),
        ("semantic_fpn", "model.decode_head.in_index", None, "head.in_index: is None: FPNHead: "),
        ("retinanet", "train_cfg.val_interval", [], r"val_interval: is \[\]: expected a whole"),
        ("retinanet", "train_cfg.val_interval", None, "val_interval: is None: expected a whole"),
        ("retinanet", "train_dataloader", True, "train_dataloader: is True: expected a dict"),
        ("semantic_fpn", "train_dataloader", [1], r"train_dataloader: is \[1\]: expected a dict"),
    ],
)
def test_values_that_no_class_could_be_built_from(healthy, name, path, value, message):
    found = [r.message for r in failures(preflight(changed(healthy[name], {path: value})))]
    assert any(re.search(message, one) for one in found), found
    assert not any(re.match(r"\w+Error", one) for one in found), found
