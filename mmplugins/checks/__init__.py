"""Checks before training: what would fail after an hour, or go wrong in silence, told in seconds.

``tools/check.py CONFIG`` runs them alone, ``tools/train.py`` before it trains; docs/checks.md lists
them. Nothing is written, and no random state moves: training afterwards is what it would have been.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from copy import deepcopy
from types import ModuleType
from typing import Any

from mmengine.config import Config

from mmplugins.engine.config.settings import package_of
from mmplugins.utils import DataError

from .data import check_files, sample_of_shapes
from .data_checks import check_data
from .data_set import Finding
from .entries import check_entries
from .explain import SCOPES
from .inspection import Check, Inspection
from .learning import check_learning
from .memory import check_memory
from .no_trace import no_trace
from .parts import (
    check_datasets,
    check_hooks,
    check_loaders,
    check_maps,
    check_metrics,
    check_model,
)
from .pictures import check_normalisation, check_pipelines
from .results import CheckResult, Status, failures, summary, table_of
from .rules import check_values
from .trial import check_step
from .validation import check_validation
from .versions import check_versions
from .weights import check_weights_of

__all__ = [
    "CHECKS",
    "CheckResult",
    "DataError",
    "Finding",
    "Status",
    "check_data",
    "failures",
    "preflight",
    "summary",
    "table_of",
]

_LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")

CHECKS = (
    Check("versions", check_versions),
    Check("values", check_values, ("versions",)),
    Check("entries", check_entries, ("versions", "randomness", "visualizer", "auto_scale_lr")),
    # Before the model, as in the runner: a visualizer may register what the model names.
    Check("hooks", check_hooks, ("default_hooks", "custom_hooks")),
    Check("model", check_model, ("model",)),
    Check("feature maps", check_maps, ("model",)),
    Check("normalisation", check_normalisation, ("model",)),
    Check(
        "learning",
        check_learning,
        ("model", "train_cfg", "optim_wrapper", "param_scheduler", "default_hooks", "custom_hooks"),
    ),
    Check("data sets", check_datasets, _LOADERS),
    Check("data loaders", check_loaders, _LOADERS),
    Check("pipelines", check_pipelines, ("data sets",)),
    Check("metrics", check_metrics, ("val_evaluator", "test_evaluator")),
    Check("data", check_files, ("data sets",), data=True),
    Check("weights", check_weights_of, ("model",), data=True),
    Check(
        "training step",
        check_step,
        ("model", "feature maps", "learning", "data loaders", "pipelines", "data"),
        data=True,
    ),
    Check("memory", check_memory, ("training step",), data=True),
    Check("validation", check_validation, ("training step", "metrics", "hooks"), data=True),
)
"""All checks, in their order."""


def preflight(
    cfg: Config, full: bool = False, processes: int = 1, data: bool = True
) -> list[CheckResult]:
    """Check a config, its data and its model before training.

    Runs in one process; in a distributed training, only in one and before the processes join.

    Args:
        cfg: A whole config of mmdet or mmseg, with ``custom_imports`` already done. Not changed.
        full: Decode every picture and map instead of a sample. Defaults to False.
        processes: How many processes will train, for the batch size. Defaults to 1.
        data: Whether to read pictures, annotations and weights; False runs what needs none of
            them. Defaults to True.

    Returns:
        Results in the order of :data:`CHECKS`, at least one for each that ran. Never raises for
        what is wrong with the config: that is a failure in the list.
    """
    scope = cfg.get("default_scope", "mmengine")
    scope = scope if isinstance(scope, str) else None
    with no_trace(scope), tempfile.TemporaryDirectory(prefix="mmplugins-check-") as folder:
        inspection = Inspection(
            _copied(cfg), scope or _scope_of(cfg), full, processes, folder=folder
        )
        with sample_of_shapes(inspection):
            for check in CHECKS:
                if data or not check.data:
                    inspection.run(check)
        inspection.model = None  # its memory belongs to the training now
    return inspection.results


def _scope_of(cfg: Mapping[str, Any]) -> str:
    """The scope of a config that names none: that of its model."""
    package = package_of(cfg)
    return package if package in SCOPES else "mmengine"


def _copied(cfg: Mapping[str, Any]) -> Config:
    # Parts that several entries share would otherwise be changed in all of them at once; what
    # configs of the new style import by the way cannot be copied, and need not be.
    return Config({k: deepcopy(v) for k, v in cfg.items() if not isinstance(v, ModuleType)})
