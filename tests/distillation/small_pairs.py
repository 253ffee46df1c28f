"""Pairs small enough for a test: a RIFormer and a PoolFormer of five thin blocks in each recipe."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS
from mmengine.structures import InstanceData, PixelData
from torch import nn

from mmplugins.distillation import Distiller

CONFIGS = Path(__file__).parents[2] / "configs"
RECIPES = {
    "retinanet": "retinanet/retinanet_shapes.py",
    "mask-rcnn": "mask_rcnn/mask-rcnn_shapes.py",
    "semantic-fpn": "semantic_fpn/semantic-fpn_shapes.py",
}
TASKS = tuple(RECIPES)
SCORES = dict(zip(TASKS, ("anchor_scores", "region_scores", "pixel_scores"), strict=True))
DEPTHS, DIMS = (1, 1, 2, 1), (8, 16, 24, 32)


def recipe(task: str) -> Config:
    """A recipe of the repository, its neck and heads 16 channels wide."""
    cfg = Config.fromfile(CONFIGS / RECIPES[task])
    model = cfg.model
    model.neck.out_channels = 16
    model.neck.norm_cfg = dict(type="GN", num_groups=4)
    model.neck.in_channels = list(DIMS[1:] if task == "retinanet" else DIMS)
    if task == "retinanet":
        model.bbox_head.update(in_channels=16, feat_channels=16, stacked_convs=1)
        model.bbox_head.norm_cfg = dict(type="GN", num_groups=4)
    elif task == "mask-rcnn":
        model.rpn_head.update(in_channels=16, feat_channels=16)
        head = model.roi_head
        head.bbox_roi_extractor.out_channels = head.mask_roi_extractor.out_channels = 16
        head.bbox_head.update(in_channels=16, fc_out_channels=16)
        head.mask_head.update(in_channels=16, conv_out_channels=16, num_convs=1)
        head.mask_head.norm_cfg = dict(type="GN", num_groups=4)
        model.train_cfg.rpn_proposal.update(nms_pre=32, max_per_img=16)
        model.test_cfg.rpn.update(nms_pre=32, max_per_img=16)
        model.train_cfg.rcnn.sampler.num = 16
    else:
        model.decode_head.update(in_channels=[16] * 4, channels=8)
        model.decode_head.norm_cfg = dict(type="GN", num_groups=4)
        model.data_preprocessor.size = (64, 64)
    return cfg


def model_config(task: str, kind: str, **backbone: Any) -> ConfigDict:
    """The model of a recipe with a thin backbone of a kind; arguments override the backbone's."""
    model = recipe(task).model
    levels = model.backbone.get("out_indices", (0, 1, 2, 3))
    settings = dict(layer_scale=1.0, out_indices=levels)
    settings["arch"] = dict(depths=DEPTHS, dims=DIMS)
    model.backbone = ConfigDict(type=kind, **(settings | backbone))
    if "arch" in backbone:
        model.neck.in_channels = [backbone["arch"]["dims"][i] for i in levels]
    return model


def with_batch_norm(task: str, kind: str) -> ConfigDict:
    """A model whose neck has running statistics; a decode head has a dropout as well."""
    config = model_config(task, kind)
    config.neck.norm_cfg = dict(type="BN")
    if "decode_head" in config:
        config.decode_head.norm_cfg = dict(type="BN")
        config.decode_head.dropout_ratio = 0.5
    return config


def scope(task: str) -> str:
    return "mmseg" if task == "semantic-fpn" else "mmdet"


def build(task: str, config: dict) -> nn.Module:
    with MODELS.switch_scope_and_registry(scope(task)) as models:
        return models.build(copy.deepcopy(config))


def distiller(
    task: str = "semantic-fpn",
    terms: dict | None = None,
    student: dict | None = None,
    teacher: dict | None = None,
    seed: int = 0,
    **settings: Any,
) -> Distiller:
    """A distiller ready to train, both networks with weights of chance."""
    torch.manual_seed(seed)
    settings.setdefault("untrained_teacher", "teacher_checkpoint" not in settings)
    config = dict(
        type="Distiller",
        student=student or model_config(task, "RIFormer"),
        teacher=teacher or model_config(task, "PoolFormer"),
        terms=dict(mixer={}, block={}) if terms is None else terms,
        **settings,
    )
    model = build(task, config)
    model.init_weights()
    return model.train()


def batch(task: str, pictures: int = 2, seed: int = 0) -> tuple[torch.Tensor, list]:
    """Random pictures of 64x64 pixels and annotations for them."""
    random = torch.Generator().manual_seed(seed)
    images = torch.randn(pictures, 3, 64, 64, generator=random)
    samples = []
    for _ in range(pictures):
        names = ("img_shape", "pad_shape", "batch_input_shape", "ori_shape")
        meta = dict.fromkeys(names, (64, 64)) | dict(scale_factor=(1.0, 1.0))
        if task == "semantic-fpn":
            from mmseg.structures import SegDataSample

            sample = SegDataSample(metainfo=meta)
            labels = torch.randint(4, (1, 64, 64), generator=random)
            sample.gt_sem_seg = PixelData(data=labels)
        else:
            from mmdet.structures import DetDataSample
            from mmdet.structures.mask import BitmapMasks

            corner = torch.randint(4, 20, (2, 2), generator=random).float()
            boxes = torch.cat([corner, corner + 28], dim=1)
            masks = np.zeros((2, 64, 64), dtype=np.uint8)
            for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
                mask[y1:y2, x1:x2] = 1
            sample = DetDataSample(metainfo=meta)
            sample.gt_instances = InstanceData(
                bboxes=boxes,
                labels=torch.randint(4, (2,), generator=random),
                masks=BitmapMasks(masks, 64, 64),
            )
            sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4))
        samples.append(sample)
    return images, samples


class Recorder:
    """Outputs and calls of modules, by permanent hooks of the test's own."""

    def __init__(self, model: nn.Module, *names: str):
        self.outputs: dict[str, list] = {name: [] for name in names}
        self.inputs: dict[str, list] = {name: [] for name in names}
        for name in names:

            def hook(module, args, output, name=name):
                self.inputs[name].append(args)
                self.outputs[name].append(output)

            model.get_submodule(name).register_forward_hook(hook)

    def __getitem__(self, name: str) -> Any:
        (output,) = self.outputs[name]
        return output
