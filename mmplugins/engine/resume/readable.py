"""What goes into a checkpoint must come out of it: everything else is left out before writing."""

from __future__ import annotations

import io
from collections import OrderedDict, deque
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import torch
from mmengine.logging import HistoryBuffer
from torch import Tensor, nn

from mmplugins.checkpoint import CheckpointError
from mmplugins.compat.patches.checkpoints import allowed

_PLAIN = (type(None), bool, int, float, str, bytes, torch.Size, torch.dtype, torch.device)
_WHOLE = (Tensor, nn.Parameter, HistoryBuffer)


def readable(checkpoint: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A checkpoint without what the safe reader would refuse.

    Types that stand for plain ones (a ``deque``, a ``ConfigDict``, a ``Path``) become those.
    Functions in the state of a scheduler are left out in silence: the scheduler that goes on from
    the state has its own.

    Args:
        checkpoint: As mmengine is about to write it; stays as it is.

    Returns:
        What to write, and the places of what was left out, with its type.

    Raises:
        CheckpointError: If weights are among it.
    """
    left_out: dict[str, Any] = {}
    kept = _kept(checkpoint, "", left_out)
    weights = [place for place in left_out if place.startswith("state_dict.")]
    if weights:
        raise CheckpointError(
            f"{weights[0]} of the model's state_dict is a {type(left_out[weights[0]]).__name__}, "
            "which could not be read back: expected tensors and plain data from get_extra_state()"
        )
    silent = [
        place
        for place, value in left_out.items()
        if place.startswith("param_schedulers.") and callable(value)
    ]
    return kept, [f"{p} ({type(v).__name__})" for p, v in left_out.items() if p not in silent]


class _Unreadable(Exception):
    """A value with no readable form."""


def _kept(value: Any, place: str, left_out: dict[str, Any]) -> Any:
    """The readable form of a value: itself, if all of it is readable."""
    kind = type(value)
    if kind in _PLAIN or kind in _WHOLE:
        return value
    if kind in (dict, OrderedDict):
        return _kept_items(value, place, left_out)
    if kind in (list, tuple):
        found = [_kept(one, f"{place}.{n}".lstrip("."), left_out) for n, one in enumerate(value)]
        return value if all(a is b for a, b in zip(found, value, strict=True)) else kind(found)
    if _comes_back(value):
        return value
    if isinstance(value, Tensor):
        return value.as_subclass(Tensor).detach()
    if isinstance(value, Mapping):
        return _kept_items(dict(value), place, left_out)
    if isinstance(value, list | tuple | deque):
        return [_kept(one, place, left_out) for one in value]
    if isinstance(value, str | PurePath):
        return str(value)
    raise _Unreadable


def _kept_items(items: dict, place: str, left_out: dict[str, Any]) -> dict:
    found, changed = type(items)(), False
    for key, value in items.items():
        where = f"{place}.{key}".lstrip(".")
        try:
            found[key] = _kept(value, where, left_out)
            changed |= found[key] is not value
        except _Unreadable:
            left_out[where] = value
            changed = True
    return found if changed else items


def _comes_back(value: Any) -> bool:
    file = io.BytesIO()
    torch.serialization.add_safe_globals(list(allowed()))
    try:
        torch.save(value, file)
        file.seek(0)
        torch.load(file, weights_only=True)
    except Exception:  # pickle, torch and the object itself have their own
        return False
    return True
