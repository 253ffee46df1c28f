"""The colour and marker of each family and of each part of a network, the same in all plots."""

from __future__ import annotations

import re
from zlib import crc32

FAMILIES = {
    "poolformer": ("#0072b2", "o"),
    "poolformerv2": ("#4fb3e8", "s"),
    "riformer": ("#7b4fb5", "v"),
    "identityformer": ("#8c8c8c", "X"),
    "randformer": ("#b8860b", "P"),
    "convformer": ("#009e73", "^"),
    "caformer": ("#d55e00", "D"),
    "smlpnet": ("#cc5fa0", "h"),
    "convnext": ("#7a9a01", "<"),
    "resnet": ("#333333", "p"),
    "pvt": ("#8b5a2b", ">"),
}
"""Colour and marker by family; colours differ also for eyes that see no red or no green."""

OTHERS = ("#6a5acd", "#2e8b8b", "#a0522d", "#5f7f3f", "#b03060", "#4682b4")
"""Colours of families that are not listed; one family always has the same."""

PARTS = {
    "stem": "#c9d3dc",
    "stage 0": "#8cc5e3",
    "stage 1": "#4a9cc9",
    "stage 2": "#1f6fa8",
    "stage 3": "#0b3c6f",
    "backbone": "#1f6fa8",
    "neck": "#e8a33d",
    "head": "#c8553d",
    "up to stage 0": "#a9cfe3",
    "output norms": "#b7a3d0",
    "rest": "#b7a3d0",
}
"""Colours of the parts that time is split by."""


def family_style(family: str | None) -> tuple[str, str]:
    """Colour and marker of a family."""
    family = (family or "").lower()
    return FAMILIES.get(family, (OTHERS[crc32(family.encode()) % len(OTHERS)], "o"))


def part_color(part: str, position: int) -> str:
    """Colour of a part, or for an unknown name one by its position."""
    return PARTS.get(part, OTHERS[position % len(OTHERS)])


def timm_family(name: str) -> str:
    """Family of a timm model: ``'poolformerv2'`` of ``'poolformerv2_s12'``, ``'resnet'`` of
    ``'resnet50.a1_in1k'``."""
    found = re.match(r"[a-z]+?(?:v\d+)?(?![a-z])", name)
    return found[0] if found else name
