"""Every published backbone by one short name, such as ``caformer_s18``, built without a config."""

from __future__ import annotations

from typing import Any

from mmengine.registry import MODELS

from mmplugins.utils import did_you_mean

from .pyramid import PyramidBackbone

TIMM_PREFIX = "timm/"


def families() -> dict[str, type[PyramidBackbone]]:
    """The registered classes that have a table of published variants, by lower-case name."""
    return {
        name.lower(): cls
        for name, cls in MODELS.module_dict.items()
        if isinstance(cls, type) and issubclass(cls, PyramidBackbone) and cls.variants
    }


def list_backbones() -> list[str]:
    """Names of all published variants, family by family, as ``build_backbone`` takes them."""
    return [f"{family}_{arch}" for family, cls in families().items() for arch in cls.variants]


def backbone_config(name: str) -> dict[str, Any]:
    """The config dict of a backbone.

    Args:
        name: A name of :func:`list_backbones`, or ``timm/`` and the name of a timm model.

    Raises:
        ValueError: If there is no backbone of that name; the message offers the nearest ones.
    """
    if name.startswith(TIMM_PREFIX):
        return dict(type="TimmBackbone", model_name=name.removeprefix(TIMM_PREFIX))
    for family, cls in families().items():
        arch = name.removeprefix(f"{family}_")
        if arch != name and arch in cls.variants:
            return dict(type=cls.__name__, arch=arch)
    hint = did_you_mean(name, list_backbones(), count=3)
    raise ValueError(
        f"Unknown backbone {name!r}: expected a name of mmplugins.list_backbones() or "
        f"'timm/<model name>'.{hint}"
    )


def build_backbone(name: str, **overrides: Any) -> PyramidBackbone:
    """Build a backbone by name, with PyTorch's random start.

    Args:
        name: As in :func:`backbone_config`.
        **overrides: Further or other arguments of its class, for example
            ``out_indices=(1, 2, 3)``.
    """
    config = backbone_config(name) | overrides
    return MODELS.get(config.pop("type"))(**config)
