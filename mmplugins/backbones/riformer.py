"""RIFormer: a MetaFormer that has a token mixer in training only, and none at inference.

J. Wang et al., "RIFormer: Keep Your Vision Backbone Effective But Removing Token Mixer", CVPR 2023,
arXiv 2304.05659.

Everything but the token mixer is PoolFormer's. In training the mixer is affine by channel, minus
its input; at inference it is folded into the norm before it, exactly, because the norm ends in an
affine map by channel too. A published file holds the training form. Either form loads into either:

===================  ==============================  =========================================
file                 model in training form          deployed model
===================  ==============================  =========================================
training form        as it is                        folded while loading
deployed, with       as it is, with the affine map   as it is
``norm_reparam``     that is the identity mixing
deployed, our names  ``token_mixer`` reported        as it is
                     missing
===================  ==============================  =========================================

In the last row nothing can be filled in, because the names are those of PoolFormer's weights, from
which a student starts with fresh mixers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from .key_layouts import TIMM, TIMM_FLAT, KeyLayout
from .metaformer import MetaFormer
from .poolformer import MEDIUM, SMALL, official_pairs
from .token_mixers import TOKEN_MIXERS, Identity
from .variants import Variant, resolve_variant

VARIANTS = {  # parameters and MACs of the deployed form; figures of mmpretrain's RIFormer page
    "s12": Variant((2, 2, 6, 2), SMALL, 11.92, 1.82, 76.90, 0.1),
    "s24": Variant((4, 4, 12, 4), SMALL, 21.39, 3.41, 80.28, 0.1),
    "s36": Variant((6, 6, 18, 6), SMALL, 30.86, 5.00, 81.29, 0.1, dict(layer_scale=1e-6)),
    "m36": Variant((6, 6, 18, 6), MEDIUM, 56.17, 8.80, 82.57, 0.1, dict(layer_scale=1e-6)),
    "m48": Variant((8, 8, 24, 8), MEDIUM, 73.47, 11.59, 82.75, 0.1, dict(layer_scale=1e-6)),
}


def fold_affine(scale: Tensor, shift: Tensor, weight: Tensor, bias: Tensor) -> tuple:
    """Weight and bias ``[C]`` of a norm with the affine map, minus its input, folded into it."""
    return weight * (scale - 1), bias * (scale - 1) + shift


@TOKEN_MIXERS.register_module()
class Affine(nn.Module):
    """``weight * x + bias - x``, by channel: RIFormer's token mixer in training.

    The weight starts from a normal of deviation 0.02 and the bias at zero, as the 1x1 convolutions
    of the public implementation do. The mixer then returns about ``-x``, which is also what
    PoolFormer's pool-minus-identity amounts to (-8/9) where neighbours are unrelated, so that a
    student may start from PoolFormer's weights.

    Args:
        dim: Number of channels.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim))
        self.bias = nn.Parameter(torch.zeros(dim))
        nn.init.trunc_normal_(self.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x [N, C, H, W]``; shape is kept."""
        return torch.addcmul(self.bias.view(-1, 1, 1), x, self.weight.view(-1, 1, 1) - 1)

    @torch.no_grad()
    def fold_into(self, norm: nn.Module) -> nn.Module:
        """Fold this map into the norm before it, and return the mixer that remains.

        A norm without a weight has nothing to fold into; this mixer then stays as it is.
        """
        if getattr(norm, "weight", None) is None:
            return self
        bias = torch.zeros_like(norm.weight) if norm.bias is None else norm.bias
        weight, bias = fold_affine(self.weight, self.bias, norm.weight, bias)
        norm.weight.copy_(weight)
        if norm.bias is None:
            norm.bias = nn.Parameter(bias, requires_grad=norm.weight.requires_grad)
        else:
            norm.bias.copy_(bias)
        return Identity(len(weight))


FOLDED = "folded_norm"
"""Our name for mmpretrain's ``norm_reparam`` until it is known which form the model has."""


def mmpretrain_pairs(depths: Sequence[int]) -> Iterator[tuple[str, str]]:
    """PoolFormer's names, and those of the mixer in training and of the norm after folding."""
    yield from official_pairs(depths)
    for i, depth in enumerate(depths):
        for j in range(depth):
            ours, theirs = f"stages.{i}.blocks.{j}", f"network.{2 * i}.{j}"
            yield f"{ours}.token_mixer", f"{theirs}.token_mixer.affine"
            yield f"{ours}.{FOLDED}", f"{theirs}.norm_reparam"


DENSE = KeyLayout("mmpretrain, dense model", r"norm[024]\.", mmpretrain_pairs)
CLASSIFIER = KeyLayout(  # norm6 alone is the norm before the classifier
    "mmpretrain",
    r"patch_embed\.proj\.",
    mmpretrain_pairs,
    absent=r"(head|norm6?)\.",
    classifier=(("head.norm", "backbone.norm6"), ("head.fc", "head.fc")),
    conv=r".*\.token_mixer\.weight",
    prefix="backbone.",
    payload="state_dict",
)


@MODELS.register_module()
class RIFormer(MetaFormer):
    """RIFormer as a pyramid backbone.

    ``switch_to_deploy()`` folds the mixers into the norms, in place. Files of either form load.

    Args:
        arch: ``'s12'``, ``'s24'``, ``'s36'``, ``'m36'``, ``'m48'``, or a dict with ``depths`` and
            ``dims``. Defaults to ``'s12'``.
        deploy: Build the deployed form at once. Defaults to False.
        **kwargs: As in :class:`MetaFormer`. ``layer_scale`` defaults to 1e-5, and to 1e-6 for the
            three deepest; ``out_norm`` to ``'GN1'``, that of PoolFormer's dense models.
    """

    variants = VARIANTS
    layouts = (DENSE, CLASSIFIER, TIMM_FLAT, TIMM)  # timm's for PoolFormer, to start a student

    def __init__(self, arch: str | dict = "s12", *, deploy: bool = False, **kwargs: Any):
        variant = resolve_variant(arch, VARIANTS, "RIFormer")
        settings: dict[str, Any] = dict(layer_scale=1e-5, out_norm="GN1")
        settings |= dict(variant.settings) | kwargs
        super().__init__(
            variant.depths, variant.dims, "Identity" if deploy else "Affine", **settings
        )

    @property
    def deployed(self) -> bool:
        """Whether the mixers are folded away."""
        return not any(isinstance(module, Affine) for module in self.modules())

    def convert_state_dict(self, state_dict: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Bring a state dict in any known layout and in either form to the form of this model."""
        converted = dict(super().convert_state_dict(state_dict))
        deployed = self.deployed
        for key, value in list(converted.items()):
            block, _, leaf = key.rpartition(".token_mixer.")
            norm1 = f"{block}.norm1.weight", f"{block}.norm1.bias"
            if FOLDED in key:
                converted[key.replace(FOLDED, "norm1")] = converted.pop(key)
                if not deployed:  # the affine map that, minus its input, is the identity
                    start = 2.0 if key.endswith("weight") else 0.0
                    converted[key.replace(FOLDED, "token_mixer")] = torch.full_like(value, start)
            elif deployed and leaf == "weight" and converted.keys() >= set(norm1):
                shift = converted.pop(f"{block}.token_mixer.bias").flatten()
                folded = fold_affine(
                    converted.pop(key).flatten(), shift, *map(converted.get, norm1)
                )
                converted.update(zip(norm1, folded, strict=True))
        return converted
