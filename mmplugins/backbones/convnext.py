"""ConvNeXt: a convolutional network in the shape of a transformer.

Z. Liu et al., "A ConvNet for the 2020s", CVPR 2022, arXiv 2201.03545.

What tells it from a MetaFormer: one branch per block, in which a 7x7 depthwise convolution, a
LayerNorm and the MLP follow one another; patches that do not overlap, in the stem (4x4) and in the
downsampling (2x2). Both drop the rows and columns that fill no patch, so sides are rounded down.
For dense tasks the authors put one LayerNorm on each output.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import accumulate
from typing import Any

from mmengine.registry import MODELS
from torch import Tensor, nn

from .folding import fold_branch
from .key_layouts import KeyLayout
from .layers import ChannelMLP, DropPath, LayerNorm2d, LayerSpec, Scale
from .metaformer import PatchConv, Stage, drop_path_rates, init_normal
from .pyramid import PyramidBackbone
from .token_mixers import DepthwiseConv
from .variants import Variant, resolve_variant

VARIANTS = {  # figures of the authors' page; XL exists pretrained on ImageNet-22K only
    "tiny": Variant((3, 3, 9, 3), (96, 192, 384, 768), 28, 4.5, 82.1, 0.1),
    "small": Variant((3, 3, 27, 3), (96, 192, 384, 768), 50, 8.7, 83.1, 0.4),
    "base": Variant((3, 3, 27, 3), (128, 256, 512, 1024), 89, 15.4, 83.8, 0.5),
    "large": Variant((3, 3, 27, 3), (192, 384, 768, 1536), 198, 34.4, 84.3, 0.5),
    "xlarge": Variant((3, 3, 27, 3), (256, 512, 1024, 2048), 350, 60.9, 87.0),
}


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution, LayerNorm and MLP in one branch, with a shortcut around it.

    Args:
        dim: Number of channels.
        layer_scale: Start value of the factors on the branch, or None for no factors.
        drop_path: Probability that the branch is dropped for an image in training.
    """

    def __init__(self, dim: int, layer_scale: float | None = 1e-6, drop_path: float = 0.0):
        super().__init__()
        self.dwconv = DepthwiseConv(dim, 7, bias=True)
        self.norm = LayerNorm2d(dim)
        self.mlp = ChannelMLP(dim)
        self.layer_scale = nn.Identity() if layer_scale is None else Scale(dim, layer_scale)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def switch_to_deploy(self) -> None:
        """Fold norm and factors into the layers beside them, see :mod:`.folding`."""
        self.norm, self.mlp, self.layer_scale = fold_branch(self.norm, self.mlp, self.layer_scale)

    def forward(self, x: Tensor) -> Tensor:
        """Mix ``x [N, C, H, W]``; shape is kept."""
        return x + self.drop_path(self.layer_scale(self.mlp(self.norm(self.dwconv(x)))))


def official_pairs(
    depths: Sequence[int], dwconv: str = "dwconv", pwconv: str = "pwconv"
) -> Iterator[tuple[str, str]]:
    """The authors' names: the stem is the first of four downsamplings."""
    yield "stem.conv", "downsample_layers.0.0"
    yield "stem.norm", "downsample_layers.0.1"
    for i, depth in enumerate(depths):
        if i:
            yield f"stages.{i}.downsample.norm", f"downsample_layers.{i}.0"
            yield f"stages.{i}.downsample.conv", f"downsample_layers.{i}.1"
        for j in range(depth):
            ours, theirs = f"stages.{i}.blocks.{j}", f"stages.{i}.{j}"
            yield ours, theirs
            yield f"{ours}.dwconv", f"{theirs}.{dwconv}"
            yield f"{ours}.mlp.fc1", f"{theirs}.{pwconv}1"
            yield f"{ours}.mlp.fc2", f"{theirs}.{pwconv}2"
            yield f"{ours}.layer_scale.scale", f"{theirs}.gamma"
        yield f"out_norms.{i}", f"norm{i}"


