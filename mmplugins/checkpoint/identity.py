"""What a state dict is: family, variant and layout, told by its keys and shapes."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mmplugins.backbones.catalog import build_backbone, families
from mmplugins.backbones.key_layouts import find_layout
from mmplugins.backbones.pyramid import PyramidBackbone

from .payload import find_prefixes

NATIVE = "mmplugins"
"""Name of our own layout."""

_BLOCK = re.compile(r"stages[._](\d)\.blocks\.(\d+)\.")


@dataclass(frozen=True)
class Identity:
    """The published backbone nearest to a state dict.

    Attributes:
        backbone: Name as in ``list_backbones()``, for example ``'poolformer_s12'``.
        family: Its first part, a key of ``families()``.
        layout: Whose names the keys are: ``'official'``, ``'timm'`` ... or ``'mmplugins'``.
        prefix: What stands before them.
        agreeing: Tensors of that backbone that the dict has, in the right shape.
        tensors: Tensors of that backbone.
        foreign: Tensors of the dict's stem and stages that this backbone does not have.
        same_as: Other backbones that differ in parts without weights only and hence have the same
            tensors, as PoolFormerV2 and IdentityFormer do.
    """

    backbone: str
    family: str
    layout: str
    prefix: str
    agreeing: int
    tensors: int
    foreign: int
    same_as: tuple[str, ...] = ()

    @property
    def exact(self) -> bool:
        """Whether the dict holds the whole backbone and nothing more of a stem or stage."""
        return self.agreeing == self.tensors and not self.foreign

    @property
    def share(self) -> float:
        """Agreeing tensors out of those on either side, 0 to 1."""
        return self.agreeing / (self.tensors + self.foreign)


def identify(state_dict: Mapping[str, Tensor], only: str | None = None) -> Identity | None:
    """Find the published backbone that a state dict holds, or the one nearest to it.

    Args:
        state_dict: Tensors by key, in any layout; a whole detector's serves as well.
        only: Restrict the search to one family. Defaults to None, all of them.

    Returns:
        The nearest backbone, or None if nothing in the dict looks like one of the suite.
    """
    outline = {key: value.to("meta") for key, value in state_dict.items()}
    sizes = {size for value in outline.values() for size in value.shape[:1]}
    candidates = []
    for family, cls in families().items():
        if only not in (None, family):
            continue
        for prefix in find_prefixes(outline, cls.layouts)[:1]:
            below = {k[len(prefix) :]: v for k, v in outline.items() if k.startswith(prefix)}
            candidates += [
                (below, prefix, family, arch)
                for arch, variant in cls.variants.items()
                if sizes.issuperset(variant.dims[:1])
            ]
    # Where names tell the depths, variants of the same depths come first, to save time.
    alike = [c for c in candidates if _depths(c[0]) == families()[c[2]].variants[c[3]].depths]
    found = [_compare(*candidate) for candidate in alike or candidates]
    best = max(found, key=_rank, default=None)
    if best is None or not best.agreeing:
        return None
    others = [i.backbone for i in found if _rank(i) == _rank(best) and i.prefix == best.prefix]
    others.remove(best.backbone)
    return replace(best, same_as=tuple(others))


def _depths(keys: Iterable[str]) -> tuple[int, ...]:
    """Blocks in each stage, of names like ours and timm's."""
    blocks = {match.groups() for key in keys if (match := _BLOCK.match(key))}
    stages = Counter(stage for stage, _ in blocks)
    return tuple(stages[stage] for stage in sorted(stages))


def _rank(identity: Identity) -> tuple[float, int]:
    return identity.share, identity.agreeing


def _compare(below: Mapping[str, Tensor], prefix: str, family: str, arch: str) -> Identity:
    model = skeleton(f"{family}_{arch}")
    layout = find_layout(below, model.layouts)
    native = model.convert_state_dict(below)
    own = {k: v.shape for k, v in model.state_dict().items() if not k.startswith("out_norms.")}
    body = [key for key in native if key.startswith(("stem.", "stages."))]
    agreeing = sum(key in own and own[key] == native[key].shape for key in body)
    return Identity(
        backbone=f"{family}_{arch}",
        family=family,
        layout=layout.name if layout else NATIVE,
        prefix=prefix,
        agreeing=agreeing,
        tensors=len(own),
        foreign=len(body) - agreeing,
    )


@functools.cache
def skeleton(name: str) -> PyramidBackbone:
    """A published backbone with shapes and no data, kept for the next question.

    Args:
        name: As in ``list_backbones()``.
    """
    with torch.device("meta"):
        return build_backbone(name)
