"""What ``load_from`` and ``resume`` loaded, and an error if it does not fit."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import BaseLoop, Runner

from mmplugins.checkpoint.fitting import match_model
from mmplugins.compat.patches.loading import prepare_for

from ..unwrapping import bare_model


@HOOKS.register_module()
class LoadReportHook(Hook):
    """Compares a checkpoint with the model before mmengine loads it.

    For testing and resuming all of the model must be in the file. A training that starts from it
    (``load_from``) may have another number of classes, whose layers then start afresh, and heads or
    a neck that the file does not know at all; any other misfit is an error. NaN and infinite
    weights are errors always. The report goes to the log. In a config::

        default_hooks = dict(load_report=dict(type="LoadReportHook"))

    Args:
        strict: Whether a misfit is an error. With False it is a warning, what fits is loaded, and
            the rest starts afresh. Defaults to True.
    """

    priority = "VERY_HIGH"  # before EMAHook, which loads the same weights

    def __init__(self, strict: bool = True):
        self.strict = strict

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Report, and leave in ``checkpoint`` only what the model can take.

        Raises:
            MismatchError: If it does not fit and ``strict``.
            CheckpointError: If it holds no weights, or impossible ones.
        """
        training = isinstance(runner._train_loop, BaseLoop)
        if not training:
            prepare_for(runner.model, checkpoint)
        report, fitted = match_model(
            bare_model(runner.model), checkpoint, str(runner._load_from or "the checkpoint")
        )
        runner.logger.info(f"\n{report}")
        whole = runner._resume or not training
        if self.strict:
            report.raise_if_wrong(whole)
        for line in [*report.problems(whole), *report.notes()]:
            runner.logger.warning(f"{report.source}: {line}")
        if runner._resume:
            return  # it fits, and EMAHook still has to swap what it holds
        metadata = getattr(checkpoint.get("state_dict"), "_metadata", OrderedDict())
        vars(fitted)["_metadata"] = metadata  # of the modules' versions
        checkpoint["state_dict"] = fitted