def timm_pairs(depths: Sequence[int], dot: str = ".") -> Iterator[tuple[str, str]]:
    """timm's names; with ``features_only=True`` the first dot is an underscore."""
    yield "stem.conv", f"stem{dot}0"
    yield "stem.norm", f"stem{dot}1"
    for i, depth in enumerate(depths):
        stage = f"stages{dot}{i}"
        yield f"stages.{i}.downsample.norm", f"{stage}.downsample.0"
        yield f"stages.{i}.downsample.conv", f"{stage}.downsample.1"
        for j in range(depth):
            ours, theirs = f"stages.{i}.blocks.{j}", f"{stage}.blocks.{j}"
            yield ours, theirs
            yield f"{ours}.dwconv", f"{theirs}.conv_dw"
            yield f"{ours}.layer_scale.scale", f"{theirs}.gamma"


mmpretrain_pairs = partial(official_pairs, dwconv="depthwise_conv", pwconv="pointwise_conv")

LINEAR = r".*\.mlp\.fc[12]\.weight"
"""Our keys of the pointwise layers, linear ones in every other code base."""

OFFICIAL = KeyLayout(
    "official", r"stages\.0\.0\.dwconv\.", official_pairs, linear=LINEAR, payload="model"
)
MMPRETRAIN_DENSE = KeyLayout("mmpretrain, dense model", r"norm[012]\.", mmpretrain_pairs)
MMPRETRAIN = KeyLayout(  # norm3 alone is the norm before the classifier
    "mmpretrain", r"stages\.0\.0\.depthwise_conv\.", mmpretrain_pairs, r"(head|norm3?)\."
)
TIMM = KeyLayout("timm", r"stem\.0\.", timm_pairs, classifier=(("head", "head"),), linear=LINEAR)
TIMM_FLAT = KeyLayout("timm features_only", r"stem_0\.", partial(timm_pairs, dot="_"))


@MODELS.register_module()
class ConvNeXt(PyramidBackbone):
    """ConvNeXt as a pyramid backbone.

    Args:
        arch: ``'tiny'``, ``'small'``, ``'base'``, ``'large'``, ``'xlarge'``, or a dict with
            ``depths`` and ``dims``. Defaults to ``'tiny'``.
        layer_scale: Start value of the factors on the branches, or None for no factors. Defaults
            to 1e-6, with which the published weights were trained. The authors' dense configs say
            1.0, which holds until the pretrained weights are loaded over it.
        drop_path_rate: Drop probability of the last block; it grows linearly from 0 at the first.
            Defaults to 0; the authors' dense configs take 0.3 to 0.8.
        out_norm: Norm on each output. Defaults to ``'LN'`` (eps 1e-6), that of the authors' dense
            models.
        in_channels: Channels of the image. Defaults to 3.
        **kwargs: ``out_indices``, ``frozen_stages``, ``with_cp``, ``init_cfg`` of
            :class:`PyramidBackbone`.
    """

    variants = VARIANTS
    layouts = (OFFICIAL, MMPRETRAIN_DENSE, MMPRETRAIN, TIMM, TIMM_FLAT)

    def __init__(
        self,
        arch: str | dict = "tiny",
        *,
        layer_scale: float | None = 1e-6,
        drop_path_rate: float = 0.0,
        out_norm: LayerSpec = "LN",
        in_channels: int = 3,
        **kwargs: Any,
    ):
        variant = resolve_variant(arch, VARIANTS, "ConvNeXt")
        depths, dims = variant.depths, variant.dims
        drop_paths = drop_path_rates(drop_path_rate, sum(depths))
        first = [0, *accumulate(depths)]

        def stage(i: int) -> Stage:
            rates = drop_paths[first[i] : first[i + 1]]
            return Stage(
                [ConvNeXtBlock(dims[i], layer_scale, rate) for rate in rates],
                PatchConv(dims[i - 1], dims[i], 2, 2, pre_norm="LN") if i else None,
            )

        super().__init__(
            PatchConv(in_channels, dims[0], 4, 4, post_norm="LN"),
            [partial(stage, i) for i in range(4)],
            depths,
            dims,
            out_norm=out_norm,
            **(dict(variant.settings) | kwargs),
        )
        self.apply(init_normal)
