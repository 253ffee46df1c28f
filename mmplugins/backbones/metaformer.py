"""MetaFormer: the architecture that remains when the token mixer is left open.

W. Yu et al., "MetaFormer Is Actually What You Need for Vision", CVPR 2022, arXiv 2111.11418;
W. Yu et al., "MetaFormer Baselines for Vision", TPAMI 2024, arXiv 2210.13452.

One class serves every family: stem, then four stages of downsampling and blocks, where

    x = res_scale1(x) + drop_path(layer_scale1(token_mixer(norm1(x))))
    x = res_scale2(x) + drop_path(layer_scale2(mlp(norm2(x))))

and every part is an argument. The families differ in those arguments only.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import islice
from typing import Any, Literal

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from .folding import absorb_batch_norm, absorb_norm, fold_branch
from .layers import (
    ChannelMLP,
    DropPath,
    LayerNorm2d,
    LayerSpec,
    PointwiseLinear,
    Scale,
    build_norm,
    channels_last_gradient,
)
from .pyramid import PyramidBackbone, per_stage
from .token_mixers import Attention, build_token_mixer


class PatchConv(nn.Module):
    """Strided convolution with optional norms around it: the stem, and the downsampling.

    Args:
        in_dim: Channels of the input.
        out_dim: Channels of the output.
        kernel_size: Side of the kernel.
        stride: Step in positions.
        padding: Zero padding on each side. Defaults to 0.
        bias: Whether the convolution has a bias. Defaults to True.
        pad_end: Rows and columns of zeros below and to the right of a feature map that the stride
            does not divide, so that its last positions are not cut off. Defaults to 0.
        pre_norm: Norm before the convolution. Defaults to None.
        post_norm: Norm after it. Defaults to None.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        kernel_size: int,
        stride: int,
        padding: int = 0,
        bias: bool = True,
        pad_end: int = 0,
        pre_norm: LayerSpec = None,
        post_norm: LayerSpec = None,
    ):
        super().__init__()
        if pre_norm is not None and post_norm is not None:
            raise ValueError(
                f"pre_norm={pre_norm!r} and post_norm={post_norm!r}: expected one of them at most"
            )
        self.norm_first = pre_norm is not None
        self.norm = build_norm(pre_norm or post_norm, in_dim if self.norm_first else out_dim)
        self.conv = nn.Conv2d(in_dim, out_dim, kernel_size, stride, padding, bias=bias)
        self.stride, self.pad_end = stride, pad_end
        self.pad_around: tuple[int, ...] = ()

    def keep_resolution(self, dilation: int) -> None:
        """Take every position from now on, with the same weights, their taps ``dilation`` apart."""
        self.stride, self.conv.stride = 1, (1, 1)
        self.conv.dilation, self.conv.padding = (dilation, dilation), (0, 0)
        spread = dilation * (self.conv.kernel_size[0] - 1)
        self.pad_around = (spread // 2, spread - spread // 2) * 2

    def switch_to_deploy(self) -> None:
        """Fold the norm into the convolution, as far as it is affine."""
        if self.norm_first:
            padded = bool(self.pad_end or self.pad_around)
            self.norm = absorb_norm(self.norm, self.conv, padded=padded)
        else:
            self.norm = absorb_batch_norm(self.conv, self.norm)

    def forward(self, x: Tensor) -> Tensor:
        """Shrink ``x [N, in_dim, H, W]`` by the stride."""
        if self.norm_first:
            x = self.norm(x)
        if self.pad_around:
            x = nn.functional.pad(x, self.pad_around)
        elif self.pad_end and (x.shape[-2] % self.stride or x.shape[-1] % self.stride):
            x = nn.functional.pad(x, (0, self.pad_end, 0, self.pad_end))
        x = self.conv(x)
        return x if self.norm_first else self.norm(x)


class MetaFormerBlock(nn.Module):
    """Token mixer and channel MLP, each with a norm before it and a shortcut around it.

    Args:
        dim: Number of channels.
        token_mixer: Token mixer, by name or dict.
        norm1: Norm before the token mixer.
        norm2: Norm before the MLP.
        mlp_ratio: Hidden channels of the MLP divided by ``dim``; 0 leaves the MLP out.
        mlp_act: Activation of the MLP.
        mlp_bias: Whether the pointwise layers of the MLP have a bias.
        layer_scale: Start value of the factors on both branches, or None for no factors.
        res_scale: Start value of the factors on both shortcuts, or None for no factors.
        shortcut: False leaves the shortcuts out (a row of PoolFormer's ablation).
        drop_path: Probability that a branch is dropped for an image in training.
    """

    def __init__(
        self,
        dim: int,
        token_mixer: str | dict,
        norm1: LayerSpec = "GN1",
        norm2: LayerSpec = "GN1",
        mlp_ratio: float = 4,
        mlp_act: LayerSpec = "GELU",
        mlp_bias: bool = True,
        layer_scale: float | None = None,
        res_scale: float | None = None,
        shortcut: bool = True,
        drop_path: float = 0.0,
    ):
        super().__init__()

        def scale(value: float | None) -> nn.Module:
            return nn.Identity() if value is None else Scale(dim, value)

        self.shortcut = shortcut
        self.norm1 = build_norm(norm1, dim)
        self.token_mixer = build_token_mixer(token_mixer, dim)
        self.layer_scale1 = scale(layer_scale)
        self.res_scale1 = scale(res_scale)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()
        self.has_mlp = mlp_ratio > 0
        if self.has_mlp:
            self.norm2 = build_norm(norm2, dim)
            # Behind attention and LayerNorm the feature map is channels-last. There a matrix
            # product is faster than a convolution of 1x1.
            tokens = isinstance(self.token_mixer, Attention) and isinstance(self.norm2, LayerNorm2d)
            self.mlp = ChannelMLP(dim, mlp_ratio, mlp_act, mlp_bias, linear=tokens)
            self.layer_scale2 = scale(layer_scale)
            self.res_scale2 = scale(res_scale)

    def switch_to_deploy(self) -> None:
        """Fold norms and factors into the layers beside them, see :mod:`.folding`."""
        self.norm1, self.token_mixer, self.layer_scale1 = fold_branch(
            self.norm1, self.token_mixer, self.layer_scale1
        )
        if self.has_mlp:
            self.norm2, self.mlp, self.layer_scale2 = fold_branch(
                self.norm2, self.mlp, self.layer_scale2
            )

    def forward(self, x: Tensor) -> Tensor:
        """Mix ``x [N, C, H, W]`` in space, then in channels; shape is kept."""
        branch = self.drop_path(self.layer_scale1(self.token_mixer(self.norm1(x))))
        x = self.res_scale1(x) + branch if self.shortcut else branch
        if self.has_mlp:
            branch = self.drop_path(self.layer_scale2(self.mlp(self.norm2(x))))
            x = self.res_scale2(x) + branch if self.shortcut else branch
        return x


class PositionEmbedding(nn.Module):
    """Learnt embedding added to a feature map; for another size it is resampled (bicubic).

    Args:
        dim: Number of channels.
        side: Height and width of the feature map at the training size, in positions.
    """

    def __init__(self, dim: int, side: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, dim, side, side))

    def forward(self, x: Tensor) -> Tensor:
        """Add the embedding to ``x [N, C, H, W]``."""
        weight = self.weight
        if x.shape[-2:] != weight.shape[-2:]:
            weight = nn.functional.interpolate(
                weight, x.shape[-2:], mode="bicubic", align_corners=False
            )
        return x + weight


