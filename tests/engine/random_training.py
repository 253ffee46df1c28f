"""Trainings of seconds for both tasks, with everything in them that is drawn at random."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from mmplugins.checkpoint import read_checkpoint
from mmplugins.engine import train

ROOT = Path(__file__).parents[2]


class Killed(Exception):
    """Stands for what ends a process."""


@HOOKS.register_module(force=True)
class KillHook(Hook):
    """Ends the training after an iteration, before anything else may be done."""

    priority = "LOWEST"

    def __init__(self, after: int):
        self.after = after

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None):
        if runner.iter + 1 == self.after:
            raise Killed


def tiny(task: str, folder: Path, work_dir: Path, **changes: Any) -> Config:
    """A config: 10 pictures of 64 pixels, batches of 2, drop path, flips, rate schedule."""
    bases = dict(
        detection=["models/retinanet.py", "datasets/shapes_detection.py", "detection_runtime.py"],
        segmentation=["datasets/shapes_semantic.py", "segmentation_runtime.py"],
    )
    text = f"_base_ = {[str(ROOT / 'configs/_base_' / base) for base in bases[task]]}"
    path = folder / f"{task}.py"
    path.write_text(text)
    cfg = Config.fromfile(path)
    tiny = dict(type="PoolFormer", arch=dict(depths=(1, 1, 1, 1), dims=(8, 16, 24, 32)))
    tiny.update(drop_path_rate=0.4)
    data = dict(
        data_root=str(folder / "shapes") + "/",
        generate=dict(image_size=64, num_train=10, num_val=2, seed=0),
    )
    loader = dict(batch_size=2, num_workers=0, persistent_workers=False, dataset=data)
    merged: dict[str, Any] = dict(
        work_dir=str(work_dir),
        train_dataloader=loader,
        val_dataloader=loader,
        test_dataloader=loader,
        val_cfg={},
        test_cfg={},
        optim_wrapper=dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=1e-2)),
        param_scheduler=[dict(type="LinearLR", start_factor=0.1, by_epoch=False, end=9)],
        randomness=dict(seed=3),
        default_hooks=dict(logger=dict(interval=2)),
    )
    if task == "detection":
        head = dict(num_classes=4, in_channels=16, feat_channels=16, stacked_convs=1)
        merged.update(
            model=dict(
                backbone=tiny,
                neck=dict(in_channels=[16, 24, 32], out_channels=16),
                bbox_head=head,
                test_cfg=dict(score_thr=0.05, max_per_img=10),
            ),
            train_cfg=dict(by_epoch=True, max_epochs=2, val_interval=1),
            val_evaluator=dict(ann_file=data["data_root"] + "annotations/instances_val.json"),
        )
        merged["test_evaluator"] = merged["val_evaluator"]
        merged["param_scheduler"] += [dict(type="MultiStepLR", by_epoch=True, milestones=[1])]
    else:
        merged.update(
            model=dict(
                type="EncoderDecoder",
                data_preprocessor=dict(type="SegDataPreProcessor", size=(64, 64), bgr_to_rgb=True),
                backbone=tiny | dict(out_indices=(3,)),
                decode_head=dict(
                    type="FCNHead",
                    in_channels=32,
                    in_index=0,
                    channels=8,
                    num_convs=1,
                    num_classes=4,
                    dropout_ratio=0.3,
                    loss_decode=dict(type="CrossEntropyLoss"),
                ),
                test_cfg=dict(mode="whole"),
            ),
            train_cfg=dict(by_epoch=False, max_iters=12, val_interval=4),
        )
        merged["default_hooks"]["checkpoint"] = dict(interval=3)
    cfg.merge_from_dict(merged)
    del cfg.default_hooks["results"]  # its figure takes longer than the training
    cfg.merge_from_dict(changes)
    return cfg


def run(cfg: Config, kill_after: int | None = None, resume: bool | str = False) -> Path:
    """Train, or train until killed; returns the work dir."""
    cfg = copy.deepcopy(cfg)
    cfg.resume = bool(resume)
    cfg.load_from = resume if isinstance(resume, str) else cfg.get("load_from")
    if kill_after is None:
        train(cfg)
        return Path(cfg.work_dir)
    cfg.custom_hooks = [*cfg.get("custom_hooks", []), dict(type="KillHook", after=kill_after)]
    try:
        train(cfg)
    except Killed:
        return Path(cfg.work_dir)
    raise AssertionError(f"never came to iteration {kill_after}")


def differences(first: Any, second: Any, path: str = "") -> list[str]:
    """Paths at which two nested structures differ; tensors are compared bit for bit."""
    if isinstance(first, torch.Tensor):
        return [] if first.dtype == second.dtype and torch.equal(first, second) else [path]
    if isinstance(first, dict):
        if first.keys() != second.keys():
            return [f"{path}: keys"]
        return [d for k in first for d in differences(first[k], second[k], f"{path}/{k}")]
    if isinstance(first, list | tuple):
        if len(first) != len(second):
            return [f"{path}: length"]
        pairs = enumerate(zip(first, second, strict=True))
        return [d for i, (a, b) in pairs for d in differences(a, b, f"{path}/{i}")]
    return [] if first == second else [f"{path}: {first} {second}"]


def compare_states(first: Path, second: Path) -> list[str]:
    """Where two checkpoints differ in what a training goes on from, logged losses included."""
    a, b = read_checkpoint(first), read_checkpoint(second)
    found = []
    for key in ("state_dict", "ema_state_dict", "optimizer", "param_schedulers", "exact_resume"):
        found += differences(a.get(key), b.get(key), key)
    for name, buffer in a["message_hub"]["log_scalars"].items():
        if "loss" in name or "lr" in name:
            other = b["message_hub"]["log_scalars"][name]
            found += differences(list(buffer.data[0]), list(other.data[0]), name)
    return found
