"""The deploy form of a block: one branch after another, each of which adds itself to its input.

In training a branch is norm, body, layer scale, and a sum with the (scaled) shortcut. At inference
most of this is exact algebra on the weights:

* the affine part of a norm goes into the linear layer after it, all of a batch norm likewise;
* the layer scale goes into the last linear layer, or, where the token mixer treats each channel
  alike and linearly, into the norm before it;
* the factor of StarReLU goes into the layer after it, and its shift too unless that layer pads;
* a group norm with one group before pooling leaves one factor per image, as
  ``pool(norm(x)) - norm(x) = (pool(x) - x) * weight * rstd``: mean and bias cancel;
* a group norm that is the whole branch becomes one factor and one shift, shortcut included;
* the sum with the shortcut becomes a part of the last convolution (:mod:`.fused_conv`).

How a token mixer takes part is said in :mod:`.token_mixers`; the algebra is in :mod:`.folding`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..functional.calling import by_channel, is_traced
from ..functional.inference_conv import can_fuse
from ..functional.inference_maps import image_moments, in_bands, pointwise_pair, scaled
from .folding import (
    absorb_norm,
    absorb_scale,
    absorb_scale_into_norm,
    constant_response,
)
from .fused_conv import FusedConv2d
from .layers import ChannelMLP, GroupNorm1, LayerNorm2d, Scale, SquaredReLU, StarReLU
from .token_mixers import Attention, Pooling, SepConv, attend


class PoolingBranch(nn.Module):
    """``shortcut(x) + (pool(x) - x) * gain * rstd``: group norm, pooling and layer scale.

    Args:
        pool: The token mixer.
        norm: The group norm before it.
        res_scale: Factors on the shortcut ``[C]``, or None.
    """

    def __init__(self, pool: Pooling, norm: GroupNorm1, res_scale: Tensor | None):
        super().__init__()
        self.pool_size, self.padding, self.eps = pool.pool_size, pool.padding, norm.eps
        weight = torch.ones(norm.num_channels) if norm.weight is None else norm.weight
        self.gain = nn.Parameter(weight.detach().clone(), requires_grad=False)
        self.res_scale = _frozen(res_scale)

    def forward(self, x: Tensor) -> Tensor:
        """Mix ``x [N, C, H, W]``; shape is kept."""
        if can_fuse(x, self.gain) and not is_traced():
            x = x.contiguous(memory_format=torch.channels_last)
            rstd = image_moments(x, self.eps)[1]
        elif torch.is_grad_enabled():  # group norm's own statistics have no gradient in torch 2.4
            wide = x.to(torch.promote_types(x.dtype, torch.float32))
            rstd = (wide.var((1, 2, 3), correction=0, keepdim=True) + self.eps).rsqrt()
        else:
            n, c, h, w = x.shape
            rstd = torch.native_group_norm(x, None, None, n, c, h * w, 1, self.eps)[2]
            rstd = rstd[:, :, None, None]
        gain = (rstd * self.gain[:, None, None]).to(x.dtype)
        pooled = F.avg_pool2d(x, self.pool_size, 1, self.padding, count_include_pad=False)
        if self.res_scale is None:
            return torch.lerp(x, pooled, gain)
        return torch.addcmul(x * (self.res_scale[:, None, None] - gain), pooled, gain)


class NormBranch(nn.Module):
    """``res_scale * x + norm(x)``: of a group norm, one factor and shift per image and channel.

    Args:
        norm: The group norm, which has taken in what stood after it.
        res_scale: Factors on the shortcut ``[C]``, or None.
    """

    def __init__(self, norm: GroupNorm1, res_scale: Tensor | None):
        super().__init__()
        self.norm, self.res_scale = CentredGroupNorm1(norm), _frozen(res_scale)

    def forward(self, x: Tensor) -> Tensor:
        """Mix ``x [N, C, H, W]``; shape is kept."""
        norm = self.norm
        if is_traced() or not can_fuse(x, x):
            return scaled(x, self.res_scale) + norm(x)
        x = x.contiguous(memory_format=torch.channels_last)
        mean, factor = image_moments(x, norm.eps)
        if norm.weight is not None:
            factor = factor * by_channel(norm.weight)
        shift = -mean * factor
        if norm.bias is not None:
            shift = shift + by_channel(norm.bias)
        return torch.addcmul(
            shift, x, factor + (1 if self.res_scale is None else by_channel(self.res_scale))
        )


class CentredGroupNorm1(GroupNorm1):
    """A group norm that stays where it is, with the statistics of the branches around it.

    Without them the deploy form, whose maps are channels-last, would be less exact than a trained
    form in PyTorch's default layout, see :func:`image_moments`.
    """

    def __init__(self, norm: GroupNorm1):
        super().__init__(norm.num_channels, norm.eps)
        self.weight, self.bias = norm.weight, norm.bias
        self.train(norm.training)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x [N, C, H, W]``; shape is kept."""
        if is_traced() or not can_fuse(x, x):
            return super().forward(x)
        x = x.contiguous(memory_format=torch.channels_last)
        mean, rstd = image_moments(x, self.eps)
        if self.weight is not None:
            rstd = rstd * self.weight[:, None, None]
        x = (x - mean).mul_(rstd)
        return x if self.bias is None else x.add_(self.bias[:, None, None])


