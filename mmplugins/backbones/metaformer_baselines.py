"""The five baselines of the second MetaFormer paper.

W. Yu et al., "MetaFormer Baselines for Vision", TPAMI 2024, arXiv 2210.13452.

IdentityFormer, RandFormer and PoolFormerV2 test how little a token mixer may do, on the depths and
dims of PoolFormer; ConvFormer and CAFormer how far plain ones reach, on depths of their own.

What tells them from PoolFormer: StarReLU, a res scale on both shortcuts of the two last stages in
place of the layer scale, no bias in MLP and norms, a norm after the stem's convolution and before
those of the downsamplings. The authors released no dense code; following their classifier, each
output gets a LayerNorm over the channels (with bias).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from mmengine.registry import MODELS

from .key_layouts import TIMM, TIMM_FLAT, KeyLayout
from .metaformer import MetaFormer
from .size_policy import DEFAULT_POLICY, SizePolicy
from .variants import Variant, resolve_variant

GN1 = dict(type="GN1", eps=1e-6, bias=False)
LN = dict(type="LN", eps=1e-6, bias=False)

COMMON: dict[str, Any] = dict(
    mlp_act="StarReLU",
    mlp_bias=False,
    res_scale=[None, None, 1.0, 1.0],
    stem=dict(kernel_size=7, stride=4, padding=2, post_norm=LN),
    downsample=dict(kernel_size=3, stride=2, padding=1, pre_norm=LN),
    init="all",
    out_norm="LN",
)


def official_pairs(depths: Sequence[int]) -> Iterator[tuple[str, str]]:
    """The authors' names: the stem counts as the first of four downsamplings."""
    yield "stem.conv", "downsample_layers.0.conv"
    yield "stem.norm", "downsample_layers.0.post_norm"
    for i, depth in enumerate(depths):
        if i:
            yield f"stages.{i}.downsample.norm", f"downsample_layers.{i}.pre_norm"
            yield f"stages.{i}.downsample.conv", f"downsample_layers.{i}.conv"
        for j in range(depth):
            yield f"stages.{i}.blocks.{j}", f"stages.{i}.{j}"


OFFICIAL = KeyLayout(
    "official",
    r"downsample_layers\.0\.conv\.",
    official_pairs,
    linear=r".*\.(mlp\.fc[12]|pwconv[12])\.weight",
)
# timm turns feature maps into tokens for the attention stages, and has linear layers there.
TIMM_ATTENTION = replace(TIMM, linear=r"stages\.[23]\..*\.mlp\.fc[12]\.weight")

Columns = tuple[float, ...]


def _variants(
    shapes: dict[str, tuple], params: Columns, macs: Columns, top1: Columns, drop_path: Columns
) -> dict[str, Variant]:
    """Put the columns of the paper's tables beside the depths and dims of each size."""
    columns = zip(shapes.items(), params, macs, top1, drop_path, strict=True)
    return {arch: Variant(*shape, *published) for (arch, shape), *published in columns}


SMALL, MEDIUM = (64, 128, 320, 512), (96, 192, 384, 768)
BASIC = {  # depths and dims, those of PoolFormer
    "s12": ((2, 2, 6, 2), SMALL),
    "s24": ((4, 4, 12, 4), SMALL),
    "s36": ((6, 6, 18, 6), SMALL),
    "m36": ((6, 6, 18, 6), MEDIUM),
    "m48": ((8, 8, 24, 8), MEDIUM),
}
COMMON_MIXERS = {
    "s18": ((3, 3, 9, 3), SMALL),
    "s36": ((3, 12, 18, 3), SMALL),
    "m36": ((3, 12, 18, 3), (96, 192, 384, 576)),
    "b36": ((3, 12, 18, 3), (128, 256, 512, 768)),
}


class _Baseline(MetaFormer):
    """What the five families share; each adds its token mixers and its block norm."""

    layouts = (OFFICIAL, TIMM_FLAT, TIMM)

    def __init__(self, arch: str | dict, mixers: Any, norm: dict, **kwargs: Any):
        variant = resolve_variant(arch, self.variants, type(self).__name__)
        settings = COMMON | dict(token_mixers=mixers, norm1=norm)
        settings |= dict(variant.settings) | kwargs
        super().__init__(variant.depths, variant.dims, **settings)


@MODELS.register_module()
class IdentityFormer(_Baseline):
    """IdentityFormer: no token mixing at all, a lower bound of the architecture.

    Args:
        arch: ``'s12'``, ``'s24'``, ``'s36'``, ``'m36'``, ``'m48'``, or a dict with ``depths`` and
            ``dims``. Defaults to ``'s12'``.
        **kwargs: As in :class:`MetaFormer`. ``out_norm`` defaults to ``'LN'``.
    """

    variants = _variants(
        BASIC,
        params=(11.9, 21.3, 30.8, 56.1, 73.3),
        macs=(1.8, 3.4, 5.0, 8.8, 11.5),
        top1=(74.6, 78.2, 79.3, 80.0, 80.4),
        drop_path=(0.1, 0.1, 0.2, 0.3, 0.4),
    )

    def __init__(self, arch: str | dict = "s12", **kwargs: Any):
        super().__init__(arch, "Identity", GN1, **kwargs)


