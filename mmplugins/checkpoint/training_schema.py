"""What a checkpoint of a training may hold: types and ranges, one table for every way in.

mmengine takes what it finds: a text for the iteration, a negative one, a list for the optimiser's
state. It then fails somewhere within, or trains on from nonsense.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch import Tensor

from mmplugins.utils import few

from .errors import CheckpointError
from .payload import dataset_names
from .reading import check_tensors

Check = Callable[[Any], str]
"""Says what was expected in the place of a value, or nothing if it is as it may be."""

MAX_STEP = 10**12
_ELEMENTWISE = re.compile(
    "exp_avg.*|max_exp_avg.*|exp_inf|momentum_buffer|square_avg|grad_avg|acc_delta|sum|prev|"
    "step_size|ax|z|momentum"
)
"""Parts of optimisers' states that have the shape of their parameter, by torch's own names."""


def _that(what: str, fits: Callable[[Any], bool]) -> Check:
    return lambda value: "" if fits(value) else what


def _whole(low: int, high: int = MAX_STEP, optional: bool = False) -> Check:
    return _that(
        f"a whole number of {low} or more",
        lambda value: (type(value) is int and low <= value <= high) or (optional and value is None),
    )


def _kind(kind: type, what: str = "") -> Check:
    return _that(what or kind.__name__, lambda value: type(value) is kind)


_finite = _that(
    "a number",
    lambda value: (
        (type(value) in (int, float) or isinstance(value, np.number)) and not math.isnan(value)
    ),
)
_texts = _that(
    "a dict with texts for keys",
    lambda value: isinstance(value, dict) and all(isinstance(key, str) for key in value),
)
_flags = _that(
    "truth values by name",
    lambda value: not _texts(value) and all(type(one) is bool for one in value.values()),
)
_ids = _that(
    "a list of whole numbers",
    lambda value: isinstance(value, list) and all(not _whole(0)(one) for one in value),
)
_patience = _that(
    "a list of scores and counts",
    lambda value: (
        isinstance(value, list)
        and all(
            isinstance(one, dict)
            and not _finite(one.get("best_score"))
            and not _whole(0)(one.get("wait_count"))
            for one in value
        )
    ),
)


def _score(value: Any) -> str:
    plain = isinstance(value, Tensor) and value.layout is torch.strided and not value.is_meta
    if plain and value.is_floating_point() and value.numel() == 1:  # of metrics that give these
        value = value.item()
    return _finite(value)


def _tensors(value: Any) -> str:
    if _texts(value):
        return "tensors by name"
    wrong = [k for k, v in value.items() if not isinstance(v, Tensor) and "extra_state" not in k]
    return f"tensors by name ({str(wrong[0])[:60]} is none)" if wrong else ""


def _history(value: Any) -> str:
    known = {"max_length", "_log_history", "_count_history", "statistics_methods"}
    if not isinstance(value, HistoryBuffer) or not vars(value).keys() <= known:
        return "a HistoryBuffer"
    arrays = [vars(value).get(name) for name in ("_log_history", "_count_history")]
    fits = all(isinstance(a, np.ndarray) and a.ndim == 1 and a.dtype.kind in "fiu" for a in arrays)
    length = vars(value).get("max_length")
    fits = fits and len(arrays[0]) == len(arrays[1]) and type(length) is int and length > 0
    return "" if fits else "a HistoryBuffer of numbers"


def _histories(value: Any) -> str:
    wrong = _texts(value) or next(filter(None, map(_history, value.values())), "")
    return wrong and f"histories of numbers by name ({wrong})"


def _optimizer(value: Any) -> str:
    if not isinstance(value, dict):
        return "a dict with state and param_groups"
    if "param_groups" not in value:  # one of several, by name
        return next(filter(None, map(_optimizer, value.values())), "") if value else "not empty"
    groups, state = value["param_groups"], value.get("state")
    if not isinstance(state, dict) or not all(isinstance(one, dict) for one in state.values()):
        return "a dict by parameter under 'state'"
    if not isinstance(groups, list) or not all(isinstance(group, dict) for group in groups):
        return "a list of dicts under 'param_groups'"
    for group in groups:
        numbers = group.get("params")
        if not isinstance(numbers, list) or any(type(n) not in (int, str) for n in numbers):
            return "numbers of parameters under 'params'"
        for key, one in group.items():
            rate = key in ("lr", "initial_lr", "weight_decay", "momentum", "eps")
            pair = key == "eps" and isinstance(one, list | tuple)  # of Adafactor
            if rate and not pair and not isinstance(one, Tensor) and _finite(one):
                return f"a number for {key}"
            shares = [b for b in one if type(b) in (int, float)] if _is_betas(key, one) else []
            if not all(0 <= share < 1 for share in shares):
                return "numbers from 0 to below 1 for betas"
    return ""


def _is_betas(key: Any, value: Any) -> bool:
    return key == "betas" and isinstance(value, list | tuple)


def _schedulers(value: Any) -> str:
    if isinstance(value, dict):
        return next(filter(None, map(_schedulers, value.values())), "")
    if not isinstance(value, list) or not all(not _texts(one) for one in value):
        return "a list of dicts"
    for one in value:
        for key in ("last_step", "_global_step"):
            if key in one and (type(one[key]) is not int or not -1 <= one[key] <= MAX_STEP):
                return f"a whole number for {key}"
    return ""


SEED = _whole(0, 2**32 - 1, optional=True)

REQUIRED = ("meta", "state_dict", "message_hub", "meta.epoch", "meta.iter")

TRAINING: dict[str, Check] = {
    "meta": _texts,
    "meta.epoch": _whole(0),
    "meta.iter": _whole(0),
    "meta.seed": SEED,
    "meta.cfg": _kind(str, what="a text"),
    "meta.experiment_name": _kind(str, what="a text"),
    "meta.time": _kind(str, what="a text"),
    "meta.dataset_meta": _that("a dict", lambda value: value is None or isinstance(value, dict)),
    "state_dict": _tensors,
    "ema_state_dict": _tensors,
    "optimizer": _optimizer,
    "param_schedulers": _schedulers,
    "message_hub": _texts,
    "message_hub.log_scalars": _histories,
    "message_hub.runtime_info": _texts,
    "message_hub.runtime_info.best_score*": _score,
    "message_hub.runtime_info.keep_ckpt_ids": _ids,
    "message_hub.runtime_info.epoch": _whole(0),
    "message_hub.runtime_info.iter": _whole(0),
    "message_hub.runtime_info.max_epochs": _whole(0),
    "message_hub.runtime_info.max_iters": _whole(0),
    "message_hub.resumed_keys": _flags,
    "exact_resume": _texts,
    "exact_resume.processes": _whole(1),
    "exact_resume.batches": _whole(0),
    "exact_resume.sampler_seed": SEED,
    "exact_resume.validated": _kind(bool),
    "exact_resume.gradients": lambda value: "" if value is None else _tensors(value),
    "exact_resume.early_stopping": _patience,
}
"""What may stand where; ``*`` ends a name that begins so. What is not named here is plain data."""

_WHOLE_PARTS = {
    "message_hub": ("log_scalars", "runtime_info", "resumed_keys"),
    "exact_resume": tuple(k.split(".")[1] for k in TRAINING if k.startswith("exact_resume.")),
}


def check_training(content: Mapping[str, Any], source: str | Path) -> None:
    """Make sure that a file is a checkpoint of a training, in every part that is read again.

    Args:
        content: As :func:`read_checkpoint` returns it.
        source: The file, for messages.

    Raises:
        CheckpointError: If a part is missing or of another kind, or holds NaN or infinite weights.
    """
    absent = [place for place in REQUIRED if not list(_at(content, place))]
    for part, keys in _WHOLE_PARTS.items():
        if isinstance(content.get(part), dict):
            absent += [f"{part}.{key}" for key in keys if key not in content[part]]
    wrong = []
    for place, check in TRAINING.items():
        for name, value in _at(content, place):
            if expected := check(value):
                wrong.append(f"{name} is {_shown(value)}: expected {expected}")
    if absent and not wrong:
        names = few([place.rpartition(".")[2] for place in absent], 8)
        raise CheckpointError(
            f"{source} is no checkpoint of a training (it lacks {names}): to start a new training "
            "from its weights, use load_from"
        )
    if wrong:
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise CheckpointError(
            f"{source} is damaged or no checkpoint of a training: {'; '.join(wrong[:3])}{more}. "
            "Take another checkpoint"
        )
    dataset_names(content, source)
    own = content["state_dict"]
    averaged = (
        k.removeprefix("module.") for k in content.get("ema_state_dict", {}) if k != "steps"
    )
    if lacking := [key for key in averaged if key not in own]:
        raise CheckpointError(
            f"{source}: state_dict lacks {few([key[:60] for key in lacking])}, which "
            "ema_state_dict has. Take another checkpoint"
        )
    for key in ("state_dict", "ema_state_dict"):
        weights = content.get(key, {})
        check_tensors({k: v for k, v in weights.items() if isinstance(v, Tensor)}, source)


def check_states(content: Mapping[str, Any], shapes: list[list[tuple]], source: str) -> None:
    """Make sure that the optimiser's state is one of these parameters.

    Args:
        content: That has passed :func:`check_training`.
        shapes: Shapes of the parameters by group, as the optimiser has them; empty if there are
            several optimisers.
        source: The file, for messages.

    Raises:
        CheckpointError: If the groups have other sizes, or a part of the state another shape.
    """
    held = content.get("optimizer") or {}
    if not shapes or "param_groups" not in held:
        return
    sizes = [len(group["params"]) for group in held["param_groups"]]
    if sizes != [len(group) for group in shapes]:
        raise CheckpointError(
            f"{source}: its optimiser has {_groups(sizes)}, this training's "
            f"{_groups([len(group) for group in shapes])}: another model or paramwise_cfg; go on "
            "with the config it was trained with, or start from its weights by load_from"
        )
    numbers = [number for group in held["param_groups"] for number in group["params"]]
    flat = [shape for group in shapes for shape in group]
    for number, shape in zip(numbers, flat, strict=True):
        for name, value in held["state"].get(number, {}).items():
            if not _ELEMENTWISE.fullmatch(str(name)) or (value is None and "momentum" in str(name)):
                continue
            found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            odd = isinstance(value, Tensor) and (
                value.is_meta or value.is_quantized or value.is_complex() or value.is_sparse
            )
            if odd or found != tuple(shape):
                raise CheckpointError(
                    f"{source}: {str(name)[:60]} of parameter {number} is {found}: expected the "
                    f"shape {tuple(shape)}. Take another checkpoint"
                )


def _groups(sizes: list[int]) -> str:
    return f"{len(sizes)} groups of {sum(sizes)} parameters"


def _at(content: Any, place: str) -> list[tuple[str, Any]]:
    """Names and values at a place, none if a part of the way is missing."""
    *way, last = place.split(".")
    for step in way:
        if not isinstance(content, Mapping) or step not in content:
            return []
        content = content[step]
    if not isinstance(content, Mapping):
        return []
    before = ".".join(way) + "." if way else ""
    if last.endswith("*"):
        start = last[:-1]
        found = [key for key in content if isinstance(key, str) and key.startswith(start)]
        return [(before + key[:60], content[key]) for key in found]
    return [(place, content[last])] if last in content else []


def _shown(value: Any) -> str:
    if isinstance(value, str | int | float | bool | None):
        text = repr(value[:40] if isinstance(value, str) else value)
        return text if len(text) <= 60 else f"{text[:60]}..."
    return f"a {type(value).__name__}"