def drop_path_rates(last: float, depths: Sequence[int]) -> list[list[float]]:
    """Drop probabilities of the blocks of each stage, over all blocks linear from 0 to ``last``.

    Raises:
        ValueError: If ``last`` is no probability below 1.
    """
    if not 0 <= last < 1:
        raise ValueError(f"drop_path_rate={last}: expected a probability, 0 or more and below 1")
    rates = iter(torch.linspace(0, last, sum(depths), device="cpu").tolist())
    return [list(islice(rates, depth)) for depth in depths]


class Stage(nn.Module):
    """Downsampling (none in stage 0), position embedding if any, then blocks."""

    def __init__(
        self,
        blocks: Sequence[nn.Module],
        downsample: nn.Module | None = None,
        pos_embed: nn.Module | None = None,
    ):
        super().__init__()
        self.downsample = downsample or nn.Identity()
        self.pos_embed = pos_embed or nn.Identity()
        self.blocks = nn.Sequential(*blocks)
        self.has_products = any(isinstance(m, PointwiseLinear) for m in self.blocks.modules())

    def forward(self, x: Tensor) -> Tensor:
        """Run the stage on ``x [N, C, H, W]``."""
        x = self.blocks(self.pos_embed(self.downsample(x)))
        return channels_last_gradient(x) if self.training and self.has_products else x


