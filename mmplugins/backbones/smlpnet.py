"""sMLPNet: a MetaFormer whose token mixer is a depthwise convolution and a sparse MLP.

C. Tang et al., "Sparse MLP for Image Recognition: Is Self-Attention Really Necessary?", AAAI 2022,
arXiv 2109.05422.

What tells it from the other families: the token mixer holds its own batch norms and has one matrix
along the rows and one along the columns, of the side of the training feature map; patches do not
overlap and their convolutions have neither bias nor norm; MLP ratio 3; no layer scale.

The published network takes 224 x 224 only. Here other sizes are met by a policy for the rows and
columns (0.1 % of the weights), see :mod:`.size_policy`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.registry import MODELS

from .key_layouts import KeyLayout
from .layers import LayerSpec
from .metaformer import MetaFormer
from .size_policy import DEFAULT_POLICY, SizePolicy
from .variants import Variant, resolve_variant

VARIANTS = {  # Tables 1 (depths, dims) and 2 of the paper; accuracies of the released models
    "t": Variant((2, 8, 14, 2), (80, 160, 320, 640), 24, 5.0, 81.9),
    "s": Variant((2, 10, 24, 2), (96, 192, 384, 768), 49, 10.3, 83.1, drop_path=0.2),
    "b": Variant((2, 10, 24, 2), (112, 224, 448, 896), 66, 14.0, 83.4, drop_path=0.3),
}


def official_pairs(depths: Sequence[int]) -> Iterator[tuple[str, str]]:
    """The authors' names: blocks are counted through all stages, mixers and MLPs in two lists.

    ``proj_h`` mixes along the width and ``proh_w`` (so spelt) along the height.
    """
    yield "stem.conv", "to_patch_embedding.0.0"
    k = 0
    for i, depth in enumerate(depths):
        if i:
            yield f"stages.{i}.downsample.conv", f"to_patch_embedding.{i}.0"
        for j in range(depth):
            ours, mix, mlp = f"stages.{i}.blocks.{j}", f"token_mix.{k}", f"channel_mix.{k}"
            yield f"{ours}.token_mixer.norm1", f"{mix}.0.conv_merge.BN"
            yield f"{ours}.token_mixer.depthwise", f"{mix}.0.conv_merge.Conv"
            yield f"{ours}.token_mixer.norm2", f"{mix}.1.BN"
            yield f"{ours}.token_mixer.row", f"{mix}.1.proj_h"
            yield f"{ours}.token_mixer.column", f"{mix}.1.proh_w"
            yield f"{ours}.token_mixer.fuse", f"{mix}.1.fuse"
            yield f"{ours}.norm2", f"{mlp}.1"
            yield f"{ours}.mlp.fc1", f"{mlp}.2.net.0"
            yield f"{ours}.mlp.fc2", f"{mlp}.2.net.3"
            k += 1


OFFICIAL = KeyLayout(
    "official",
    r"to_patch_embedding\.",
    official_pairs,
    absent=r"(batch_norm|mlp_head)\.",
    classifier=(("head.norm", "batch_norm"), ("head.fc", "mlp_head.0")),
    linear=r".*\.mlp\.fc[12]\.weight",
    conv=r".*\.token_mixer\.(row|column)\.weight",
    payload="model",
)


@MODELS.register_module()
class sMLPNet(MetaFormer):
    """sMLPNet as a pyramid backbone for images of any height and width.

    Maps have the sizes of PoolFormer's: the stem gives floor((H + 1) / 4), each downsampling
    ceil(h / 2), as one row and column of zeros follows the last ones where patches do not divide
    the feature map. At multiples of 32 nothing is padded.

    Args:
        arch: ``'t'``, ``'s'``, ``'b'``, or a dict with ``depths`` and ``dims``. Defaults to
            ``'t'``.
        policy: How rows and columns meet feature maps of another side than at training,
            ``'window'`` or ``'resample'``. Defaults to ``'resample'``, which :mod:`.size_policy`
            explains.
        image_size: Side of the square training images in pixels, a multiple of 32, from which the
            sides of the weights follow. Defaults to 224, that of the released weights.
        out_norm: Norm on each output. Defaults to ``'LN'``; there is no published dense model.
        **kwargs: As in :class:`MetaFormer`.

    Raises:
        ValueError: If ``arch`` or ``policy`` is unknown or ``image_size`` no multiple of 32.
    """

    variants = VARIANTS
    layouts = (OFFICIAL,)

    def __init__(
        self,
        arch: str | dict = "t",
        *,
        policy: SizePolicy = DEFAULT_POLICY,
        image_size: int = 224,
        out_norm: LayerSpec = "LN",
        **kwargs: Any,
    ):
        if image_size < 32 or image_size % 32:
            raise ValueError(
                f"image_size={image_size}: expected the side of the training images in pixels, a "
                "multiple of 32; images at run time may have any size"
            )
        variant = resolve_variant(arch, VARIANTS, "sMLPNet")
        sides = (image_size // stride for stride in (4, 8, 16, 32))
        settings = dict(
            mlp_ratios=3,
            norm1=None,
            norm2=dict(type="LN", eps=1e-5),
            stem=dict(kernel_size=4, stride=4, bias=False, pad_end=1),
            downsample=dict(kernel_size=2, stride=2, bias=False, pad_end=1),
            init="none",
        )
        super().__init__(
            variant.depths,
            variant.dims,
            [dict(type="SparseMLP", side=side, policy=policy) for side in sides],
            out_norm=out_norm,
            **(settings | dict(variant.settings) | kwargs),
        )
