"""PoolFormer: a MetaFormer whose token mixer is average pooling.

W. Yu et al., "MetaFormer Is Actually What You Need for Vision", CVPR 2022, arXiv 2111.11418.

What tells it from the later families: GroupNorm with one group, GELU, biases everywhere, a layer
scale on every branch, no norm in stem and downsampling. For dense tasks the authors put one
GroupNorm on each output.

The hybrids of the paper's ablation (Table 5) replace pooling in some or all stages: by nothing
(``identity``), by attention (``a``) or by a spatial fully connected layer (``f``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from mmengine.registry import MODELS

from .key_layouts import TIMM, TIMM_FLAT, KeyLayout
from .metaformer import MetaFormer
from .variants import Variant, resolve_variant

SMALL, MEDIUM = (64, 128, 320, 512), (96, 192, 384, 768)

POOL = "Pooling"
ATTENTION = dict(type="Attention", proj_bias=True)
FC14, FC7 = dict(type="SpatialFC", side=14), dict(type="SpatialFC", side=7)


def _attentive(stage: int, side: int) -> dict[str, Any]:
    """What comes with attention: the channel LayerNorm, one position embedding."""
    norm = dict(type="LN", eps=1e-5)
    sides = [side if i == stage else None for i in range(4)]
    return dict(norm1=norm, out_norm=norm, pos_embed=sides)


def _hybrid(params: float, macs: float, top1: float, mixers: Any, **settings: Any) -> Variant:
    """An S12 of the ablation with other token mixers, and settings that come with them."""
    settings["token_mixers"] = mixers
    return Variant((2, 2, 6, 2), SMALL, params, macs, top1, 0.1, settings)


VARIANTS = {  # Table 1 (depths, dims) and Table 2 (parameters, MACs, accuracy) of the paper
    "s12": Variant((2, 2, 6, 2), SMALL, 11.9, 1.8, 77.2, 0.1),
    "s24": Variant((4, 4, 12, 4), SMALL, 21.4, 3.4, 80.3, 0.1),
    "s36": Variant((6, 6, 18, 6), SMALL, 30.8, 5.0, 81.4, 0.2, dict(layer_scale=1e-6)),
    "m36": Variant((6, 6, 18, 6), MEDIUM, 56.1, 8.8, 82.1, 0.3, dict(layer_scale=1e-6)),
    "m48": Variant((8, 8, 24, 8), MEDIUM, 73.4, 11.6, 82.5, 0.4, dict(layer_scale=1e-6)),
    # Table 5
    "s12_identity": _hybrid(11.9, 1.8, 74.3, "Identity"),
    "s12_pppa": _hybrid(14.0, 1.9, 78.3, [POOL, POOL, POOL, ATTENTION], **_attentive(3, 7)),
    "s12_ppaa": _hybrid(16.5, 2.5, 81.0, [POOL, POOL, ATTENTION, ATTENTION], **_attentive(2, 14)),
    "s12_pppf": _hybrid(11.9, 1.8, 77.5, [POOL, POOL, POOL, FC7]),
    "s12_ppff": _hybrid(12.2, 1.9, 77.9, [POOL, POOL, FC14, FC7]),
}


def official_pairs(
    depths: Sequence[int], pos_embed_stage: int | None = None
) -> Iterator[tuple[str, str]]:
    """The authors' names: blocks and downsamplings take turns in one list, ``network``.

    A position embedding is one more entry of that list, before the blocks of its stage.
    """
    yield "stem.conv", "patch_embed.proj"
    entry = 0
    for i, depth in enumerate(depths):
        if i:
            yield f"stages.{i}.downsample.conv", f"network.{entry}.proj"
            entry += 1
        if i == pos_embed_stage:
            yield f"stages.{i}.pos_embed.weight", f"network.{entry}.pos_embed"
            entry += 1
        for j in range(depth):
            ours, theirs = f"stages.{i}.blocks.{j}", f"network.{entry}.{j}"
            yield ours, theirs
            yield f"{ours}.layer_scale1.scale", f"{theirs}.layer_scale_1"
            yield f"{ours}.layer_scale2.scale", f"{theirs}.layer_scale_2"
        entry += 1
    for i in range(4):  # the norms on the outputs of the authors' dense models
        yield f"out_norms.{i}", f"norm{2 * i}"


def hugging_face_pairs(depths: Sequence[int]) -> Iterator[tuple[str, str]]:
    """Hugging Face's names: all patch embeddings, then all blocks, below ``encoder``."""
    for i, depth in enumerate(depths):
        yield (
            f"stages.{i}.downsample.conv" if i else "stem.conv",
            (f"encoder.patch_embeddings.{i}.projection"),
        )
        for j in range(depth):
            ours, theirs = f"stages.{i}.blocks.{j}", f"encoder.block.{i}.{j}"
            yield f"{ours}.layer_scale1.scale", f"{theirs}.layer_scale_1"
            yield f"{ours}.layer_scale2.scale", f"{theirs}.layer_scale_2"
            yield f"{ours}.norm1", f"{theirs}.before_norm"
            yield f"{ours}.norm2", f"{theirs}.after_norm"
            yield f"{ours}.mlp.fc1", f"{theirs}.output.conv1"
            yield f"{ours}.mlp.fc2", f"{theirs}.output.conv2"


DENSE = KeyLayout("official, dense model", r"norm[024]\.", official_pairs)
OFFICIAL = KeyLayout(  # mmpretrain names likewise, but its norm before the classifier is norm6
    "official", r"patch_embed\.proj\.", official_pairs, absent=r"(head|norm6?)\."
)
OFFICIAL_PPPA = KeyLayout(
    "official", r"network\.6\.pos_embed", partial(official_pairs, pos_embed_stage=3)
)
OFFICIAL_PPAA = KeyLayout(
    "official", r"network\.4\.pos_embed", partial(official_pairs, pos_embed_stage=2)
)
HUGGING_FACE = KeyLayout(
    "Hugging Face",
    r"encoder\.patch_embeddings\.0\.projection\.",
    hugging_face_pairs,
    absent=r"(norm|classifier)\.",
    classifier=(("head.norm", "norm"), ("head.fc", "classifier")),
)


@MODELS.register_module()
class PoolFormer(MetaFormer):
    """PoolFormer as a pyramid backbone.

    Args:
        arch: ``'s12'``, ``'s24'``, ``'s36'``, ``'m36'``, ``'m48'``; a hybrid ``'s12_identity'``,
            ``'s12_pppa'``, ``'s12_ppaa'``, ``'s12_pppf'``, ``'s12_ppff'``; or a dict with
            ``depths`` and ``dims``. Defaults to ``'s12'``.
        **kwargs: As in :class:`MetaFormer`. ``layer_scale`` defaults to 1e-5, and to 1e-6 for the
            three deepest, as published. ``out_norm`` defaults to the norm of the blocks: ``'GN1'``
            as in the authors' dense models, or ``'LN'`` for the hybrids with attention.
    """

    variants = VARIANTS
    layouts = (OFFICIAL_PPPA, OFFICIAL_PPAA, DENSE, OFFICIAL, TIMM_FLAT, TIMM, HUGGING_FACE)

    def __init__(self, arch: str | dict = "s12", **kwargs: Any):
        variant = resolve_variant(arch, VARIANTS, "PoolFormer")
        settings: dict[str, Any] = dict(token_mixers="Pooling", layer_scale=1e-5, out_norm="GN1")
        settings |= dict(variant.settings) | kwargs
        super().__init__(variant.depths, variant.dims, **settings)