class InvertedBranch(nn.Module):
    """Norm, widening layer, activation, narrowing layer: channel MLP, SepConv, ConvNeXt's block.

    Args:
        norm: Norm, or identity.
        fc1: Widening layer with whatever activation it could take over.
        middle: What stands between the layers.
        fc2: Narrowing layer.
        res_scale: Factors on the shortcut ``[C]``, or None.
        shortcut: Whether there is one.
        before: Layer before the norm.
    """

    def __init__(
        self,
        norm: nn.Module,
        fc1: FusedConv2d,
        middle: nn.Module,
        fc2: FusedConv2d,
        res_scale: Tensor | None = None,
        shortcut: bool = True,
        before: nn.Module | None = None,
    ):
        super().__init__()
        self.before = before or nn.Identity()
        self.norm, self.fc1, self.middle, self.fc2 = norm, fc1, middle, fc2
        self.res_scale, self.shortcut = _frozen(res_scale), shortcut
        self.pointwise = not any(isinstance(m, nn.Conv2d) for m in middle.modules())
        self.squared = [type(m) for m in middle] == [Square]
        self.is_pair = self.pointwise and (self.squared or len(middle) == 0)

    def forward(self, x: Tensor) -> Tensor:
        """Mix ``x [N, C, H, W]``; shape is kept."""
        y = self.before(x)
        shortcut = x if self.shortcut else None
        fused = can_fuse(y, self.fc1.weight)
        if fused and self.is_pair and is_traced():
            fc1, fc2 = self.fc1, self.fc2
            first = (fc1.weight, fc1.bias, fc1.act, self.squared)
            last = (fc2.weight, fc2.bias, shortcut, self.res_scale)
            return pointwise_pair(self.norm(y), *first, *last)
        if is_traced() or not (fused and self.pointwise):
            return self._layers(self.norm(y), scaled(shortcut, self.res_scale))
        if type(self.norm) in (GroupNorm1, CentredGroupNorm1) and self.norm.weight is None:
            y = y.contiguous(memory_format=torch.channels_last)
            mean, rstd = image_moments(y, self.norm.eps)
            norm = lambda band: (band - mean).mul_(rstd)  # noqa: E731
        elif type(self.norm) in (LayerNorm2d, nn.Identity):
            norm = self.norm
        else:
            y, norm = self.norm(y), nn.Identity()
        return in_bands(
            lambda band, residual: self._layers(norm(band), residual),
            y,
            shortcut,
            self.res_scale,
            self.fc1.out_channels,
        )

    def _layers(self, y: Tensor, residual: Tensor | None) -> Tensor:
        return self.fc2(self.middle(self.fc1(y)), residual)


class AttentionBranch(nn.Module):
    """Norm, attention and shortcut, with pointwise convolutions for the linear layers."""

    def __init__(
        self,
        norm: nn.Module,
        attention: Attention,
        res_scale: Tensor | None = None,
        shortcut: bool = True,
    ):
        super().__init__()
        self.norm, self.head_dim = norm, attention.head_dim
        self.qkv, self.proj = (FusedConv2d(_as_conv(x)) for x in (attention.qkv, attention.proj))
        self.res_scale, self.shortcut = _frozen(res_scale), shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Mix ``x [N, C, H, W]``; shape is kept."""
        tokens = self.qkv(self.norm(x)).permute(0, 2, 3, 1).flatten(1, 2)
        y = attend(tokens, self.head_dim).unflatten(1, x.shape[-2:]).permute(0, 3, 1, 2)
        return self.proj(y, scaled(x, self.res_scale) if self.shortcut else None)


class PlainBranch(nn.Module):
    """Any other token mixer between its norm, its layer scale and its shortcut."""

    def __init__(
        self,
        norm: nn.Module,
        mixer: nn.Module,
        layer_scale: Tensor | None = None,
        res_scale: Tensor | None = None,
        shortcut: bool = True,
    ):
        super().__init__()
        self.norm, self.mixer = norm, mixer
        self.layer_scale, self.res_scale = _frozen(layer_scale), _frozen(res_scale)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Mix ``x [N, C, H, W]``; shape is kept."""
        if (
            self.shortcut
            and self.layer_scale is None
            and getattr(self.mixer, "adds_residual", False)
        ):
            return self.mixer(self.norm(x), scaled(x, self.res_scale))
        y = self.mixer(self.norm(x))
        if self.layer_scale is None:
            return scaled(x, self.res_scale) + y if self.shortcut else y
        scale = self.layer_scale[:, None, None]
        return torch.addcmul(scaled(x, self.res_scale), y, scale) if self.shortcut else y * scale


