"""Values of the wrong kind, each one failure that says where it is."""

from __future__ import annotations

import re

import pytest
from breaking import changed, faults

CASES = {
    "hook without a type": (
        "retinanet",
        {"default_hooks.checkpoints": dict(interval=2)},
        "default_hooks.checkpoints: has no type: .*'interval': 2.*Did you mean 'checkpoint'",
    ),
    "argument of an average": (
        "retinanet",
        {"custom_hooks": [dict(type="EMAHook", momentun=0.1)]},
        r"custom_hooks\[0\]: .*momentun",
    ),
    "weight of an average": (
        "retinanet",
        {"custom_hooks": [dict(type="EMAHook", momentum=3.0)]},
        r"custom_hooks\[0\]: .*momentum must be in range.*3.0",
    ),
    "pipeline that is a step": (
        "retinanet",
        {"train_dataloader.dataset.pipeline": dict(type="LoadImageFromFile")},
        r"pipeline: is \{'type': 'LoadImageFromFile'\}: expected a list of steps",
    ),
    "argument that no class in between knows": (
        "retinanet",
        {"model.backbone.act_cfg": dict(type="GELU")},
        "act_cfg.*; PoolFormer takes arch, .*layer_scale",
    ),
    "channels as text": (
        "semantic_fpn",
        {"model.decode_head.channels": "16"},
        "model: .*model.decode_head.channels is '16', a text: expected numbers",
    ),
    "list as text": (
        "retinanet",
        {"model.neck.in_channels": "16, 24, 32"},
        "model: .*model.neck.in_channels is '16, 24, 32', a text",
    ),
    "drop path": (
        "retinanet",
        {"model.backbone.drop_path_rate": 1.5},
        "drop_path_rate=1.5: expected a probability",
    ),
    "crops that preprocessing would cut": (
        "semantic_fpn",
        {
            "train_dataloader.dataset.pipeline": [
                dict(type="LoadImageFromFile"),
                dict(type="LoadAnnotations"),
                dict(type="RandomCrop", crop_size=(64, 96)),
                dict(type="PackSegInputs"),
            ]
        },
        r"size: is \(64, 64\), smaller than the crops of \(64, 96\).*give size=\(64, 96\)",
    ),
    "milestones as text": (
        "retinanet",
        {"param_scheduler[1].milestones": "8,11"},
        r"param_scheduler\[1\]: milestones are '8,11': expected whole numbers of epochs.*\[8, 11\]",
    ),
    "no batch for a step": (
        "retinanet",
        {"optim_wrapper.accumulative_counts": 0},
        "accumulative_counts: is 0: expected a whole number",
    ),
    "seed as text": (
        "retinanet",
        {"randomness": dict(seed="one")},
        "randomness.seed: is 'one': expected a whole number",
    ),
    "metric of maps": (
        "semantic_fpn",
        {"val_evaluator.iou_metrics": ["mIOU"]},
        "val_evaluator.iou_metrics: has 'mIOU': expected some of mIoU.*Did you mean 'mIoU'",
    ),
    "scheme of weights": (
        "retinanet",
        {
            "model.backbone.init_cfg": dict(
                type="Pretrained", checkpoint="metafromer://poolformer_s12"
            )
        },
        "metafromer://poolformer_s12: nothing loads metafromer://: expected .*'metaformer://'",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_broken_value_is_one_failure(healthy, case):
    name, changes, message = CASES[case]
    found = faults(changed(healthy[name], changes))
    assert [r.status for r in found] == ["failure"], [str(r) for r in found]
    assert re.search(message, found[0].message, re.DOTALL), found[0].message


def test_a_rate_that_is_a_slip_is_a_warning(healthy):
    (found,) = faults(changed(healthy["retinanet"], {"optim_wrapper.optimizer.lr": 1e3}))
    assert found.status == "warning"
    assert re.search("lr: is 1000.0, and AdamW moves every weight by about that", found.message)
