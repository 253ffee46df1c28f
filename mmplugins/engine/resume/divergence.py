"""A training whose numbers are no longer finite is stopped while a finite checkpoint is left."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.dist import all_reduce, broadcast_object_list, get_world_size
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn

from mmplugins.utils import few

from ..unwrapping import bare_model
from .training_folder import resumable_files

MIN_SCALE = 2.0**-10
"""Loss scales below it: gradients are infinite whatever the scale, and every step is skipped."""

REMEDY = (
    "To remedy it: a lower learning rate, a longer warm-up, or clipped gradients "
    "(optim_wrapper.clip_grad=dict(max_norm=1.0)); with mixed precision, bfloat16; and pictures "
    "and annotations without infinite values"
)


class DivergedError(RuntimeError):
    """A training with losses or weights that are NaN or infinite."""


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Stops a training whose losses stay NaN or infinite.

    Single steps are let pass: mixed precision skips them. If it skips so many that its loss scale
    falls below :data:`MIN_SCALE`, the training stops, too: it would go on and learn nothing. The
    losses are those that mmengine has fetched for its log, so no step waits for the device; several
    processes compare notes every ``interval`` steps. In a config::

        default_hooks = dict(finite_loss=dict(type="FiniteLossHook"))

    Args:
        interval: After so many steps in a row without a finite loss, at the next multiple of it,
            the training stops: within twice as many steps. Defaults to 10.

    Raises:
        ValueError: If ``interval`` is no whole number of at least 1.
    """

    priority = "ABOVE_NORMAL"  # after the log has this step's losses, before checkpoints

    def __init__(self, interval: int = 10):
        if type(interval) is not int or interval < 1:
            raise ValueError(f"interval={interval!r}: expected a whole number of at least 1")
        self.interval = interval
        self._bad_steps = 0

    def before_train(self, runner: Runner) -> None:
        """Forget an earlier training."""
        self._bad_steps = 0

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Count steps without a finite loss.

        Raises:
            DivergedError: If there were too many in a row.
        """
        step = runner.iter + 1
        losses = _logged_losses(runner)
        if not losses and step % self.interval == 0:  # RuntimeInfoHook is switched off
            losses = _fetched_losses(outputs)
        self._bad_steps = 0 if all(map(math.isfinite, losses.values())) else self._bad_steps + 1
        if step % self.interval:
            return
        worst = torch.tensor(self._bad_steps)
        if get_world_size() > 1:
            all_reduce(worst, "max")
        scale = _loss_scale(runner)
        overflows = scale is not None and scale < MIN_SCALE
        if not overflows and int(worst) < self.interval:
            return
        shown = [f"{name} {value:.4g}" for name, value in losses.items()]
        what = (
            f"the gradients overflow and no step is taken at step {step}: the loss scale of mixed "
            f"precision fell to {scale:.1g}"
            if overflows
            else f"the loss was not finite for {int(worst)} steps up to step {step}"
        )
        raise DivergedError(
            f"{what} ({few(shown, 8)}; learning rate {_rates(runner)}). {_last(runner)}{REMEDY}"
        )


def require_finite(runner: Runner) -> None:
    """Make sure, before a checkpoint is written, that the weights are finite.

    To be called in all processes.

    Raises:
        DivergedError: If they are not; up to five are named.
    """
    weights = bare_model(runner.model).state_dict()
    names = [name for name, value in weights.items() if not _finite(value)]
    answer = [names]
    broadcast_object_list(answer)
    if answer[0]:
        raise DivergedError(
            f"at step {runner.iter + 1} the weights are NaN or infinite ({few(answer[0])}; "
            f"learning rate {_rates(runner)}), so no checkpoint is written. {_last(runner)}{REMEDY}"
        )


def _finite(value: Any) -> bool:
    if not isinstance(value, Tensor) or isinstance(value, nn.parameter.UninitializedTensorMixin):
        return True
    return not value.is_floating_point() or bool(torch.isfinite(value.sum())) or _each(value)


def _each(value: Tensor) -> bool:
    """Whether each value is finite: a sum of finite ones may overflow."""
    return bool(torch.isfinite(value).all())


def _logged_losses(runner: Runner) -> dict[str, float]:
    """The losses of this step in mmengine's log, where they are numbers already."""
    return {
        name.removeprefix("train/"): float(buffer.current())
        for name, buffer in runner.message_hub.log_scalars.items()
        if name.startswith("train/") and "loss" in name and len(buffer.data[0])
    }


def _fetched_losses(outputs: Any) -> dict[str, float]:
    if not isinstance(outputs, Mapping):
        return {}
    return {
        name: float(value)
        for name, value in outputs.items()
        if "loss" in name and isinstance(value, Tensor | float) and torch.as_tensor(value).ndim == 0
    }


def _loss_scale(runner: Runner) -> float | None:
    """The loss scale of mixed precision, None without one and for one that is fixed."""
    scaler = getattr(runner.optim_wrapper, "loss_scaler", None)
    fixed = getattr(runner.optim_wrapper, "_scale_update_param", None) is not None
    return None if scaler is None or fixed or not scaler.is_enabled() else scaler.get_scale()


def _rates(runner: Runner) -> str:
    rates = sorted({rate for group in runner.optim_wrapper.get_lr().values() for rate in group})
    return " to ".join(f"{rate:.3g}" for rate in dict.fromkeys([rates[0], rates[-1]]))


def _last(runner: Runner) -> str:
    found = resumable_files(runner.work_dir)
    if not found:
        return "No checkpoint was written before. "
    return f"The last finite checkpoint is {found[0]}, to go on from by --resume. "