@MODELS.register_module()
class MetaFormer(PyramidBackbone):
    """MetaFormer with every part as an argument.

    Arguments marked *per stage* are one value for all stages or a list of one value per stage.

    Args:
        depths: Blocks in each stage.
        dims: Channels of each stage.
        token_mixers: *Per stage.* Token mixer by name or dict. Defaults to ``'Pooling'``.
        mlp_ratios: *Per stage.* Hidden channels of the MLP divided by the stage's; 0 leaves the
            MLP out. Defaults to 4.
        norm1: *Per stage.* Norm before the token mixer: ``'GN1'``, ``'LN'``, ``'BN'``, None, or a
            dict with ``bias`` and ``eps``. Defaults to ``'GN1'``.
        norm2: *Per stage.* Norm before the MLP. Defaults to ``'same'``, the one of ``norm1``.
        mlp_act: *Per stage.* Activation of the MLP. Defaults to ``'GELU'``.
        mlp_bias: Whether the pointwise layers of the MLP have a bias. Defaults to True.
        layer_scale: *Per stage.* Start value of the factors on the branches; None for none.
            Defaults to None.
        res_scale: *Per stage.* Start value of the factors on the shortcuts; None for none.
            Defaults to None.
        shortcut: False removes the shortcuts. Defaults to True.
        stem: Settings of the stem's :class:`PatchConv`. Defaults to the PoolFormer stem, kernel 7,
            stride 4, padding 2.
        downsample: Settings of the downsampling :class:`PatchConv`. Defaults to kernel 3,
            stride 2, padding 1.
        pos_embed: *Per stage.* Side of a learnt position embedding at the training size, or None.
            Defaults to None.
        init: Which convolutions and linear layers start from a normal of deviation 0.02, with
            zero bias: those in ``'blocks'`` (PoolFormer), ``'all'`` (the baselines) or ``'none'``.
            The others keep PyTorch's start. Defaults to ``'blocks'``.
        drop_path_rate: Drop probability of the last block; it grows linearly from 0 at the first.
            Defaults to 0.
        in_channels: Channels of the image. Defaults to 3.
        **kwargs: ``out_indices``, ``out_norm``, ``frozen_stages``, ``with_cp``, ``init_cfg`` of
            :class:`PyramidBackbone`.

    Raises:
        ValueError: If a list has another length than ``depths``, or a name is unknown.
    """

    def __init__(
        self,
        depths: Sequence[int] = (2, 2, 6, 2),
        dims: Sequence[int] = (64, 128, 320, 512),
        token_mixers: Any = "Pooling",
        *,
        mlp_ratios: Any = 4,
        norm1: Any = "GN1",
        norm2: Any = "same",
        mlp_act: Any = "GELU",
        mlp_bias: bool = True,
        layer_scale: Any = None,
        res_scale: Any = None,
        shortcut: bool = True,
        stem: dict | None = None,
        downsample: dict | None = None,
        pos_embed: Any = None,
        init: Literal["blocks", "all", "none"] = "blocks",
        drop_path_rate: float = 0.0,
        in_channels: int = 3,
        **kwargs: Any,
    ):
        if len(depths) != 4 or len(dims) != 4:
            raise ValueError(f"depths={depths}, dims={dims}: expected four stages each")
        if init not in ("blocks", "all", "none"):
            raise ValueError(f"init={init!r}: expected 'blocks', 'all' or 'none'")
        of_stages = {
            name: per_stage(value, name)
            for name, value in dict(
                token_mixer=token_mixers,
                mlp_ratio=mlp_ratios,
                norm1=norm1,
                norm2=norm1 if norm2 == "same" else norm2,
                mlp_act=mlp_act,
                layer_scale=layer_scale,
                res_scale=res_scale,
            ).items()
        }
        sides = per_stage(pos_embed, "pos_embed")
        drop_paths = drop_path_rates(drop_path_rate, depths)
        stem = dict(kernel_size=7, stride=4, padding=2) if stem is None else stem
        downsample = dict(kernel_size=3, stride=2, padding=1) if downsample is None else downsample

        def stage(i: int) -> Stage:
            settings = {name: values[i] for name, values in of_stages.items()}
            settings |= dict(mlp_bias=mlp_bias, shortcut=shortcut)
            return Stage(
                [MetaFormerBlock(dims[i], drop_path=rate, **settings) for rate in drop_paths[i]],
                PatchConv(dims[i - 1], dims[i], **downsample) if i else None,
                PositionEmbedding(dims[i], sides[i]) if sides[i] else None,
            )

        super().__init__(
            PatchConv(in_channels, dims[0], **stem),
            [partial(stage, i) for i in range(4)],
            depths,
            dims,
            **kwargs,
        )
        for name, module in self.named_modules():
            if init == "all" or (init == "blocks" and ".blocks." in name):
                init_normal(module)


def init_normal(module: nn.Module) -> None:
    """Start a convolution or linear layer from a normal of deviation 0.02, with zero bias."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
