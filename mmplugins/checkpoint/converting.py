"""Conversion of weight files between the layouts of the code bases that use them, exactly."""

from __future__ import annotations

import re
from dataclasses import dataclass

from torch import Tensor

from mmplugins.backbones.catalog import families
from mmplugins.backbones.key_layouts import (
    KeyLayout,
    find_layout,
    from_native,
    rename,
    to_native,
)
from mmplugins.utils import few

from .identity import NATIVE, Identity, identify, skeleton
from .payload import Weights
from .reading import CheckpointError
from .zoo import licence_of

TARGETS = ("mmplugins", "official", "timm")
"""Layouts to convert to."""

_OURS = (("head", "head"),)


@dataclass
class Conversion:
    """Weights in another layout.

    Attributes:
        tensors: By the new keys, the classifier included if the file had one.
        identity: What they are.
        layout: The layout they are in now, None for our own.
        left_out: Keys of the source that have no place there: necks and heads of detectors, and
            output norms where the other code base has none.
        license: Licence of the weights, ``''`` if it is not known.
    """

    tensors: dict[str, Tensor]
    identity: Identity
    layout: KeyLayout | None
    left_out: list[str]
    license: str = ""


def convert(weights: Weights, to: str) -> Conversion:
    """Rename and reshape the weights of a published backbone for another code base.

    Values and dtypes stay as they are to the bit, so the way back gives the file one started from,
    but for what is left out. The deployed form of RIFormer keeps its form.

    Args:
        weights: As :func:`find_weights` returns them; of a backbone, a classifier, a detector.
        to: One of ``'mmplugins'``, ``'official'`` (the code that published the weights) and
            ``'timm'``. Our own layout keeps a classifier below ``head.``, which loading passes by.

    Raises:
        ValueError: If ``to`` is unknown, or that code base does not have this backbone.
        CheckpointError: If the weights are not those of one published backbone, whole.
    """
    if to not in TARGETS:
        raise ValueError(f"to={to!r}: expected one of {', '.join(TARGETS)}")
    identity = identify(weights.tensors)
    if identity is None:
        raise CheckpointError(
            f"{weights.source}: no backbone of the suite has such weights, so there are no rules "
            "to rename them by"
        )
    native, left_out = _with_classifier(weights, identity)
    out_norms = {key.split(".")[1] for key in native if key.startswith("out_norms.")}
    target = _target(identity, to, final_norm=out_norms == {"3"} and "head.fc.weight" not in native)
    source = next(
        (one for one in families()[identity.family].layouts if one.name == identity.layout), None
    )
    licence = licence_of(weights.source, source)
    if target is None:
        return Conversion(native, identity, None, left_out, licence)
    depths = skeleton(identity.backbone).depths
    places = {ours: "" for ours, _ in target.pairs(depths)}
    left_out += [k for k in native if k.startswith("out_norms.") and rename(k, places) is None]
    converted = from_native(native, target, depths)
    return Conversion(converted, identity, target, left_out, licence)


def _target(identity: Identity, to: str, final_norm: bool) -> KeyLayout | None:
    """The layout to convert to; ``final_norm`` says that the last output alone has a norm."""
    if to == NATIVE:
        return None
    if to == "timm":
        import timm

        names = (identity.backbone, *identity.same_as)
        if not any(map(timm.is_model, names)):
            raise ValueError(f"to='timm': timm has no {' or '.join(names)}")
    # RIFormer was published within mmpretrain, which is its official code.
    names = ("timm",) if to == "timm" else ("official", "mmpretrain")
    layouts = families()[identity.family].layouts
    candidates = [layout for layout in layouts if layout.name in names]
    without_classifier = dict(timm="timm, no classifier", official="official, DINOv3")[to]
    for layout in layouts:
        if final_norm and layout.name == without_classifier:
            return layout
    # A family may have more than one: hybrids with an embedding count their parts otherwise.
    fitting = (layout for layout in candidates if _fits(layout, identity.backbone))
    return next(fitting, candidates[0])


def _fits(layout: KeyLayout, backbone: str) -> bool:
    """Whether a layout recognises what it makes of a backbone, before more general ones do."""
    model = skeleton(backbone)
    theirs = from_native(model.state_dict(), layout, model.depths)
    bare = [key.removeprefix(layout.prefix) for key in theirs]
    marked = [key for key in bare if not key.startswith("norm")]  # output norms mark dense models
    return find_layout(marked, model.layouts) is layout


def _with_classifier(weights: Weights, identity: Identity) -> tuple[dict[str, Tensor], list[str]]:
    """Body by our names and shapes, the classifier below ``head.``; and keys of anything else."""
    model = skeleton(identity.backbone)
    below = weights.below(identity.prefix)
    wanted = {key for key in model.state_dict() if not key.startswith("out_norms.")}
    missing = sorted(wanted - set(model.convert_state_dict(below)))
    if missing:
        raise CheckpointError(
            f"{weights.source} resembles {identity.backbone} but lacks {len(missing)} of its "
            f"tensors ({few(missing, 3)}): only whole published backbones are converted"
        )
    layout = find_layout(below, model.layouts)
    shapes = {key: value.shape for key, value in model.state_dict().items()}
    native = dict(to_native(below, model.layouts, model.depths, shapes))
    left_out = []
    to_ours = {theirs: ours for ours, theirs in (layout.classifier if layout else _OURS)}
    for key, value in weights.tensors.items():
        inside = key.startswith(identity.prefix)
        rest = key.removeprefix(identity.prefix)
        if inside and (not re.match(layout.absent, rest) if layout else rest in native):
            continue  # the body
        # A layout with a prefix of its own names the classifier as it stands in the whole file.
        whole = layout is not None and layout.prefix
        head = rename(key if whole else rest, to_ours) if inside or whole else None
        if head:
            native[head] = value
        else:
            left_out.append(key)
    return native, left_out
