"""Whether the states in a checkpoint are those of the parts that are about to take them over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from numbers import Number
from typing import Any

from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor

from mmplugins.checkpoint import CheckpointError
from mmplugins.checkpoint.training_schema import check_states

from ..unwrapping import bare_model

_DIFFERENT = ("Adafactor", "LBFGS", "Muon", "SparseAdam", "ZeroRedundancyOptimizer")
"""Optimisers whose parameters have states of different parts."""


_NEEDED = ("lr", "betas", "momentum", "weight_decay", "eps", "alpha", "params")
"""Settings of a group of parameters that no version of torch makes up for."""


_SAME = ("amsgrad", "capturable")
"""Flags that say which states there are, and where."""


def check_fits(runner: Runner, checkpoint: Mapping[str, Any]) -> None:
    """Compare optimiser, schedulers and pending gradients of a checkpoint with the training's own.

    Args:
        runner: With optimiser and schedulers built.
        checkpoint: That has passed :func:`.check_training`.

    Raises:
        CheckpointError: If a part is of another kind, number or shape.
    """
    source, wrapper = str(runner._load_from), runner.optim_wrapper
    if isinstance(wrapper, OptimWrapper):
        own = wrapper.param_groups
        check_states(checkpoint, [[tuple(p.shape) for p in g["params"]] for g in own], source)
        held = checkpoint.get("optimizer") or {}
        for mine, given in zip(own, held.get("param_groups", []), strict=False):
            _same_kinds(mine, given, "a group of parameters", source)
        kind = type(wrapper.optimizer).__name__
        _same_parts(held.get("state", {}), source, alike=kind not in _DIFFERENT)
    schedulers, states = runner.param_schedulers, checkpoint.get("param_schedulers")
    if isinstance(schedulers, list) and isinstance(states, list):
        for scheduler, state in zip(schedulers, states, strict=False):
            _same_kinds(vars(scheduler), state, type(scheduler).__name__, source, closed=True)
    gradients = (checkpoint.get("exact_resume") or {}).get("gradients") or {}
    parameters = dict(bare_model(runner.model).named_parameters())
    for name, value in gradients.items():
        if name not in parameters or value.shape != parameters[name].shape:
            raise CheckpointError(
                f"{source}: the gradient kept for {name[:80]!r} fits no parameter of this model"
            )


def _same_kinds(
    own: Mapping[str, Any], given: Mapping[str, Any], what: str, source: str, closed: bool = False
) -> None:
    """Refuse settings of another kind than our own; ``closed``: also those we do not have."""
    absent = [name for name in _NEEDED if name in own and name not in given]
    if absent:
        raise CheckpointError(f"{source}: {what} lacks {absent[0]!r}. Take another checkpoint")
    differ = [name for name in _SAME if name in own and given.get(name, own[name]) is not own[name]]
    for name in differ:
        raise CheckpointError(
            f"{source}: {what} has {name}={str(given[name])[:60]}, this training's {own[name]}: go "
            "on with the config it was trained with"
        )
    for name, value in given.items():
        known = name in own
        if known and not _alike(own[name], value):
            raise CheckpointError(
                f"{source}: {str(name)[:60]} of {what} is a {type(value).__name__}: expected a "
                f"{type(own[name]).__name__}. Take another checkpoint"
            )
        if closed and not known:
            raise CheckpointError(
                f"{source}: {what} has no {str(name)[:60]!r}: the file was written with another "
                "param_scheduler; go on with the config it was trained with"
            )


def _alike(own: Any, given: Any) -> bool:
    if own is None or given is None:
        return given is None or _is_number(given) or isinstance(given, str | list | tuple | dict)
    if isinstance(own, bool):
        return isinstance(given, bool)
    if isinstance(own, Number | Tensor):
        return _is_number(given)
    if isinstance(own, tuple):  # betas
        return isinstance(given, list | tuple) and len(given) == len(own)
    if isinstance(own, list):
        return isinstance(given, list | tuple)
    if isinstance(own, Mapping):
        return isinstance(given, Mapping)
    return isinstance(given, type(own))


def _is_number(value: Any) -> bool:
    return isinstance(value, Number) or (isinstance(value, Tensor) and value.numel() == 1)


def _same_parts(states: Mapping[Any, Any], source: str, alike: bool) -> None:
    """Refuse steps that are no numbers, and parameters whose states lack what all others have."""
    parts = Counter(frozenset(map(str, state)) for state in states.values())
    common = parts.most_common(1)[0][0] if parts else frozenset()
    for number, state in states.items():
        lacking = sorted(common - set(map(str, state)))
        if lacking and alike:
            raise CheckpointError(
                f"{source}: the optimiser's state of parameter {str(number)[:20]} lacks "
                f"{lacking[0][:60]}, which the others have. Take another checkpoint"
            )
        for name, value in state.items():
            if name == "step" and not _is_number(value):
                raise CheckpointError(
                    f"{source}: a step of the optimiser is a {type(value).__name__}: expected a "
                    "number. Take another checkpoint"
                )
