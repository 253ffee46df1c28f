"""Resuming a training so that it ends as if it had never been interrupted."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import EarlyStoppingHook, EMAHook, Hook
from mmengine.optim import OptimWrapper
from mmengine.registry import HOOKS
from mmengine.runner import BaseLoop, Runner

from ..unwrapping import bare_model
from .exact_loops import Restart, exact_loop

KEY = "exact_resume"
"""Where a checkpoint keeps what mmengine does not."""


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Makes ``--resume`` exact: on a CPU the weights end bit for bit as without interruption.

    Training steps and augmentations draw their random numbers by place (:mod:`.keyed_randomness`),
    the loop starts again within an epoch without loading what is behind (:mod:`.exact_loops`), and
    the checkpoint keeps what mmengine's lacks: the sampler's seed, whether validation was done, the
    gradients of an unfinished accumulation, the patience of early stopping. mmengine's own part has
    weights, EMA, optimiser, loss scaler, schedulers and logs.

    What stays inexact is said in a warning: checkpoints written without this hook, another number
    of processes or batches, training loops and data loaders that no config made. Transforms that
    remember earlier samples (``CachedMosaic``) are beyond its reach. In a config::

        default_hooks = dict(exact_resume=dict(type="ExactResumeHook"))
    """

    def __init__(self) -> None:
        self._validated_at = -1

    def before_run(self, runner: Runner) -> None:
        """Put an exact loop in the place of mmengine's."""
        if not isinstance(runner._train_loop, BaseLoop):
            return  # testing
        loop = exact_loop(runner)
        if loop is not None:
            runner._train_loop = loop
            return
        runner.logger.warning(
            f"{type(runner._train_loop).__name__} is no loop that ExactResumeHook knows, or its "
            "data loader was not made by a config: resuming this training will not be exact"
        )

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Note where the training was validated last."""
        if isinstance(runner._train_loop, BaseLoop):
            self._validated_at = runner.iter

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Add what mmengine does not keep."""
        loop, stopping = runner.train_loop, _early_stopping(runner)
        # Early stopping looks at a validation only after the checkpoint hook did: so do it again.
        validated = self._validated_at == checkpoint["meta"]["iter"] and not stopping
        checkpoint[KEY] = dict(
            processes=runner.world_size,
            batches=len(loop.dataloader),
            sampler_seed=getattr(loop, "sampler_seed", None),
            validated=validated,
            gradients=_pending_gradients(runner),
            early_stopping=[
                dict(best_score=float(hook.best_score), wait_count=hook.wait_count)
                for hook in stopping
            ],
        )

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Tell the loop where it stands, and say what will not be exact."""
        if not runner._resume or not isinstance(runner._train_loop, BaseLoop):
            return
        kept = checkpoint.get(KEY)
        reasons = _reasons(runner, checkpoint)
        if reasons:
            runner.logger.warning(f"Resuming, but not exactly: {'; '.join(reasons)}")
        runner._train_loop.restart = Restart()
        if kept is None:
            return
        runner._train_loop.restart = Restart(
            kept["sampler_seed"], kept["validated"], kept["gradients"]
        )
        for hook, state in zip(_early_stopping(runner), kept["early_stopping"], strict=False):
            hook.best_score, hook.wait_count = state["best_score"], state["wait_count"]


def _reasons(runner: Runner, checkpoint: dict[str, Any]) -> list[str]:
    """Why a training that goes on from this checkpoint will not be as if uninterrupted."""
    kept, reasons = checkpoint.get(KEY), []
    for key, what in (("optimizer", "optimiser"), ("param_schedulers", "schedulers")):
        if key not in checkpoint and (key == "optimizer" or runner.param_schedulers):
            reasons.append(
                f"it holds no state of the {what}, which start afresh (the checkpoints named "
                "epoch_N.pth and iter_N.pth hold it)"
            )
    averaged = any(isinstance(hook, EMAHook) for hook in runner.hooks)
    if averaged and "ema_state_dict" not in checkpoint:
        reasons.append("it holds no averaged weights, which start afresh from the model's own")
    states = checkpoint.get("param_schedulers")
    if isinstance(states, list) and len(states) != len(runner.param_schedulers or []):
        reasons.append(
            f"it holds the states of {len(states)} schedulers, this training has "
            f"{len(runner.param_schedulers or [])}"
        )
    if kept is None:
        reasons.append(
            "it was written without ExactResumeHook, whose random numbers differ from those it was "
            "trained with"
        )
        return reasons
    batches = len(runner.train_loop.dataloader)
    if kept["processes"] != runner.world_size:
        reasons.append(f"{kept['processes']} processes then, {runner.world_size} now")
    if kept["batches"] != batches:
        reasons.append(
            f"{kept['batches']} batches to an epoch then, {batches} now (other data or batch size)"
        )
    if kept["gradients"] and runner.world_size > 1:
        reasons.append(
            "it was saved within an accumulation of gradients, and those of the other processes "
            "are lost: save at multiples of accumulative_counts"
        )
    return reasons


def _pending_gradients(runner: Runner) -> dict[str, Any] | None:
    """Gradients that wait for the next optimiser step, by parameter; None right after one."""
    wrapper = runner.optim_wrapper
    if not isinstance(wrapper, OptimWrapper) or wrapper.should_update():
        return None
    parameters = bare_model(runner.model).named_parameters()
    return {name: p.grad.cpu() for name, p in parameters if p.grad is not None}


def _early_stopping(runner: Runner) -> list[EarlyStoppingHook]:
    return [hook for hook in runner.hooks if isinstance(hook, EarlyStoppingHook)]
