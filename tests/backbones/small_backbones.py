"""Every registered backbone with small depths and dims: the families are found in the registry."""

from __future__ import annotations

import pytest
from mmengine.registry import MODELS

from mmplugins.backbones import PyramidBackbone
from mmplugins.backbones.catalog import families

SMALL = dict(depths=(1, 1, 2, 1), dims=(32, 64, 96, 128))

NO_FAMILY = {  # registered classes without a table of variants
    "MetaFormer": dict(type="MetaFormer", token_mixers=["Pooling"] * 3 + ["Attention"], **SMALL),
    "TimmBackbone": dict(type="TimmBackbone", model_name="test_resnet"),
}


def structures() -> dict[str, dict]:
    """One config for each family, and one for each of its variants with other token mixers."""
    configs = {}
    for family, cls in families().items():
        told_apart = []
        for arch, variant in cls.variants.items():
            mixers = variant.settings.get("token_mixers", ())
            mixers = [mixers] if isinstance(mixers, str) else mixers
            kinds = {mixer if isinstance(mixer, str) else mixer["type"] for mixer in mixers}
            if kinds not in told_apart:
                told_apart.append(kinds)
                config = dict(type=cls.__name__, arch=SMALL | dict(variant.settings))
                configs[f"{family}_{arch}"] = config
    return configs | {name: NO_FAMILY[name] for name in NO_FAMILY if name in MODELS.module_dict}


CONFIGS = structures()

every_backbone = pytest.mark.parametrize("name", CONFIGS)
every_own_backbone = pytest.mark.parametrize(  # those with a stem and stages, not timm's parts
    "name", [name for name in CONFIGS if name != "TimmBackbone"]
)


def build(name: str, **overrides) -> PyramidBackbone:
    config = CONFIGS[name] | overrides
    return MODELS.get(config.pop("type"))(**config)
