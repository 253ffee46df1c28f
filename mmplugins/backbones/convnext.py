"""ConvNeXt: a convolutional network in the shape of a transformer.

Z. Liu et al., "A ConvNet for the 2020s", CVPR 2022, arXiv 2201.03545.

What tells it from a MetaFormer: one branch per block, in which a 7x7 depthwise convolution, a
LayerNorm and the MLP follow one another; patches that do not overlap, in the stem (4x4) and in the
downsampling (2x2). Both drop the rows and columns that fill no patch, so sides are rounded down.
For dense tasks the authors put one LayerNorm on each output.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from mmengine.registry import MODELS
from torch import Tensor, nn

from .folding import fold_branch
from .key_layouts import DINOV3_LICENSE, NO_KEY, KeyLayout
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
        self.mlp = ChannelMLP(dim, linear=True)
        self.layer_scale = nn.Identity() if layer_scale is None else Scale(dim, layer_scale)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def switch_to_deploy(self) -> None:
        """Fold norm and factors into the layers beside them, see :mod:`.folding`."""
        self.norm, self.mlp, self.layer_scale = fold_branch(self.norm, self.mlp, self.layer_scale)

    def forward(self, x: Tensor) -> Tensor:
        """Mix ``x [N, C, H, W]``; shape is kept."""
        return x + self.drop_path(self.layer_scale(self.mlp(self.norm(self.dwconv(x)))))


@dataclass(frozen=True)
class Names:
    """The names of one code base. A call with the depths gives pairs of prefixes, ours first.

    In the names, ``i`` is the stage and ``j`` the block; the downsampling to stage ``i`` has a norm
    ``.0`` and a convolution ``.1``.

    Attributes:
        stem: Its convolution and its norm.
        downsample: The downsampling before a stage.
        block: A block.
        parts: What is in a block: depthwise convolution, norm, the two linear layers, the factors.
        out_norm: The norm on a stage's output.
        final_norm: Names of the norm on the last output alone, which is kept as ``out_norms.3``.
    """

    stem: tuple[str, str] = ("downsample_layers.0.0", "downsample_layers.0.1")
    downsample: str = "downsample_layers.{i}"
    block: str = "stages.{i}.{j}"
    parts: tuple[str, ...] = ("dwconv", "norm", "pwconv1", "pwconv2", "gamma")
    out_norm: str = ""
    final_norm: tuple[str, ...] = ()

    def __call__(self, depths: Sequence[int]) -> Iterator[tuple[str, str]]:
        """Pairs for a model of these depths."""
        own_parts = ("dwconv", "norm", "mlp.fc1", "mlp.fc2", "layer_scale.scale")
        yield from zip(("stem.conv", "stem.norm"), self.stem, strict=True)
        for i, depth in enumerate(depths):
            if i:
                theirs = self.downsample.format(i=i, twice=2 * i)
                yield f"stages.{i}.downsample.norm", f"{theirs}.0"
                yield f"stages.{i}.downsample.conv", f"{theirs}.1"
            for j in range(depth):
                ours, theirs = f"stages.{i}.blocks.{j}", self.block.format(i=i, j=j, odd=2 * i + 1)
                yield ours, theirs
                for own_part, part in zip(own_parts, self.parts, strict=True):
                    yield f"{ours}.{own_part}", f"{theirs}.{part}"
            if self.out_norm:
                yield f"out_norms.{i}", self.out_norm.format(i=i, number=i + 1)
        for name in self.final_norm:
            yield f"out_norms.{len(depths) - 1}", name


official_pairs = Names(out_norm="norm{i}")
_mmpretrain = replace(
    official_pairs, parts=("depthwise_conv", "norm", "pointwise_conv1", "pointwise_conv2", "gamma")
)
_timm = Names(
    ("stem.0", "stem.1"),
    "stages.{i}.downsample",
    "stages.{i}.blocks.{j}",
    ("conv_dw", "norm", "mlp.fc1", "mlp.fc2", "gamma"),
)
_timm_flat = replace(  # features_only=True writes an underscore for the first dot
    _timm,
    stem=("stem_0", "stem_1"),
    downsample="stages_{i}.downsample",
    block="stages_{i}.blocks.{j}",
)
_torchvision = Names(  # stages and downsamplings take turns in one list
    ("features.0.0", "features.0.1"),
    "features.{twice}",
    "features.{odd}.{j}",
    ("block.0", "block.2", "block.3", "block.5", "layer_scale"),
)
_hugging_face = Names(
    ("embeddings.patch_embeddings", "embeddings.layernorm"),
    "encoder.stages.{i}.downsampling_layer",
    "encoder.stages.{i}.layers.{j}",
    ("dwconv", "layernorm", "pwconv1", "pwconv2", "layer_scale_parameter"),
    out_norm="hidden_states_norms.stage{number}",
)
_hugging_face_dinov3 = Names(
    ("stages.0.downsample_layers.0", "stages.0.downsample_layers.1"),
    "stages.{i}.downsample_layers",
    "stages.{i}.layers.{j}",
    ("depthwise_conv", "layer_norm", "pointwise_conv1", "pointwise_conv2", "gamma"),
    final_norm=("layer_norm",),
)

_hugging_face_dinov3_5 = replace(  # since transformers 5, all but the final norm is below `model`
    _hugging_face_dinov3,
    stem=("model.stages.0.downsample_layers.0", "model.stages.0.downsample_layers.1"),
    downsample="model.stages.{i}.downsample_layers",
    block="model.stages.{i}.layers.{j}",
)

LINEAR = r".*\.mlp\.fc[12]\.weight"
"""Our keys of the pointwise layers, linear ones in every other code base."""

KEPT = (
    "the norm after the last stage was trained with the features and is kept as out_norms.3; the "
    "authors put none on stages 0 to 2, which is out_norm=(None, None, None, 'LN')"
)
OFFICIAL = KeyLayout(
    "official", r"stages\.0\.0\.dwconv\.", official_pairs, linear=LINEAR, payload="model"
)
DINOV3 = KeyLayout(  # no classifier follows its norm, which the authors keep under two names
    "official, DINOv3",
    r"stages\.0\.0\.dwconv\.",
    replace(official_pairs, out_norm="", final_norm=("norm", "norms.3")),
    absent=NO_KEY,
    beside=r"norms?\.",
    without=r"head\.",
    linear=LINEAR,
    remark=KEPT,
    license=DINOV3_LICENSE,
)
HUGGING_FACE_DINOV3 = KeyLayout(
    "Hugging Face, DINOv3",
    r"stages\.0\.layers\.0\.depthwise_conv\.",
    _hugging_face_dinov3,
    absent=r"classifier\.",
    remark=KEPT,
    license=DINOV3_LICENSE,
)
HUGGING_FACE_DINOV3_5 = replace(
    HUGGING_FACE_DINOV3,
    marker=r"model\.stages\.0\.layers\.0\.depthwise_conv\.",
    pairs=_hugging_face_dinov3_5,
)
MMPRETRAIN_DENSE = KeyLayout("mmpretrain, dense model", r"norm[012]\.", _mmpretrain)
MMPRETRAIN = KeyLayout(  # norm3 alone is the norm before the classifier
    "mmpretrain", r"stages\.0\.0\.depthwise_conv\.", _mmpretrain, r"(head|norm3?)\."
)
TIMM = KeyLayout("timm", r"stem\.0\.", _timm, classifier=(("head", "head"),), linear=LINEAR)
TIMM_FEATURES = replace(  # DINOv3, or another model without a classifier after its last norm
    TIMM,
    name="timm, no classifier",
    pairs=replace(_timm, final_norm=("head.norm",)),
    absent=NO_KEY,
    beside=r"head\.norm\.",
    without=r"head\.fc\.",
    remark=KEPT,
)
TIMM_FLAT = KeyLayout("timm features_only", r"stem_0\.", _timm_flat)
TORCHVISION = KeyLayout(
    "torchvision",
    r"features\.1\.0\.block\.0\.",
    _torchvision,
    absent=r"classifier\.",
    classifier=(("head.norm", "classifier.0"), ("head.fc", "classifier.2")),
)
HUGGING_FACE = KeyLayout(
    "Hugging Face",
    r"encoder\.stages\.0\.layers\.0\.dwconv\.",
    _hugging_face,
    absent=r"(layernorm|classifier)\.",
    classifier=(("head.norm", "layernorm"), ("head.fc", "classifier")),
)


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
    layouts = (
        *(DINOV3, HUGGING_FACE_DINOV3, HUGGING_FACE_DINOV3_5, TIMM_FEATURES),
        *(OFFICIAL, MMPRETRAIN_DENSE, MMPRETRAIN, TIMM, TIMM_FLAT, TORCHVISION, HUGGING_FACE),
    )

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
        drop_paths = drop_path_rates(drop_path_rate, depths)

        def stage(i: int) -> Stage:
            return Stage(
                [ConvNeXtBlock(dims[i], layer_scale, rate) for rate in drop_paths[i]],
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
