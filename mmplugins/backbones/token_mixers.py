"""Token mixers and their registry: the part of a MetaFormer block that moves information in space.

A token mixer is an ``nn.Module`` that takes the normalised feature map ``[N, C, H, W]`` and returns
a feature map of the same shape. Registering one is all that is needed to use it in any stage of any
backbone::

    @TOKEN_MIXERS.register_module()
    class Shift(nn.Module):
        def __init__(self, dim, step=1):
            ...

    backbone = dict(type='MetaFormer', token_mixers=dict(type='Shift', step=2), ...)

The constructor receives the number of channels as ``dim`` and whatever else the dict holds.

Two class attributes, both optional, let :mod:`.folding` fold what stands around a mixer:
``linear_ends`` names its first and its last layer, each a linear layer or convolution, or None;
``channelwise = True`` says that it treats each channel alike and linearly, without a bias.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from mmengine.registry import Registry
from torch import Tensor, nn

from mmplugins.utils import did_you_mean

from .layers import LayerSpec, build_act

TOKEN_MIXERS = Registry("token mixer", scope="mmplugins")
"""Token mixers by class name."""


def build_token_mixer(spec: str | Mapping[str, Any], dim: int) -> nn.Module:
    """Build a token mixer for ``dim`` channels from its name or ``dict(type=name, **arguments)``.

    Raises:
        ValueError: If no mixer of that name is registered; the message lists the known ones.
    """
    settings = {"type": spec} if isinstance(spec, str) else dict(spec)
    name = settings.pop("type", None)
    mixer = TOKEN_MIXERS.get(name) if isinstance(name, str) else name
    if mixer is None:
        known = sorted(TOKEN_MIXERS.module_dict)
        hint = did_you_mean(name, known)
        raise ValueError(
            f"Unknown token mixer {name!r}: registered are {', '.join(known)}.{hint} "
            "Register your own with @TOKEN_MIXERS.register_module() in a module that the config "
            "lists in custom_imports."
        )
    # Not Registry.build: inside mmdet or mmseg it would look for this registry in their scope
    # first and warn for every block.
    return mixer(dim=dim, **settings)


@TOKEN_MIXERS.register_module()
class Identity(nn.Identity):
    """No mixing: the branch returns its normalised input (IdentityFormer).

    Note that the branch still adds a normalised copy of the input to the shortcut.
    """

    channelwise = True

    def __init__(self, dim: int):
        super().__init__()


@TOKEN_MIXERS.register_module()
class Pooling(nn.Module):
    """Average of the neighbourhood minus the position itself (PoolFormer, section 3.2, eq. 4).

    The shortcut around the branch adds the position again, hence the subtraction. Positions
    outside the feature map do not count in the average.

    Args:
        dim: Number of channels (pooling works for any).
        pool_size: Side of the neighbourhood, odd. Defaults to 3.

    Raises:
        ValueError: If ``pool_size`` is even, which would change the size of the feature map.
    """

    channelwise = True

    def __init__(self, dim: int, pool_size: int = 3):
        super().__init__()
        self.pool_size = pool_size
        self.padding = _same_padding(pool_size, "pool_size")

    def forward(self, x: Tensor) -> Tensor:
        """Mix ``x [N, C, H, W]``; shape is kept."""
        return F.avg_pool2d(x, self.pool_size, 1, self.padding, count_include_pad=False) - x

    def extra_repr(self) -> str:
        """Show the pool size in the printed model."""
        return f"pool_size={self.pool_size}"


@TOKEN_MIXERS.register_module()
class DepthwiseConv(nn.Conv2d):
    """One learnt kernel per channel in place of the average (PoolFormer, Table 5).

    Args:
        dim: Number of channels.
        kernel_size: Side of the kernel, odd. Defaults to 3.
        bias: Whether each channel has a summand beside its kernel. Defaults to False.

    Raises:
        ValueError: If ``kernel_size`` is even, which would change the size of the feature map.
    """

    def __init__(self, dim: int, kernel_size: int = 3, bias: bool = False):
        padding = _same_padding(kernel_size, "kernel_size")
        super().__init__(dim, dim, kernel_size, padding=padding, groups=dim, bias=bias)


@TOKEN_MIXERS.register_module()
class SepConv(nn.Module):
    """Inverted separable convolution (ConvFormer): widen, mix each channel in space, narrow.

    The mixer of MobileNetV2 as MetaFormer Baselines uses it. No layer has a bias.

    Args:
        dim: Number of channels.
        expansion: Channels in the middle divided by ``dim``. Defaults to 2.
        kernel_size: Side of the depthwise kernel, odd. Defaults to 7.
        act: Activation after the first layer. Defaults to ``'StarReLU'``.

    Raises:
        ValueError: If ``kernel_size`` is even, which would change the size of the feature map.
    """

    linear_ends = ("pwconv1", "pwconv2")

    def __init__(
        self, dim: int, expansion: float = 2, kernel_size: int = 7, act: LayerSpec = "StarReLU"
    ):
        super().__init__()
        hidden = int(dim * expansion)
        self.pwconv1 = nn.Conv2d(dim, hidden, 1, bias=False)
        self.act1 = build_act(act)
        self.dwconv = DepthwiseConv(hidden, kernel_size)
        self.pwconv2 = nn.Conv2d(hidden, dim, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Mix ``x [N, C, H, W]``; shape is kept."""
        return self.pwconv2(self.dwconv(self.act1(self.pwconv1(x))))


@TOKEN_MIXERS.register_module()
class Attention(nn.Module):
    """Multi-head self-attention over all positions of a feature map (CAFormer, hybrid PoolFormers).

    No position enters, so any size serves. The scores are never held as a whole where PyTorch has
    a fused kernel: 800x1344 pixels are 4,200 positions at stride 16, whose scores would be 71 MB
    per head and image.

    Args:
        dim: Number of channels.
        head_dim: Channels of one head. Defaults to 32.
        qkv_bias: Whether queries, keys and values have a bias. Defaults to False.
        proj_bias: Whether the layer after the heads has one. Defaults to False.

    Raises:
        ValueError: If ``dim`` is no multiple of ``head_dim``.
    """

    linear_ends = ("qkv", "proj")

    def __init__(
        self, dim: int, head_dim: int = 32, qkv_bias: bool = False, proj_bias: bool = False
    ):
        super().__init__()
        if dim % head_dim:
            raise ValueError(
                f"dim={dim}, head_dim={head_dim}: expected channels that are a multiple of "
                "head_dim; change the dims of the stage or give another head_dim"
            )
        self.head_dim = head_dim
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim, bias=proj_bias)

    def forward(self, x: Tensor) -> Tensor:
        """Mix ``x [N, C, H, W]``; shape is kept, the result is channels-last in memory."""
        h, w = x.shape[-2:]
        tokens = x.permute(0, 2, 3, 1).flatten(1, 2)  # a view of a channels-last feature map
        qkv = self.qkv(tokens).unflatten(-1, (3, -1, self.head_dim)).permute(2, 0, 3, 1, 4)
        tokens = F.scaled_dot_product_attention(*qkv.unbind()).transpose(1, 2).flatten(2)
        return self.proj(tokens).unflatten(1, (h, w)).permute(0, 3, 1, 2)

    def extra_repr(self) -> str:
        """Show the size of a head in the printed model."""
        return f"head_dim={self.head_dim}"


def _same_padding(size: int, name: str) -> int:
    """Padding with which a window of this side keeps the size of the feature map."""
    if size % 2 == 0:
        raise ValueError(
            f"{name}={size}: expected an odd number, so that the feature map keeps its size"
        )
    return size // 2
