"""Values that break a rule: one failure each, with the entry, its value and what is expected."""

from __future__ import annotations

import re

import pytest
from breaking import changed, faults

RULES = "optim_wrapper.paramwise_cfg"
CASES = dict(
    retinanet=[
        ("model.backbone.drop_path_rate", 1.5, "a probability, 0 up to 1"),
        ("param_scheduler[1].begin", "3", "a whole number of steps"),
        ("param_scheduler[1].gamma", -0.1, "a number above 0"),
        ("train_cfg.val_interval", "1", "a whole number, 1 or more"),
        ("optim_wrapper.clip_grad", dict(max_norm="1"), "a bound above 0, or clip_grad=None"),
        (RULES, dict(custom_keys=dict(backbone=0.1)), "a dict, dict(lr_mult=0.1)"),
        ("env_cfg.mp_cfg", None, "a dict, mp_cfg=dict(mp_start_method='fork')"),
        ("env_cfg.mp_cfg.opencv_num_threads", dict(a=1), "a whole number of threads"),
        ("resume", "epoch_1.pth", "True or False; the file to go on from is load_from"),
        ("randomness", dict(seed=-1), "a whole number from 0 to 2**32 - 1, or None"),
        ("log_processor.window_size", "50", "a whole number of iterations"),
        ("default_hooks.checkpoint.max_keep_ckpts", "3", "a whole number, 1 or more, or -1 for"),
        ("train_dataloader.dataset", dict(type="ConcatDataset", datasets=[]), "a list of"),
        ("model.data_preprocessor.pad_size_divisor", 0, "a whole number of pixels, such as 32"),
        ("train_dataloader.dataset.data_prefix", "images/training", "a dict, such as"),
        ("train_dataloader.dataset.generate", "small", "a dict, such as dict(image_size=128)"),
        ("param_scheduler[1].milestones", "8,11", "whole numbers of epochs or iterations"),
        ("optim_wrapper.accumulative_counts", 0, "a whole number of batches, 1 or more"),
        ("randomness", dict(seed="one"), "a whole number from 0 to 2**32 - 1, or None"),
        ("model.bbox_head.loss_cls.loss_weight", float("nan"), "a number, check how it is"),
        ("model.bbox_head.loss_bbox.loss_weight", -1.0, "a positive weight"),
        ("optim_wrapper.optimizer.lr", -0.0001, "a number above 0"),
        ("optim_wrapper.optimizer.lr", "1e-4", "a number above 0"),
        ("optim_wrapper.optimizer.weight_decay", -0.05, "0 or a small number such as 0.05"),
        ("optim_wrapper.clip_grad", dict(max_norm=0), "a bound above 0, or clip_grad=None"),
        ("train_cfg.max_epochs", 0, "how long to train, a whole number above 0"),
        ("train_dataloader.batch_size", 0, "a whole number, 1 or more"),
        ("custom_hooks", dict(type="ChannelsLastHook"), "a list"),
        ("train_cfg.val_interval", 0, "a whole number, 1 or more"),
        ("model.data_preprocessor.std", [0.0, 0.0, 0.0], "numbers above 0; pictures are divided"),
        ("custom_hooks", "EMAHook", "a list, custom_hooks=[dict(type='EMAHook')]"),
        ("default_hooks", [dict(type="CheckpointHook")], "a dict, default_hooks=dict(checkpoint="),
        ("optim_wrapper", "OptimWrapper", "a dict, optim_wrapper=dict(type='OptimWrapper'"),
        ("train_dataloader.batch_sampler", "AspectRatioBatchSampler", "dict(type=...)"),
        ("train_dataloader.collate_fn", "pseudo_collate", "dict(type=...)"),
        ("model.backbone.init_cfg", "metaformer://poolformer_s12", "dict(type='Pretrained'"),
        ("randomness", [1], "a dict, randomness=dict(seed=0)"),
        ("model.test_cfg.score_thr", 1.5, "a score, 0 up to 1"),
        ("model.test_cfg.nms.iou_threshold", 0, "an overlap above 0, up to 1"),
        ("model.test_cfg.max_per_img", -7, "a whole number, 1 or more, or -1 for all"),
        ("model.train_cfg.assigner.pos_iou_thr", 50, "an overlap, 0 to 1"),
        ("model.train_cfg.assigner.min_pos_iou", 2, "an overlap, 0 to 1"),
        ("model.bbox_head.loss_cls.gamma", -2.0, "0 or more"),
        ("model.bbox_head.loss_cls.alpha", 25, "0 to 1, the weight of positives"),
        ("model.bbox_head.anchor_generator.ratios", [0.5, -1.0, 2.0], "positive numbers"),
        ("model.bbox_head.anchor_generator.octave_base_scale", 0, "positive numbers"),
        ("model.bbox_head.bbox_coder.target_stds", [1.0, 1.0, 0.0, 1.0], "numbers above 0; boxes"),
        ("model.neck.norm_cfg", dict(type="BN", momentum=3.0), "0 to 1; 0.1 is torch's own"),
        ("model.backbone.drop_path_rate", -0.1, "a probability, 0 up to 1"),
        ("optim_wrapper.optimizer.weight_decay", 5.0, "0 or a small number such as 0.05"),
        ("optim_wrapper.optimizer.betas", (0.9, 1.5), "0 to 1, 1 excluded, such as (0.9, 0.999)"),
        (
            RULES,
            dict(custom_keys=dict(backbone=dict(lr_mult=-0.1))),
            "0 or more; 1 changes nothing",
        ),
        ("param_scheduler[0].start_factor", -0.01, "0 to 1"),
        ("train_dataloader.dataset.pipeline[3].prob", 5, "a probability, 0 to 1"),
        ("train_cfg.max_epochs", -1, "how long to train, a whole number above 0"),
    ],
    semantic_fpn=[
        ("val_dataloader.sampler", [0, 3], "dict(type=...)"),
        ("val_dataloader.batch_size", None, "a whole number, 1 or more"),
        ("param_scheduler[0].eta_min", [], "a number"),
        ("param_scheduler[0].eta_min", "a", "a number"),
        ("model.data_preprocessor.size", "64", "height and width, such as (512, 512)"),
    ],
)


@pytest.mark.parametrize(
    ("name", "path", "value", "expected"), [(name, *case) for name in CASES for case in CASES[name]]
)
def test_a_value_against_its_rule(healthy, name, path, value, expected):
    (found,) = faults(changed(healthy[name], {path: value}), data=False)
    assert (found.name, found.status) == ("values", "failure")
    assert re.match(rf"{re.escape(path)}[.\w]*: is .+: expected ", found.message), found.message
    assert f"expected {expected}" in found.message
