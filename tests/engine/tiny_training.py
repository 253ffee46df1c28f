"""Trainings that take a second: 64-pixel shapes, thin models, one batch again and again."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from torch import Tensor

from mmplugins.engine import build_runner, compose

ROOT = Path(__file__).parents[2]
STEPS = 12

BASE = f"""
_base_ = [
    {str(ROOT / "configs")!r} + '/RECIPE',
]
"""
TINY = """
arch = dict(depths=(1, 1, 2, 1), dims=(8, 16, 24, 32))
tiny = dict(_delete_=True, type='PoolFormer', arch=arch, layer_scale=1.0)
data = dict(data_root='shapes/', generate=dict(image_size=64, num_train=4, num_val=2, seed=0))
steps = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', LABELS), dict(type='PACK')]
loader = dict(batch_size=4, num_workers=0, persistent_workers=False)
train_dataloader = dict(
    **loader, sampler=dict(shuffle=False), dataset=dict(**data, pipeline=steps)
)
val_dataloader = dict(**loader, dataset=data)
test_dataloader = val_dataloader
train_cfg = dict(_delete_=True, by_epoch=False, max_iters=12, val_interval=100)
param_scheduler = None
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=4e-3, weight_decay=0.05),
)
default_hooks = dict(
    logger=dict(interval=1),
    checkpoint=dict(_delete_=True, type='CheckpointHook', by_epoch=False, interval=12),
)
log_processor = dict(by_epoch=False, window_size=1)
randomness = dict(seed=0)
custom_hooks = []
"""
RECIPES = {
    "detector": (
        "retinanet/retinanet_shapes.py",
        "with_bbox=True",
        "PackDetInputs",
        """
slim = dict(in_channels=16, feat_channels=16, stacked_convs=1)
model = dict(
    backbone=dict(**tiny, out_indices=(1, 2, 3)),
    neck=dict(in_channels=[16, 24, 32], out_channels=16),
    bbox_head=slim,
)
val_evaluator = dict(ann_file='shapes/annotations/instances_val.json')
test_evaluator = val_evaluator
""",
    ),
    "segmentor": (
        "semantic_fpn/semantic-fpn_shapes.py",
        "",
        "PackSegInputs",
        """
model = dict(
    data_preprocessor=dict(size=(64, 64)),
    backbone=tiny,
    neck=dict(in_channels=[8, 16, 24, 32], out_channels=16),
    decode_head=dict(in_channels=[16] * 4, channels=16, dropout_ratio=0.0),
)
""",
    ),
}


@dataclass
class Training:
    """What a training left behind.

    Attributes:
        runner: The runner, after training.
        losses: The loss of each step.
        logged: All scalars of each step.
        file: The last checkpoint.
        checkpoint: What is in it.
    """

    runner: Runner
    losses: Tensor
    logged: list[dict[str, Any]]
    file: str
    checkpoint: dict[str, Any]

    def weights(self) -> dict[str, Tensor]:
        return self.checkpoint["state_dict"]


def read_config(folder: Path, task: str, snippet: str = "") -> Config:
    """A tiny config of a task, with the lines of a snippet on top, as a user would add them."""
    recipe, labels, pack, model = RECIPES[task]
    tiny = TINY.replace("LABELS", labels).replace("PACK", pack)
    (folder / f"{task}.py").write_text(BASE.replace("RECIPE", recipe) + tiny + model)
    (folder / f"{task}_with.py").write_text(f"_base_ = '{task}.py'\n{snippet}")
    return Config.fromfile(folder / f"{task}_with.py")


def train(
    folder: Path, task: str, snippet: str = "", backbone: dict | None = None, **options: Any
) -> Training:
    """Train a tiny model for 12 steps in ``folder``, which must be the current one.

    Args:
        folder: Where data and work dirs go.
        task: Key of :data:`RECIPES`.
        snippet: Lines for the config.
        backbone: What :func:`compose` puts in.
        **options: As of ``--cfg-options``, with ``__`` for dots.
    """
    cfg = read_config(folder, task, snippet)
    if backbone:
        cfg = compose(cfg, backbone)
    cfg.work_dir = tempfile.mkdtemp(dir=folder)
    cfg.merge_from_dict({key.replace("__", "."): value for key, value in options.items()})
    torch.set_num_threads(1)
    runner = build_runner(cfg)
    runner.train()
    (scalars,) = Path(runner.log_dir).glob("vis_data/scalars.json")
    logged = [json.loads(line) for line in scalars.read_text().splitlines()]
    logged = [record for record in logged if "loss" in record]
    file = str(Path(cfg.work_dir) / (Path(cfg.work_dir) / "last_checkpoint").read_text())
    checkpoint = torch.load(file, weights_only=False)
    return Training(runner, torch.tensor([r["loss"] for r in logged]), logged, file, checkpoint)
