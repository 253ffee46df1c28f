"""Values of the wrong kind, each one failure that says where it is."""

from __future__ import annotations

import re

import pytest
from breaking import changed, faults

CASES = {
    "hook without a type": (
        "retinanet",
        {"default_hooks.checkpoints": dict(interval=2)},
        "default_hooks.checkpoints: has no type: .*'interval': 2.*mean 'checkpoint'",
    ),
    "argument of an average": (
        "retinanet",
        {"custom_hooks": [dict(type="EMAHook", momentun=0.1)]},
        r"custom_hooks\[0\].momentun: ExponentialMovingAverage takes no.*mean 'momentum'",
    ),
    "weight of an average": (
        "retinanet",
        {"custom_hooks": [dict(type="EMAHook", momentum=3.0)]},
        r"custom_hooks\[0\].momentum: is 3.0: .*momentum must be in range",
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
        "model.decode_head.channels: is '16', a text: expected numbers",
    ),
    "list as text": (
        "retinanet",
        {"model.neck.in_channels": "16, 24, 32"},
        "model.neck.in_channels: is '16, 24, 32', a text",
    ),
    "crops that preprocessing would cut": (
        "semantic_fpn",
        {
            "train_dataloader.dataset.pipeline": [
                dict(type="LoadImageFromFile"),
                dict(type="LoadAnnotations"),
                dict(type="Resize", scale=(128, 128)),
                dict(type="RandomCrop", crop_size=(64, 96)),
                dict(type="PackSegInputs"),
            ]
        },
        r"size: is \(64, 64\), smaller than the pictures of \(64, 96\).*give size=\(64, 96\)",
    ),
    "nothing ever saved": (
        "semantic_fpn",
        {"default_hooks.checkpoint.interval": 50, "default_hooks.checkpoint.save_last": False},
        "checkpoint: interval=50 is more than the 40 iters.*nothing would ever.*at most 40",
    ),
    "clipping as a number": (
        "retinanet",
        {"optim_wrapper.clip_grad": 1.0},
        "clip_grad: is 1.0: .*it should be a `dict`",
    ),
    "rules for parameters": (
        "retinanet",
        {"optim_wrapper.paramwise_cfg": [0.1]},
        r"paramwise_cfg: is \[0.1\]: .*should be None or a dict",
    ),
    "place of a hook": (
        "retinanet",
        {"custom_hooks": [dict(type="ChannelsLastHook", priority="FIRST")]},
        r"custom_hooks\[0\].priority: is 'FIRST': expected HIGHEST, .*LOWEST, or a number",
    ),
    "level of the log": ("retinanet", {"log_level": "INF"}, "log_level: is 'INF'.*mean 'INFO'"),
    "start of workers": (
        "retinanet",
        {"env_cfg.mp_cfg.mp_start_method": "frok"},
        "mp_start_method: is 'frok': expected .*Did you mean 'fork'",
    ),
    "evaluator that is a switch": (
        "retinanet",
        {"val_evaluator": True},
        r"val_evaluator: is True: expected a dict, dict\(type=...\)",
    ),
    "losses that are none": (
        "semantic_fpn",
        {"model.decode_head.loss_decode": []},
        "model: no loss is computed from a trainable parameter: give each head a loss",
    ),
    "norm that is a dict": (
        "semantic_fpn",
        {"model.decode_head.norm_cfg": dict(type=dict(type="BN"))},
        r"norm_cfg.type: is \{'type': 'BN'\}: expected the name of a class",
    ),
    "argument of randomness": ("retinanet", {"randomness": dict(sed=1)}, "sed: .*mean 'seed'"),
    "randomness without a seed": (
        "retinanet",
        {"randomness": dict(deterministic=True)},
        "randomness: set_randomness: missing .* argument: 'seed'; .* takes .*seed",
    ),
    "scaling from nothing": (
        "retinanet",
        {"auto_scale_lr": dict(enable=True)},
        "auto_scale_lr: is enabled.*give base_batch_size=16",
    ),
    "scope as a number": (
        "retinanet",
        {"default_scope": 5},
        "default_scope: is 5, but model.type 'RetinaNet' belongs to mmdet: set",
    ),
    "hook that is none": (
        "retinanet",
        {"custom_hooks": [dict(type=dict)]},
        r"custom_hooks\[0\]: is a dict: expected a hook",
    ),
    "mean as text": (
        "retinanet",
        {"model.data_preprocessor.mean": "imagenet"},
        r"data_preprocessor.mean: is 'imagenet': .*should have 1 or 3 values",
    ),
    "metric of maps": (
        "semantic_fpn",
        {"val_evaluator.iou_metrics": ["mIOU"]},
        r"val_evaluator: judging one picture failed with .*\['mIOU'\] is not supported",
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
