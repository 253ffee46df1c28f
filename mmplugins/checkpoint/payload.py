"""From what a file holds to the weights in it: which dict, and under which prefix."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from mmplugins.backbones.key_layouts import KeyLayout, find_layout
from mmplugins.backbones.pyramid import PyramidBackbone
from mmplugins.utils import few

from .reading import CheckpointError

PAYLOADS = (
    "state_dict_ema",
    "model_ema",
    "ema",
    "module",
    "state_dict",
    "model",
    "model_state_dict",
    "teacher",
    "ema_state_dict",
)
"""Where training scripts put weights, the first that is there counts.

timm, ConvNeXt and RT-DETR (``ema.module``) save averaged weights beside the raw ones, and report
the averaged. mmengine saves the averaged ones as ``state_dict`` (its ``ema_state_dict`` then holds
the raw ones), so that name comes last. DINO's teacher is the average of its student. A dict under
any other name counts if it is the only one with weights.
"""

_WRAPPERS = re.compile(r"(^|\.)(?:module|_orig_mod)\.")  # DataParallel, EMA; torch.compile
_COUNTER = re.compile(r"(^|.*\.)n_averaged$")  # of torch's AveragedModel, beside `module.`
_FLAT_EMA = re.compile(r"ema_[^.]*$")  # mmcv 1.x kept averages as buffers with dots written _
_BODY = re.compile(r"(stem|stages)\.")


@dataclass
class Weights:
    """The weights of a file.

    Attributes:
        tensors: By key, without the names that wrappers put before them.
        source: The file, for messages.
        payload: Key of the file's dict that held them, or ``''`` for the file itself.
    """

    tensors: dict[str, Tensor]
    source: str
    payload: str = ""

    def below(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose keys begin with ``prefix``, without it."""
        return {k[len(prefix) :]: v for k, v in self.tensors.items() if k.startswith(prefix)}


def find_weights(content: Mapping[str, Any], source: str | Path) -> Weights:
    """Find the state dict in what a file holds.

    Args:
        content: As :func:`read_checkpoint` returns it.
        source: The file, for messages.

    Raises:
        CheckpointError: If there is none; the message lists what is there instead.
    """
    payload, mapping = "", content
    while True:
        known = [name for name in PAYLOADS if isinstance(mapping.get(name), Mapping)]
        others = [] if known else [name for name, value in mapping.items() if _may_hold(value)]
        name = known[0] if known else others[0] if len(others) == 1 else None
        if name is None or _has_tensors(mapping):
            break
        payload, mapping = f"{payload}.{name}".lstrip("."), mapping[name]
    tensors = {
        unwrapped(key): value
        for key, value in mapping.items()
        if isinstance(value, Tensor)
        and isinstance(key, str)
        and not (_FLAT_EMA.match(key) or _COUNTER.match(key))
    }
    if payload.endswith("ema_state_dict"):
        tensors.pop("steps", None)
    if not tensors:
        held = few(list(content), 8) or "nothing"
        raise CheckpointError(
            f"{source} holds no state dict: expected tensors by key, bare or under one of "
            f"{', '.join(PAYLOADS)}; it holds {held}"
        )
    return Weights(tensors, str(source), payload)


def _has_tensors(mapping: Mapping[Any, Any]) -> bool:
    return any(isinstance(value, Tensor) for value in mapping.values())


def _may_hold(value: Any) -> bool:
    """Whether a part of a file is a state dict, or a dict with one under a known name."""
    return isinstance(value, Mapping) and (
        _has_tensors(value) or any(isinstance(value.get(name), Mapping) for name in PAYLOADS)
    )


def dataset_names(content: Mapping[str, Any], source: str | Path) -> dict[str, Any]:
    """What a file says of the classes it was trained on: ``classes`` and ``palette``, if it does.

    Args:
        content: As :func:`read_checkpoint` returns it, of any version of OpenMMLab.
        source: The file, for messages.

    Raises:
        CheckpointError: If they are no names, or no colours.
    """
    meta = content.get("meta")
    meta = meta if isinstance(meta, Mapping) else {}
    given = meta.get("dataset_meta")
    given = (
        given if isinstance(given, Mapping) else {k: meta.get(k) for k in ("CLASSES", "PALETTE")}
    )
    found = {str(k).lower(): v for k, v in given.items() if v is not None}
    for name, expected in (("classes", "names"), ("palette", "colours of three numbers")):
        if name in found and not _NAMING[name](found[name]):
            raise CheckpointError(
                f"{source}: {name} in its meta is a {type(found[name]).__name__} that holds no "
                f"{expected}. Take another file, or its weights alone (meta=dict())"
            )
    return {name: found[name] for name in _NAMING if name in found}