@MODELS.register_module()
class RandFormer(_Baseline):
    """RandFormer: a fixed random matrix mixes the tokens of the two last stages.

    The matrices have the training size in their shape, 14 x 14 and 7 x 7 positions at 224 x 224
    pixels; how they serve other sizes is ``policy``. They are saved, but not trained.

    Args:
        arch: ``'s12'``, ``'s24'``, ``'s36'``, ``'m36'``, ``'m48'``, or a dict with ``depths`` and
            ``dims``. Defaults to ``'s12'``.
        policy: How the matrices serve other sizes, see :mod:`.size_policy`. Defaults to
            ``'resample'``.
        **kwargs: As in :class:`MetaFormer`. ``out_norm`` defaults to ``'LN'``.
    """

    variants = _variants(
        BASIC,
        params=(12.1, 21.8, 31.5, 56.8, 74.2),  # with the fixed ones: 0.2, 0.5, 0.7, 0.7, 0.9
        macs=(1.9, 3.5, 5.2, 9.0, 11.9),
        top1=(76.6, 78.2, 79.5, 81.2, 81.4),
        drop_path=(0.1, 0.1, 0.2, 0.3, 0.3),
    )

    def __init__(
        self, arch: str | dict = "s12", *, policy: SizePolicy = DEFAULT_POLICY, **kwargs: Any
    ):
        mixing = [dict(type="RandomMixing", side=side, policy=policy) for side in (14, 7)]
        super().__init__(arch, ["Identity", "Identity", *mixing], GN1, **kwargs)


@MODELS.register_module()
class PoolFormerV2(_Baseline):
    """PoolFormerV2: PoolFormer in the form of the second paper.

    Args:
        arch: ``'s12'``, ``'s24'``, ``'s36'``, ``'m36'``, ``'m48'``, or a dict with ``depths`` and
            ``dims``. Defaults to ``'s12'``.
        **kwargs: As in :class:`MetaFormer`. ``out_norm`` defaults to ``'LN'``.
    """

    variants = _variants(
        BASIC,
        params=(11.9, 21.3, 30.8, 56.1, 73.3),
        macs=(1.8, 3.4, 5.0, 8.8, 11.5),
        top1=(78.0, 80.7, 81.6, 82.2, 82.6),
        drop_path=(0.1, 0.1, 0.2, 0.3, 0.4),
    )

    def __init__(self, arch: str | dict = "s12", **kwargs: Any):
        super().__init__(arch, "Pooling", GN1, **kwargs)


@MODELS.register_module()
class ConvFormer(_Baseline):
    """ConvFormer: inverted separable convolutions in all stages.

    Args:
        arch: ``'s18'``, ``'s36'``, ``'m36'``, ``'b36'``, or a dict with ``depths`` and ``dims``.
            Defaults to ``'s18'``.
        **kwargs: As in :class:`MetaFormer`. ``out_norm`` defaults to ``'LN'``.
    """

    variants = _variants(
        COMMON_MIXERS,
        params=(27, 40, 57, 100),
        macs=(3.9, 7.6, 12.8, 22.6),
        top1=(83.0, 84.1, 84.5, 84.8),
        drop_path=(0.2, 0.3, 0.4, 0.6),
    )

    def __init__(self, arch: str | dict = "s18", **kwargs: Any):
        super().__init__(arch, "SepConv", LN, **kwargs)


@MODELS.register_module()
class CAFormer(_Baseline):
    """CAFormer: separable convolutions in the first two stages, attention in the last two.

    Args:
        arch: ``'s18'``, ``'s36'``, ``'m36'``, ``'b36'``, or a dict with ``depths`` and ``dims``.
            Defaults to ``'s18'``.
        **kwargs: As in :class:`MetaFormer`. ``out_norm`` defaults to ``'LN'``.
    """

    variants = _variants(
        COMMON_MIXERS,
        params=(26, 39, 56, 99),
        macs=(4.1, 8.0, 13.2, 23.2),
        top1=(83.6, 84.5, 85.2, 85.5),
        drop_path=(0.15, 0.3, 0.4, 0.6),
    )

    layouts = (OFFICIAL, TIMM_FLAT, TIMM_ATTENTION)

    def __init__(self, arch: str | dict = "s18", **kwargs: Any):
        super().__init__(arch, ["SepConv", "SepConv", "Attention", "Attention"], LN, **kwargs)
