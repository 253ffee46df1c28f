"""Entries of a config: unknown ones, those that come in threes, what the runner starts by."""

from __future__ import annotations

import difflib
import inspect
import os
from collections.abc import Mapping
from importlib.util import find_spec

from mmengine.runner import Runner

from mmplugins.engine.config.settings import ENTRIES
from mmplugins.utils import listed, type_name

from .explain import walk
from .inspection import Inspection

_OF_MMCV_1 = dict(
    runner="train_cfg",
    total_epochs="train_cfg",
    optimizer="optim_wrapper",
    optimizer_config="optim_wrapper",
    lr_config="param_scheduler",
    evaluation="val_evaluator and train_cfg.val_interval",
    checkpoint_config="default_hooks.checkpoint",
    log_config="default_hooks.logger and visualizer",
    dist_params="env_cfg.dist_cfg",
    workflow="train_cfg",
    momentum_config="param_scheduler",
    resume_from="resume=True and load_from",
    fp16="optim_wrapper=dict(type='AmpOptimWrapper', ...)",
    cudnn_benchmark="env_cfg.cudnn_benchmark",
)
"""Entries of OpenMMLab until 2022, and what has taken their place."""

_BACKENDS = dict(
    TensorboardVisBackend=("tensorboard", "tensorboardX"),
    WandbVisBackend=("wandb",),
    MLflowVisBackend=("mlflow",),
    ClearMLVisBackend=("clearml",),
    NeptuneVisBackend=("neptune",),
    DVCLiveVisBackend=("dvclive",),
    AimVisBackend=("aim",),
)
"""Packages that logging needs; they are imported at the first value that is logged."""


def check_entries(inspection: Inspection) -> str:
    """Entries that the runner does not know, of another form, or without their others."""
    cfg = inspection.cfg
    for key in cfg:
        near = difflib.get_close_matches(key, ENTRIES, 1, 0.8)
        if key in ENTRIES or callable(cfg[key]) or is_used(cfg, key):
            continue  # classes are what a config of the new style imports
        if key in _OF_MMCV_1 and not (key == "optimizer" and inspection.scope == "mmseg"):
            inspection.warn(
                f"was read by OpenMMLab 1.x, and nobody reads it now: give {_OF_MMCV_1[key]}", key
            )
        elif near and key not in _OF_MMCV_1 and not key.endswith("_pipeline"):
            inspection.warn(f"is not read by anyone: did you mean {near[0]!r}?", key)
    _check_threes(inspection)
    _check_start(inspection)
    return f"{sum(key in ENTRIES for key in cfg)} entries for the runner"


def is_used(cfg: Mapping, key: str) -> bool:
    """Whether an entry is only a name for what another one holds."""
    return any(value == cfg[key] for other in cfg if other != key for _, value in walk(cfg[other]))


def _check_threes(inspection: Inspection) -> None:
    cfg = inspection.cfg
    if "model" not in cfg:
        inspection.fail("is absent: give model=dict(type=...)", "model")
    for split, others in (
        ("train", ("train_cfg", "optim_wrapper")),
        ("val", ("val_cfg", "val_evaluator")),
        ("test", ("test_cfg", "test_evaluator")),
    ):
        parts = (f"{split}_dataloader", *others)
        absent = [part for part in parts if cfg.get(part) is None]
        if absent and (len(absent) < len(parts) or split == "train"):
            ways = "add it" if split == "train" else "add it, or set all three to None"
            inspection.fail(
                f"is absent, but {split} needs {', '.join(parts)} together: {ways}", absent[0]
            )
    if cfg.get("val_dataloader") is not None and cfg.get("val_evaluator") in ([], (), {}):
        inspection.warn("holds no metric, so validation tells nothing: give one", "val_evaluator")


def _check_start(inspection: Inspection) -> None:
    """What the runner meets before it builds anything."""
    cfg = inspection.cfg
    given = cfg.get("randomness")
    given = dict(seed=None) if given is None else given  # as the runner
    taken = inspect.signature(Runner.set_randomness)

    def give() -> None:
        taken.bind_partial(None, **given)  # what is unknown is said before what is missing
        taken.bind(None, **given)

    inspection.attempt(give, "randomness", given, owner=Runner.set_randomness)
    scaling = cfg.get("auto_scale_lr") or {}
    if scaling.get("enable") and not scaling.get("base_batch_size"):
        inspection.fail(
            "is enabled, and does not say for which batch size the rate is: give "
            "base_batch_size=16, or another",
            "auto_scale_lr",
        )
    for backend in listed((cfg.get("visualizer") or {}).get("vis_backends")):
        packages = isinstance(backend, Mapping) and _BACKENDS.get(type_name(backend))
        if packages and not any(map(find_spec, packages)):
            inspection.fail(
                f"{type_name(backend)} needs the package {packages[0]}, which is not installed: "
                f"pip install {packages[0]}, or take it out",
                "visualizer.vis_backends",
            )
    if isinstance(folder := cfg.get("work_dir"), str):
        _check_folder(inspection, folder)


def _check_folder(inspection: Inspection, folder: str) -> None:
    """Whether results can be written; nothing is made."""
    above = os.path.abspath(folder)
    while not os.path.lexists(above):
        above = os.path.dirname(above)
    if not os.path.isdir(above):
        inspection.fail(f"is {folder!r}, but {above} is no folder: choose another", "work_dir")
    elif not os.access(above, os.W_OK | os.X_OK):
        inspection.fail(
            f"is {folder!r}, but nothing can be written in {above}: choose another folder, or ask "
            "for the right to write there",
            "work_dir",
        )
