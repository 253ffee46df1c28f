"""Configs broken in one place each: one finding, which names the value and what to do."""

from __future__ import annotations

import re

import pytest
from breaking import GONE, changed, faults

INFINITE = dict(type="InfiniteSampler")
TRAIN, VAL = "train_dataloader.dataset", "val_dataloader.dataset"
ROI = "model.roi_head"

# id: (healthy config, what is changed, status, part of the message with value and remedy)
NAMES = {
    "model": ("retinanet", {"model.type": "RetinaNett"}, "model.type: 'RetinaNett'.*'RetinaNet'"),
    "backbone": (
        "retinanet",
        {"model.backbone.type": "PoolFormr"},
        "model.backbone.type: 'PoolFormr'.*Did you mean 'PoolFormer'",
    ),
    "neck": ("retinanet", {"model.neck.type": "FNP"}, "model.neck.type: 'FNP'.*'FPN'"),
    "head": (
        "retinanet",
        {"model.bbox_head.type": "RetinaHed"},
        "'RetinaHed'.*Did you mean 'RetinaHead'",
    ),
    "loss": ("retinanet", {"model.bbox_head.loss_cls.type": "FocalLos"}, "'FocalLos'.*'FocalLoss'"),
    "assigner": (
        "retinanet",
        {"model.train_cfg.assigner.type": "MaxIouAssigner"},
        "assigner.type: 'MaxIouAssigner'.*'MaxIoUAssigner'",
    ),
    "norm": (
        "semantic_fpn",
        {"model.decode_head.norm_cfg.type": "SyncBatchNorm2"},
        "'SyncBatchNorm2'.*Did you mean",
    ),
    "nms": (
        "retinanet",
        {"model.test_cfg.nms.type": "softnms"},
        "model.test_cfg.nms.type: 'softnms'.*'soft_nms'",
    ),
    "roi layer": (
        "mask_rcnn",
        {f"{ROI}.bbox_roi_extractor.roi_layer.type": "ROIAlign"},
        "bbox_roi_extractor: .*layer_type=ROIAlign.*'RoIAlign'",
    ),
    "preprocessor": (
        "retinanet",
        {"model.data_preprocessor.type": "DetDataPreProcessor"},
        "'DetDataPreProcessor'.*'DetDataPreprocessor'",
    ),
    "wrong scope": (
        "retinanet",
        {"default_scope": "mmseg"},
        "default_scope: is 'mmseg', but model.type 'RetinaNet' belongs to mmdet: set default_scope",
    ),
    "no such scope": ("retinanet", {"default_scope": "mmdt"}, "default_scope: is 'mmdt'.*'mmdet'"),
    "no scope": ("retinanet", {"default_scope": GONE}, "default_scope: is None.*'mmdet'"),
    "transform of the other scope": (
        "retinanet",
        {f"{TRAIN}.pipeline[4].type": "PackSegInputs"},
        r"pipeline\[4\].type: 'PackSegInputs'.*mmseg has.*'mmseg.PackSegInputs'",
    ),
    "transform": (
        "retinanet",
        {f"{TRAIN}.pipeline[3].type": "RandomFilp"},
        r"pipeline\[3\].type: 'RandomFilp'.*'RandomFlip'",
    ),
    "data set": ("retinanet", {f"{TRAIN}.type": "CocoDatset"}, "'CocoDatset'.*'CocoDataset'"),
    "data set by its path": (
        "retinanet",
        {f"{TRAIN}.type": "mmplugins.datasets.shapes.Shapes"},
        "type: 'mmplugins.datasets.shapes.Shapes'",
    ),
    "sampler": (
        "retinanet",
        {"train_dataloader.sampler.type": "DefaltSampler"},
        "'DefaltSampler'.*'DefaultSampler'",
    ),
    "hook": (
        "retinanet",
        {"default_hooks.checkpoint.type": "CheckpointHok"},
        "default_hooks.checkpoint.type: 'CheckpointHok'.*'CheckpointHook'",
    ),
    "own hook": ("retinanet", {"custom_hooks": [dict(type="ChannelLastHook")]}, "'ChannelsLastHoo"),
    "optimiser": ("retinanet", {"optim_wrapper.optimizer.type": "AdamWW"}, "'AdamWW'.*'AdamW'"),
    "optimiser wrapper": ("retinanet", {"optim_wrapper.type": "AmpOptWrapper"}, "AmpOptimWrapper'"),
    "constructor": (
        "retinanet",
        {"optim_wrapper.constructor": "LayerDecayOptimizerConstructo"},
        "optim_wrapper.constructor: 'LayerDecayOptimizerConstructo'.*Did you mean",
    ),
    "scheduler": ("retinanet", {"param_scheduler[1].type": "MultiStepLr"}, "'MultiStepLR'"),
    "evaluator": ("retinanet", {"val_evaluator.type": "COCOMetric"}, "'COCOMetric'.*'CocoMetric'"),
    "loop": ("retinanet", {"train_cfg.type": "EpochTrainLoop"}, "'EpochTrainLoop'.*Did you mean"),
    "visualizer": ("retinanet", {"visualizer.type": "DetVisualizer"}, "'DetLocalVisualizer'"),
    "initialiser": (
        "retinanet",
        {"model.backbone.init_cfg": dict(type="Pretraind", checkpoint="a.pth")},
        "init_cfg.type: 'Pretraind'.*'Pretrained'",
    ),
}
ARGUMENTS = {
    "of a neck": (
        "retinanet",
        {"model.neck.out_channel": 16},
        "model.neck.out_channel: FPN takes no such argument.*Did you mean 'out_channels'",
    ),
    "through **kwargs": (
        "retinanet",
        {"model.bbox_head.stack_convs": 2},
        "stack_convs: RetinaHead takes no such argument.*'stacked_convs'",
    ),
    "of a backbone": (
        "retinanet",
        {"model.backbone.out_index": (1, 2, 3)},
        "out_index: PoolFormer takes no such argument.*'out_indices'",
    ),
    "of a transform": (
        "retinanet",
        {f"{TRAIN}.pipeline[2].keep_ration": True},
        r"pipeline\[2\].keep_ration: Resize.*'keep_ratio'",
    ),
    "of a data set": ("retinanet", {f"{TRAIN}.annfile": "a.json"}, "annfile: .*'ann_file'"),
    "of a data loader": (
        "retinanet",
        {"train_dataloader.num_worker": 2},
        "train_dataloader.num_worker: DataLoader takes no such.*'num_workers'",
    ),
    "of a scheduler": (
        "retinanet",
        {"param_scheduler[1].milestone": [8]},
        r"param_scheduler\[1\].milestone: MultiStepLR.*'milestones'",
    ),
    "of a hook": ("retinanet", {"default_hooks.checkpoint.intervall": 1}, "'interval'"),
    "of an optimiser": (
        "retinanet",
        {"optim_wrapper.optimizer.weigth_decay": 0.05},
        "weigth_decay: AdamW takes no such argument.*'weight_decay'",
    ),
    "of an evaluator": (
        "retinanet",
        {"val_evaluator.metrics": "bbox"},
        "metrics: .*takes no .*'metric'",
    ),
    "of a loop": ("retinanet", {"train_cfg.max_epoch": 2}, "EpochBasedTrainLoop.*'max_epochs'"),
    "that is missing": (
        "retinanet",
        {"model.neck.num_outs": GONE},
        "model.neck: FPN: .*missing.*'num_outs'.*FPN takes .*num_outs",
    ),
    "that no one knows": ("retinanet", {"model.neck.colour": 3}, "model.neck.colour: FPN takes no"),
    "arch": ("retinanet", {"model.backbone.arch": "s99"}, "backbone.arch: is 's99': .*expected"),
    "out_indices": (
        "retinanet",
        {"model.backbone.out_indices": (1, 2, 4)},
        r"model.backbone.out_indices: is \(1, 2, 4\): .*expected",
    ),
}
FITS = {
    "neck channels": (
        "retinanet",
        {"model.neck.in_channels": [128, 320, 512]},
        r"neck=FPN expects in_channels=\[128, 320, 512\].*\[16, 24, 32\].*set in_channels=\[16, 24",
    ),
    "anchor levels": (
        "retinanet",
        {"model.bbox_head.anchor_generator.strides": [8, 16, 32, 64]},
        r"strides is \[8, 16, 32, 64\], but .*: expected \[8, 16, 32, 64, 128\]",
    ),
    "channels of regions": (
        "mask_rcnn",
        {f"{ROI}.mask_roi_extractor.out_channels": 256, f"{ROI}.mask_head.in_channels": 256},
        "mask_roi_extractor.out_channels is 256.*expected 16",
    ),
    "channels of a region head": (
        "mask_rcnn",
        {f"{ROI}.mask_head.in_channels": 256},
        "model.roi_head.mask_head.in_channels: is 256.*gives 16.*give in_channels=16",
    ),
    "classes": (
        "retinanet",
        {"model.bbox_head.num_classes": 80},
        "model.bbox_head.num_classes: is 80.*4 classes.*set num_classes=4",
    ),
    "ignore index": (
        "semantic_fpn",
        {"model.decode_head.ignore_index": 0},
        "decode_head.ignore_index: label maps hold 255 .*ignore_index=0: give",
    ),
    "frozen": ("retinanet", {"model.backbone.frozen_stages": 7}, "frozen_stages=7: expected -1"),
    "absent weights": (
        "retinanet",
        {"model.backbone.init_cfg": dict(type="Pretrained", checkpoint="none.pth")},
        "init_cfg.checkpoint: none.pth does not exist.*give the path",
    ),
    "unknown weights": (
        "retinanet",
        {"model.backbone.init_cfg": dict(type="Pretrained", checkpoint="metaformer://poolfrm_s12")},
        "init_cfg.checkpoint: .*poolfrm_s12.*poolformer_s12",
    ),
    "weights that mmengine does not know": (
        "retinanet",
        {"model.backbone.init_cfg": dict(type="Pretrained", checkpoint="torchvision://resnet5")},
        "init_cfg.checkpoint: torchvision://resnet5: mmengine knows no model 'resnet5': correct",
    ),
    "load_from": ("retinanet", {"load_from": "epoch_12.pth"}, "load_from: epoch_12.pth does not"),
}
LEARNING = {
    "clipping": (
        "retinanet",
        {"optim_wrapper.clip_grad": dict(max_nrom=1.0)},
        "clip_grad.max_nrom: clip_grad_norm_ takes no such argument.*mean 'max_norm'",
    ),
    "end before begin": (
        "retinanet",
        {"param_scheduler[1].begin": 12},
        r"param_scheduler\[1\].begin: is 12: .*end should be larger than begin.*end=12",
    ),
    "epochs against iterations": (
        "semantic_fpn",
        {"param_scheduler[0].by_epoch": GONE},
        r"param_scheduler\[0\]: PolyLR counts epochs.*never step: give by_epoch=False",
    ),
    "endless epoch": (
        "retinanet",
        {"train_dataloader.sampler": INFINITE},
        "train_dataloader.sampler.type: is 'InfiniteSampler'.*write 'DefaultSampler'",
    ),
    "endless validation": (
        "semantic_fpn",
        {"val_dataloader.sampler": INFINITE},
        "val_dataloader.sampler.type: is 'InfiniteSampler'.*write 'DefaultSampler'",
    ),
    "no sampler": (
        "retinanet",
        {"train_dataloader.sampler": GONE},
        "train_dataloader: has no 'sampler': .*add it",
    ),
    "workers that stay and are none": (
        "retinanet",
        {"train_dataloader.persistent_workers": True},
        "train_dataloader.persistent_workers: is True: .*needs num_workers > 0",
    ),
    "batch larger than the data": (
        "retinanet",
        {
            "train_dataloader.batch_size": 64,
            "train_dataloader.drop_last": True,
            "auto_scale_lr": {},
            "param_scheduler[0]": GONE,
        },
        "train_dataloader: drop_last=True leaves no batch of 64.*give a smaller batch_size",
    ),
    "no evaluator": (
        "retinanet",
        {"val_evaluator": GONE},
        "val_evaluator: is absent, but val needs.*add it, or set all three to None",
    ),
    "no optimiser": ("retinanet", {"optim_wrapper": GONE}, "optim_wrapper: is absent.*add it"),
    "no model": ("retinanet", {"model": GONE}, "model: is absent: give model=dict"),
    "model without a type": ("retinanet", {"model.type": GONE}, "model: has no type: .*give type="),
    "loop as a list": ("retinanet", {"train_cfg": [12]}, r"train_cfg: is \[12\]: expected a dict"),
    "no optimiser inside": (
        "retinanet",
        {"optim_wrapper.optimizer": GONE},
        r"optim_wrapper.optimizer: is absent: give optimizer=dict\(",
    ),
    "best of what is not measured": (
        "retinanet",
        {"default_hooks.checkpoint.save_best": "bbox_mAP"},
        "save_best: is 'bbox_mAP'.*write one of.*Did you mean 'coco/bbox_mAP'",
    ),
    "best without a rule": (
        "retinanet",
        {"default_hooks.checkpoint.save_best": "quality"},
        "default_hooks.checkpoint: .*quality",
    ),
}
FAILURES = {
    f"{section} {name}": case
    for section, cases in (
        ("name", NAMES),
        ("argument", ARGUMENTS),
        ("fit", FITS),
        ("learning", LEARNING),
    )
    for name, case in cases.items()
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_broken_config_is_one_failure(healthy, case):
    name, changes, message = FAILURES[case]
    found = faults(changed(healthy[name], changes))
    assert [r.status for r in found] == ["failure"], [str(r) for r in found]
    assert re.search(message, found[0].message, re.DOTALL), found[0].message