def _are_names(value: Any) -> bool:
    if isinstance(value, str):
        return True
    return isinstance(value, list | tuple) and all(isinstance(one, str | int) for one in value)


def _are_colours(value: Any) -> bool:
    if isinstance(value, str):  # mmdet's name of a palette
        return True
    return isinstance(value, list | tuple) and all(
        isinstance(one, list | tuple)
        and len(one) == 3
        and all(type(part) in (int, float) and 0 <= part <= 255 for part in one)
        for one in value
    )


_NAMING = dict(classes=_are_names, palette=_are_colours)


def unwrapped(key: str) -> str:
    """Take the names of wrappers (``module.``, ``_orig_mod.``) out of a key."""
    previous = None
    while key != previous:
        previous, key = key, _WRAPPERS.sub(r"\1", key)
    return key


def find_prefixes(keys: Iterable[str], layouts: Sequence[KeyLayout]) -> list[str]:
    """Prefixes below which a backbone of one of the layouts, or of our own, stands.

    Args:
        keys: Keys of a state dict.
        layouts: Foreign layouts to look for.

    Returns:
        The prefixes, the one with most keys first; ``''`` if the dict is the backbone's. What has
        less than a third of the first one's keys is a namesake, not a backbone, and left out.
    """
    found = Counter({p: body_size(rest, layouts) for p, rest in _below(keys).items()})
    most = max(found.values(), default=0)
    return [prefix for prefix, size in found.most_common() if size and 3 * size >= most]


def prefixes_that_fit(tensors: Mapping[str, Tensor], model: PyramidBackbone) -> list[str]:
    """Prefixes below which a backbone that has no layouts stands: those that fill most of it.

    Args:
        tensors: State dict.
        model: The backbone, whose own conversion tells what fits.

    Returns:
        The prefixes, the best one first: of equal ones that with the least left over, then the
        shortest. What fills less than half of the backbone is left out.
    """
    own = model.state_dict().keys()
    found: dict[str, tuple[int, int, int]] = {}
    for prefix, rest in _below(tensors).items():
        if 2 * len(rest) < len(own):
            continue
        native = model.convert_state_dict({key: tensors[prefix + key] for key in rest})
        fits = len(own & native.keys())
        if 2 * fits >= len(own):
            found[prefix] = -fits, len(rest) - fits, len(prefix)
    return sorted(found, key=lambda prefix: found[prefix])


def _below(keys: Iterable[str]) -> dict[str, list[str]]:
    """Keys by the dotted words before them, without these."""
    below: dict[str, list[str]] = {}
    for key in keys:
        prefix = ""
        while True:
            below.setdefault(prefix, []).append(key[len(prefix) :])
            head, dot, _ = key[len(prefix) :].partition(".")
            if not dot or prefix.count(".") >= 6:
                break
            prefix += head + dot
    return below


def body_size(keys: Sequence[str], layouts: Sequence[KeyLayout]) -> int:
    """How many keys name a part of a stem or stage, in our names or in one of the layouts."""
    layout = find_layout(keys, layouts)
    depths = (64,) * 4  # more blocks than any model has: only the beginnings of names count here
    theirs = {theirs for _, theirs in layout.pairs(depths)} if layout else set()
    native = sum(bool(_BODY.match(key)) for key in keys)
    if not theirs:
        # `stages.` alone is a word of many models; a body has a stem too.
        return native if any(key.startswith("stem.") for key in keys) else 0
    return max(native, sum(_begins_with(key, theirs) for key in keys))


def _begins_with(key: str, prefixes: set[str]) -> bool:
    while key:
        if key in prefixes:
            return True
        key = key.rpartition(".")[0]
    return False
