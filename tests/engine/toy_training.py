"""A training of milliseconds: two linear layers that learn eight numbers, with a metric that rises.

Everything of mmengine's runner takes part; nothing of pictures does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, METRICS, MODELS
from torch import Tensor, nn
from torch.utils.data import Dataset

ITERATIONS = 12


@DATASETS.register_module(force=True)
class ToyData(Dataset):
    """Twenty inputs, drawn once."""

    metainfo = dict(classes=("even", "odd"))

    def __init__(self) -> None:
        self.values = torch.randn(20, 4, generator=torch.Generator().manual_seed(1))

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return dict(inputs=self.values[index] + 0.1 * torch.rand(4))

    def __len__(self) -> int:
        return len(self.values)


@MODELS.register_module(force=True)
class ToyModel(BaseModel):
    """Two layers, a norm and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.2))
        self.head = nn.Linear(8, 2)

    def forward(self, inputs: Tensor, mode: str = "tensor") -> Any:
        inputs = torch.stack(inputs) if isinstance(inputs, list | tuple) else inputs
        found = self.head(self.backbone(inputs))
        if mode == "loss":
            return dict(
                loss_first=found[:, 0].square().mean(), loss_second=found[:, 1].abs().mean()
            )
        return list(found)


@METRICS.register_module(force=True)
class RisingMetric(BaseMetric):
    """Better at every validation, so that each has a new best checkpoint."""

    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results.extend(0 for _ in data_samples)

    def compute_metrics(self, results: list) -> dict[str, float]:
        return dict(score=float(MessageHub.get_current_instance().get_info("iter")))


def toy(work_dir: Path, **changes: Any) -> Config:
    """A config of twelve iterations: checkpoints every third, validations every fourth."""
    loader = dict(
        batch_size=4,
        num_workers=0,
        dataset=dict(type="ToyData"),
        sampler=dict(type="DefaultSampler", shuffle=True),
    )
    cfg = Config(
        dict(
            default_scope="mmengine",
            work_dir=str(work_dir),
            model=dict(type="ToyModel"),
            train_dataloader=loader,
            val_dataloader=dict(loader, sampler=dict(type="DefaultSampler", shuffle=False)),
            train_cfg=dict(by_epoch=False, max_iters=ITERATIONS, val_interval=4),
            val_cfg=dict(),
            val_evaluator=dict(type="RisingMetric"),
            optim_wrapper=dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=1e-2)),
            param_scheduler=[dict(type="LinearLR", start_factor=0.1, by_epoch=False, end=9)],
            randomness=dict(seed=3),
            default_hooks=dict(
                logger=dict(type="LoggerHook", interval=2),
                checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=3),
                exact_resume=dict(type="ExactResumeHook"),
                load_report=dict(type="LoadReportHook"),
                finite_loss=dict(type="FiniteLossHook"),
            ),
            log_processor=dict(by_epoch=False, window_size=1),
            custom_hooks=[],
        )
    )
    cfg.merge_from_dict(changes)
    return cfg
