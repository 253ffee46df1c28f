"""Checks before training: what would fail after an hour, or go wrong in silence, told in seconds.

``tools/check.py CONFIG`` runs them alone, ``tools/train.py`` before it trains; docs/checks.md lists
them. Nothing is written, and no random state moves: training afterwards is what it would have been.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from mmengine.config import Config

from .data import check_files, sample_of_shapes
from .data_checks import check_data
from .findings import DataError, Finding
from .forms import check_forms
from .hooks import check_hooks
from .inspection import Check, Inspection
from .learning import check_learning, check_loaders
from .memory import check_memory
from .model import check_maps, check_model
from .names import check_arguments, check_sections, check_types
from .no_trace import no_trace
from .pictures import check_normalisation, check_pipelines
from .results import CheckResult, Status, failures, summary, table_of
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

_TRAIN = ("train_dataloader", "data", "pipelines", "data loaders")

CHECKS = (
    Check("versions", check_versions),
    Check("forms", check_forms),
    Check("config entries", check_sections, ("versions",)),
    Check("type names", check_types, ("versions",)),
    Check("arguments", check_arguments, ("versions",)),
    Check("hooks", check_hooks, ("default_hooks", "custom_hooks")),
    Check("learning", check_learning, ("train_cfg", "optim_wrapper", "param_scheduler")),
    Check("data loaders", check_loaders, ("train_dataloader", "val_dataloader", "train_cfg")),
    Check("pipelines", check_pipelines, ("model", "train_dataloader", "val_dataloader")),
    Check("normalisation", check_normalisation, ("model",)),
    Check("data", check_files, ("train_dataloader", "val_dataloader", "test_dataloader")),
    Check("model", check_model, ("model",)),
    Check("feature maps", check_maps, ("model",)),
    Check("weights", check_weights_of, ("model",)),
    Check(
        "training step",
        check_step,
        (
            "model",
            "normalisation",
            "feature maps",
            "optim_wrapper",
            "train_cfg",
            "learning",
            *_TRAIN,
        ),
    ),
    Check("memory", check_memory, ("training step",)),
    Check(
        "validation",
        check_validation,
        ("training step", "val_dataloader", "val_evaluator", "default_hooks", "data", "pipelines"),
    ),
)
"""All checks, in their order."""


def preflight(cfg: Config, full: bool = False, processes: int = 1) -> list[CheckResult]:
    """Check a config, its data and its model before training.

    Runs in one process; in a distributed training, only in one and before the processes join.

    Args:
        cfg: A whole config of mmdet or mmseg, with ``custom_imports`` already done. Not changed.
        full: Decode every picture and map instead of a sample. Defaults to False.
        processes: How many processes will train, for the batch size. Defaults to 1.

    Returns:
        Results in the order of :data:`CHECKS`, at least one for each. Never raises for what is
        wrong with the config: that is a failure in the list.
    """
    scope = cfg.get("default_scope")
    scope = scope if scope and isinstance(scope, str) else "mmengine"
    inspection = Inspection(_copied(cfg), scope, full, processes)
    with no_trace(inspection.scope), sample_of_shapes(inspection):
        for check in CHECKS:
            inspection.run(check)
        inspection.model = None  # its memory belongs to the training now
    return inspection.results


def _copied(cfg: Mapping[str, Any]) -> Config:
    # Parts that several entries share would otherwise be changed in all of them at once.
    return Config({key: deepcopy(value) for key, value in cfg.items()})