class SquareAndShift(nn.Module):
    """``x**2 + shift``: what remains of StarReLU before a layer that pads with zeros."""

    def __init__(self, shift: Tensor):
        super().__init__()
        self.shift = _frozen(shift)

    def forward(self, x: Tensor) -> Tensor:
        """Apply to ``x`` of any shape, in place where no gradient is asked for."""
        out = None if torch.is_grad_enabled() or is_traced() else x
        return torch.addcmul(self.shift, x, x, out=out)


class Square(nn.Module):
    """``x**2``: what remains of StarReLU before a pointwise layer."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply to ``x`` of any shape, in place where no gradient is asked for."""
        return x.square() if torch.is_grad_enabled() else x.square_()


def deploy_branch(
    norm: nn.Module,
    body: nn.Module,
    layer_scale: nn.Module,
    res_scale: nn.Module,
    shortcut: bool = True,
    before: nn.Module | None = None,
) -> nn.Module:
    """Turn the parts of a branch into its deploy form; the parts are used up.

    Args:
        norm: Norm before the body, or identity.
        body: Token mixer or MLP.
        layer_scale: :class:`Scale` after the body, or identity.
        res_scale: :class:`Scale` on the shortcut, or identity.
        shortcut: Whether there is one. Defaults to True.
        before: Layer before the norm. Defaults to None.
    """
    scale, res = _factors(layer_scale), _factors(res_scale)
    if hasattr(body, "fold_into"):
        body = body.fold_into(norm)
    first, last = getattr(body, "linear_ends", (None, None))
    if first is not None:
        norm = absorb_norm(norm, body.get_submodule(first))
    if last is not None:
        absorb_scale(body.get_submodule(last), scale)
        scale = None
    elif getattr(body, "channelwise", False) and absorb_scale_into_norm(norm, scale):
        scale = None

    if type(body) in (ChannelMLP, SepConv):
        fc1, middle, fc2 = fuse_layers(*body.children())
        return InvertedBranch(norm, fc1, middle, fc2, res, shortcut, before)
    if type(body) is Attention:
        return AttentionBranch(norm, body, res, shortcut)
    if type(body) is Pooling and type(norm) is GroupNorm1 and shortcut and scale is None:
        return PoolingBranch(body, norm, res)
    if isinstance(body, nn.Identity) and type(norm) is GroupNorm1 and shortcut and scale is None:
        return NormBranch(norm, res)
    return PlainBranch(norm, body, scale, res, shortcut)


def fused_name(act: nn.Module) -> str | None:
    """Name of an activation that the convolution before it can take over, else None."""
    if type(act) is nn.GELU:
        return "gelu" if act.approximate == "none" else "gelu_tanh"
    return {nn.ReLU: "relu", nn.SiLU: "silu"}.get(type(act))


@torch.no_grad()
def fuse_layers(
    fc1: nn.Conv2d, act: nn.Module, *rest: nn.Conv2d
) -> tuple[FusedConv2d, nn.Module, FusedConv2d]:
    """First layer with as much of the activation as it can take over, middle, and last layer.

    Args:
        fc1: Pointwise layer.
        act: Activation after it.
        *rest: A convolution in space, if any, and the last, pointwise layer.
    """
    *spatial, fc2 = rest
    name = "relu" if type(act) in (StarReLU, SquaredReLU) else fused_name(act)
    middle = [FusedConv2d(layer) for layer in spatial]
    if name is None:
        middle.insert(0, act)
    elif type(act) is SquaredReLU:
        middle.insert(0, Square())
    elif type(act) is StarReLU and spatial:
        # The root of the factor passes the relu and goes into fc1; its sign into the convolution.
        sign = torch.where(act.scale < 0, -1.0, 1.0).to(act.scale)
        absorb_scale(fc1, act.scale.double().abs().sqrt().expand(fc1.out_channels))
        absorb_scale(spatial[0], sign.expand(spatial[0].out_channels))
        middle.insert(0, SquareAndShift(act.bias * sign))
    elif type(act) is StarReLU:
        shift = constant_response(fc2.weight, act.bias.expand(fc2.in_channels))
        absorb_scale(fc2, None, shift)
        fc2.weight.copy_(fc2.weight.double() * act.scale.double())
        middle.insert(0, Square())
    return FusedConv2d(fc1, name), nn.Sequential(*middle), FusedConv2d(fc2)


def _as_conv(linear: nn.Linear) -> nn.Conv2d:
    conv = nn.Conv2d(linear.in_features, linear.out_features, 1, bias=False, device="meta")
    conv.weight, conv.bias = _frozen(linear.weight[:, :, None, None]), linear.bias
    return conv.train(linear.training)


def _factors(scale: nn.Module) -> Tensor | None:
    return scale.scale.detach() if isinstance(scale, Scale) else None


def _frozen(value: Tensor | None) -> nn.Parameter | None:
    return None if value is None else nn.Parameter(value.detach().clone(), requires_grad=False)
