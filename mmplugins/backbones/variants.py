"""A published variant of a backbone as one row of data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mmplugins.utils import did_you_mean


@dataclass(frozen=True)
class Variant:
    """One row of a paper's table of variants, four stages each.

    Attributes:
        depths: Blocks in each stage.
        dims: Channels of each stage.
        params: Published parameters of the ImageNet classifier, in millions.
        macs: Published multiply-accumulates at 224x224, in billions.
        top1: Published ImageNet-1K accuracy at 224x224, in percent.
        drop_path: Drop path rate of the published classification training.
        settings: Further constructor arguments that tell this variant from its family's defaults.
    """

    depths: tuple[int, ...]
    dims: tuple[int, ...]
    params: float | None = None
    macs: float | None = None
    top1: float | None = None
    drop_path: float = 0.0
    settings: Mapping[str, Any] = field(default_factory=dict)


def resolve_variant(
    arch: str | Mapping[str, Any], variants: Mapping[str, Variant], family: str
) -> Variant:
    """Look ``arch`` up in a family's table, or make a variant of a dict with the same fields.

    Args:
        arch: Name of a published variant (``'s12'``) or ``dict(depths=..., dims=...)``.
        variants: The family's table.
        family: Class name, for the message.

    Raises:
        ValueError: If the name is not in the table or the dict lacks depths or dims.
    """
    if isinstance(arch, str):
        if arch in variants:
            return variants[arch]
        hint = did_you_mean(arch, variants)
        raise ValueError(
            f"Unknown arch {arch!r} of {family}: expected one of {', '.join(variants)}, "
            f"or a dict with depths and dims.{hint}"
        )
    if not isinstance(arch, Mapping) or not {"depths", "dims"} <= set(arch):
        raise ValueError(
            f"arch={arch!r} of {family}: expected one of {', '.join(variants)}, "
            "or a dict with depths and dims"
        )
    settings = {k: v for k, v in arch.items() if k not in ("depths", "dims")}
    return Variant(tuple(arch["depths"]), tuple(arch["dims"]), settings=settings)
