"""Files of code bases that name a network's modules otherwise, and keep them in the same order.

torchvision numbers the modules of its MobileNets and EfficientNets through (``features.3.conv.0``),
EfficientNet-PyTorch puts underscores before their names. timm has the same convolutions and norms
in the same order, so order and shapes tell which is which.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Size, Tensor

MARKERS = {"torchvision": r"features\.0\.", "EfficientNet-PyTorch": r"_conv_stem\."}
"""Regular expressions that some key of such a code base matches from its beginning."""

_Modules = dict[str, dict[str, Size]]


def numbered_layout(keys: Iterable[str]) -> str | None:
    """Which of these code bases wrote a file, or None."""
    keys = list(keys)
    for name, marker in MARKERS.items():
        if any(re.match(marker, key) for key in keys):
            return name
    return None


def as_classifier(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The body of one of torchvision's detectors, ``3.conv.0``, named as in a classifier."""
    if not any(key.startswith("0.0.") for key in tensors):
        return tensors
    return {f"features.{k}" if k[:1].isdigit() else k: value for k, value in tensors.items()}


def names_by_order(
    tensors: Mapping[str, Tensor], own: Mapping[str, Size], needed: Iterable[str]
) -> dict[str, str]:
    """Name in our model for each key of a file of such a code base.

    A file that safetensors wrote has lost the order of its modules; their numbers give it back.

    Args:
        tensors: State dict.
        own: Shapes of the whole model's tensors by name, in the order of its modules.
        needed: Names without which there is no match: those outside may differ (the classifier).

    Returns:
        Names by keys, empty if the file is of another code base or another network.
    """
    if numbered_layout(tensors) is None:
        return {}
    theirs = _modules({key: value.shape for key, value in tensors.items()})
    needed = set(needed)
    for order in (list(theirs), sorted(theirs, key=_number)):
        found = _pair({path: theirs[path] for path in order}, _modules(own))
        if needed <= set(found.values()):
            return found
    return {}


def _modules(shapes: Mapping[str, Size]) -> _Modules:
    """Shapes by module, then by the tensor's own name."""
    modules: _Modules = {}
    for key, shape in shapes.items():
        path, _, name = key.rpartition(".")
        modules.setdefault(path, {})[name] = shape
    return modules


def _number(path: str) -> tuple:
    """Key that sorts ``features.2`` before ``features.10``, and the classifier to the end."""
    words = path.split(".")
    numbers = [(0, int(word), "") if word.isdigit() else (1, 0, word) for word in words[1:]]
    return words[0] != "features", words[0], numbers


def _pair(theirs: _Modules, ours: _Modules) -> dict[str, str]:
    found: dict[str, str] = {}
    for (path, tensors), (own_path, wanted) in zip(theirs.items(), ours.items(), strict=False):
        if any(_plain(tensors.get(name)) != _plain(shape) for name, shape in wanted.items()):
            break  # the classifier of other classes, or another network
        found |= {f"{path}.{name}": f"{own_path}.{name}" for name in wanted}
    return found


def _plain(shape: Size | None) -> tuple | None:
    """A shape without the ones of a pointwise kernel."""
    if shape is None:
        return None
    return tuple(shape[:2]) if tuple(shape[2:]) == (1, 1) else tuple(shape)
