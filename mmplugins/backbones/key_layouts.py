"""Key layouts: how the names in a foreign state dict map to ours, in both directions.

Our own names follow timm's MetaFormer (``stem.conv``, ``stages.i.downsample``,
``stages.i.blocks.j``). A family file states every other layout of its weights as pairs of
prefixes, ours first; this file applies them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Size, Tensor

NamePairs = Iterable[tuple[str, str]]

NO_KEY = r"(?!)"
"""Regular expression that matches nothing."""

DINOV3_LICENSE = (
    "DINOv3 License, which limits use: https://ai.meta.com/resources/models-and-libraries/\
dinov3-license"
)
"""Licence of all weights of DINOv3, whoever hosts them."""

WHOLE_MODEL = "backbone."
"""Where OpenMMLab's classifiers, detectors and segmentors keep their backbone."""


@dataclass(frozen=True)
class KeyLayout:
    """How one code base names the weights of a family.

    Attributes:
        name: For people: ``'official'``, ``'timm'``, ``'mmpretrain'`` ...
        marker: Regular expression that some key of this layout, and of no other, matches from its
            beginning. Layouts are recognised by their keys, never by file names.
        pairs: From the depths of a model to pairs of prefixes ``(ours, theirs)``. A prefix stands
            for itself and for everything below it; of several that fit, the longest counts.
        absent: Regular expression of keys that have no place in a backbone (the classifier).
        beside: Regular expression that another key must match, ``''`` for none.
        without: Regular expression that no key may match.
        remark: What a user who loads such a file should know.
        license: Licence of the weights, where all files of this layout have the same.

    The attributes below serve the way back, from our names to a file that the other code base
    reads.

    Attributes:
        classifier: Pairs of prefixes of the classifier, ``head.norm`` and ``head.fc`` being ours
            (and timm's).
        linear: Regular expression of our keys whose pointwise weights are ``[O, I]`` there.
        conv: The same for ``[O, I, 1, 1]``. All others have our shape.
        prefix: What stands before the keys of the backbone in a file.
        payload: Key in the file under which the state dict stands, or ``''`` for a bare one.
    """

    name: str
    marker: str
    pairs: Callable[[Sequence[int]], NamePairs]
    absent: str = r"(head|norm)\."
    beside: str = ""
    without: str = NO_KEY
    remark: str = ""
    license: str = ""
    classifier: tuple[tuple[str, str], ...] = (("head.norm", "norm"), ("head.fc", "head"))
    linear: str = NO_KEY
    conv: str = NO_KEY
    prefix: str = ""
    payload: str = ""

    def recognises(self, keys: Iterable[str]) -> bool:
        """Whether a state dict with these keys is in this layout."""
        keys = list(keys)
        marks = (self.marker, self.beside)
        return all(any(re.match(mark, key) for key in keys) for mark in marks) and not any(
            re.match(self.without, key) for key in keys
        )


def rename(key: str, pairs: Mapping[str, str]) -> str | None:
    """Replace the longest prefix of ``key`` (whole dotted words) that ``pairs`` holds.

    Returns:
        The new key, or None if no prefix of the key is known.
    """
    head = key
    while head:
        if head in pairs:
            return pairs[head] + key[len(head) :]
        head = head.rpartition(".")[0]
    return None


def find_layout(keys: Iterable[str], layouts: Sequence[KeyLayout]) -> KeyLayout | None:
    """The first layout whose marker some key shows, or None."""
    keys = list(keys)
    return next((layout for layout in layouts if layout.recognises(keys)), None)


def to_native(
    state_dict: Mapping[str, Tensor],
    layouts: Sequence[KeyLayout],
    depths: Sequence[int],
    shapes: Mapping[str, Size],
) -> Mapping[str, Tensor]:
    """Rename a foreign state dict to our names.

    In a file of a whole model the backbone's keys stand below ``backbone.``; all others are left
    out. So are keys of the classifier. Keys that no rule knows stay as they are. Pointwise weights
    change between ``[O, I]`` and ``[O, I, 1, 1]`` as the model wants them.

    Args:
        state_dict: Tensors by key.
        layouts: Foreign layouts of the family.
        depths: Blocks in each stage of the model.
        shapes: Shapes of the model's own tensors by key.

    Returns:
        A new dict, or ``state_dict`` itself if it is bare and in none of the layouts.
    """
    part = {
        key.removeprefix(WHOLE_MODEL): value
        for key, value in state_dict.items()
        if key.startswith(WHOLE_MODEL)
    }
    # A classifier stands beside the backbone, and tells the layout too.
    layout = find_layout([key.removeprefix(WHOLE_MODEL) for key in state_dict], layouts)
    state_dict = part or state_dict
    to_ours = {theirs: ours for ours, theirs in layout.pairs(depths)} if layout else {}
    renamed = {}
    changed = layout is not None
    for key, value in state_dict.items():
        if layout and re.match(layout.absent, key):
            continue
        ours = rename(key, to_ours) or key
        wanted = shapes.get(ours)
        if wanted is not None and value.shape != wanted and pointwise(value.shape, wanted):
            value = value.reshape(wanted)
            changed = True
        renamed[ours] = value
    return renamed if changed else state_dict


def from_native(
    state_dict: Mapping[str, Tensor], layout: KeyLayout, depths: Sequence[int]
) -> dict[str, Tensor]:
    """Rename a state dict with our names to a foreign layout, the reverse of :func:`to_native`.

    Args:
        state_dict: Tensors by our keys, those of a classifier below ``head.norm`` and ``head.fc``.
        layout: The foreign layout.
        depths: Blocks in each stage of the model.

    Returns:
        A new dict. Output norms are left out if the layout has no place for them, and written twice
        if it has two.
    """
    first: dict[str, str] = {}
    second: dict[str, str] = {}
    classifier = dict(layout.classifier)
    for ours, other in layout.pairs(depths):
        (second if ours in first else first)[ours] = other
    renamed = {}
    for key, value in state_dict.items():
        if key.startswith("head."):
            theirs = rename(key, classifier)
        else:
            theirs = rename(key, first)
            if theirs is None and not key.startswith("out_norms."):
                theirs = key
            theirs = theirs and layout.prefix + theirs
        if theirs is None:
            continue
        if re.match(layout.linear, key) and value.shape[2:] == (1, 1):
            value = value.flatten(1)
        elif re.match(layout.conv, key):
            value = value.reshape(tuple(value.shape) + (1,) * (4 - value.ndim))
        renamed[theirs] = value
        if again := rename(key, second):
            renamed[layout.prefix + again] = value
    return renamed


def pointwise(shape: Size, wanted: Size) -> bool:
    """Whether two weights differ only in trailing ones, those of a pointwise kernel."""
    longer, shorter = sorted((tuple(shape), tuple(wanted)), key=len, reverse=True)
    return longer == shorter + (1,) * (len(longer) - len(shorter))


def _timm_flat_pairs(depths: Sequence[int]) -> NamePairs:
    return [("stem", "stem"), *((f"stages.{i}", f"stages_{i}") for i in range(len(depths)))]


TIMM = KeyLayout(
    "timm", r"head\.", lambda depths: (), absent=r"head\.", classifier=(("head", "head"),)
)
"""timm's MetaFormer: our own names, and a classifier."""

TIMM_FLAT = KeyLayout("timm features_only", r"stages_0\.", _timm_flat_pairs)
"""timm's MetaFormer with ``features_only=True``, which writes ``stages_0`` for ``stages.0``."""
