"""Backbones for dense prediction; importing this package registers them."""

from .catalog import backbone_config, build_backbone, list_backbones
from .convnext import ConvNeXt
from .frozen import FrozenBackbone
from .metaformer import MetaFormer
from .metaformer_baselines import CAFormer, ConvFormer, IdentityFormer, PoolFormerV2, RandFormer
from .poolformer import PoolFormer
from .pyramid import PyramidBackbone
from .riformer import RIFormer
from .size_tied_mixers import RandomMixing, SparseMLP, SpatialFC
from .smlpnet import sMLPNet
from .timm_backbone import TimmBackbone
from .token_mixers import TOKEN_MIXERS

__all__ = [
    "TOKEN_MIXERS",
    "CAFormer",
    "ConvFormer",
    "ConvNeXt",
    "FrozenBackbone",
    "IdentityFormer",
    "MetaFormer",
    "PoolFormer",
    "PoolFormerV2",
    "PyramidBackbone",
    "RIFormer",
    "RandFormer",
    "RandomMixing",
    "SparseMLP",
    "SpatialFC",
    "TimmBackbone",
    "backbone_config",
    "build_backbone",
    "list_backbones",
    "sMLPNet",
]
