"""The same network, with the same weights, as other code bases run it."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mmplugins.backbones.catalog import list_backbones
from mmplugins.backbones.key_layouts import WHOLE_MODEL, from_native
from mmplugins.backbones.timm_backbone import TimmBackbone

from .models import MMPRETRAIN_FAMILIES, build_model, show_every_part
from .palette import timm_family
from .rows import MMPRETRAIN, TIMM, Row, unique, with_options
from .subjects import Subject

PEER_FORMS = ("plain", "channels_last", "compile", "compile,channels_last")
"""Forms in which a peer runs."""

TOLERANCE = 1e-4
"""Largest difference of a peer's maps, relative to their largest value, in float32."""


def with_peers(rows: list[Row]) -> list[Row]:
    """The rows, followed by their peers in all forms, in the dtype of the row.

    Peers are of other code bases, as far as they are installed and have the backbone.
    """
    import timm

    added = []
    for row in rows:
        if row.whole or row.name.startswith((TIMM, MMPRETRAIN)):
            continue
        dtype = ",".join(option for option in ("bf16", "fp16") if getattr(row, option))
        peers = [TIMM + row.name] if timm.is_model(row.name) else []
        known = row.name.rpartition("_")[0] in MMPRETRAIN_FAMILIES
        if known and importlib.util.find_spec("mmpretrain"):
            peers.append(MMPRETRAIN + row.name)
        added += [
            with_options(with_options(Row(peer), dtype), form)
            for peer in peers
            for form in PEER_FORMS
        ]
    return unique([*rows, *added])


def origin(row: Row) -> str:
    """Our name of the backbone that a row is or is a peer of."""
    return row.name.removeprefix(TIMM).removeprefix(MMPRETRAIN)


def peer_weights(row: Row, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our weights by the names, and in the shapes, of a peer.

    Raises:
        ValueError: If a tensor has no place there.
    """
    wanted = build_model(row).state_dict()
    ours = build_model(Row(origin(row)), dict(out_norm=None))
    before = "body." if row.name.startswith(TIMM) else ""
    named = [
        {before + key.removeprefix(WHOLE_MODEL): value for key, value in theirs.items()}
        for layout in ours.layouts
        for theirs in [from_native(dict(weights), layout, ours.depths)]
    ]
    best = min(named, key=lambda theirs: len(set(theirs) ^ set(wanted)))
    missing = sorted(set(best) ^ set(wanted))
    if missing:
        raise ValueError(f"{row.name}: keys without a counterpart: {', '.join(missing[:4])}")
    return {key: value.reshape(wanted[key].shape) for key, value in best.items()}


def check_equal(subject: Subject, maps: tuple[Tensor, ...], images: Tensor) -> None:
    """Check that a peer computes the same feature maps.

    Raises:
        ValueError: If they differ by more than :data:`TOLERANCE` of the largest value.
    """
    theirs: tuple[Tensor, ...] = subject.infer(images)
    if len(theirs) != len(maps):
        raise ValueError(f"{subject.row.label}: {len(theirs)} maps, expected {len(maps)}")
    for stage, (ours, other) in enumerate(zip(maps, theirs, strict=True)):
        if ours.shape != other.shape:
            raise ValueError(f"stage {stage}: {tuple(other.shape)}, ours {tuple(ours.shape)}")
        difference = ((ours - other).abs().max() / ours.abs().max()).item()
        if not difference <= TOLERANCE:
            raise ValueError(
                f"{subject.row.label} is not the same function: stage {stage} differs by "
                f"{difference:.1e} of the largest value, more than {TOLERANCE}"
            )


class Peers:
    """Weights that rows share, and the proof that equal weights give equal maps."""

    size = (96, 64)
    """Size of the images of the proof."""

    def __init__(self):
        self._weights: dict[str, dict[str, Tensor]] = {}
        self._proven: dict[str, dict[str, Tensor]] = {}

    def settings_of(self, row: Row) -> tuple[dict[str, Tensor] | None, dict[str, Any]]:
        """Weights and further arguments of a row, or ``(None, {})`` if it has nothing to share.

        Raises:
            ValueError: If a peer's maps are not ours.
        """
        name = origin(row)
        if row.whole or name not in list_backbones():
            return None, {}
        if name not in self._weights:
            model = build_model(Row(name), dict(out_norm=None))
            self._weights[name] = dict(show_every_part(model).state_dict())
        weights = self._weights[name]
        if name == row.name:
            return weights, dict(out_norm=None)
        if row.name not in self._proven:
            theirs = peer_weights(row, weights)
            ours = Subject(Row(name), weights=weights, out_norm=None)
            images = ours.images(self.size, 2)
            check_equal(Subject(Row(row.name), weights=theirs), ours.infer(images), images)
            self._proven[row.name] = theirs
        return self._proven[row.name], {}


def family_of(subject: Subject) -> str:
    """Family of a row's backbone, in lower case, for colours and groups."""
    backbone = subject.backbone
    if isinstance(backbone, TimmBackbone):
        return timm_family(backbone.body.pretrained_cfg["architecture"])
    return type(backbone).__name__.lower()
