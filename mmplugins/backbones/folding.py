"""Exact algebra on the weights of neighbouring layers: what deploying a model consists of.

Products are made in float64 and rounded once. Layers are changed in place.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .layers import GroupNorm1, LayerNorm2d


@torch.no_grad()
def absorb_norm(norm: nn.Module, layer: nn.Conv2d | nn.Linear, padded: bool = False) -> nn.Module:
    """Move the affine part of a norm into the linear layer after it; returns what is left of it.

    A shift cannot pass zero padding; such a norm is returned as it is.

    Args:
        norm: Norm of a kind known here, or any other module, which is returned as it is.
        layer: Layer that sees the output of the norm and nothing else.
        padded: Whether zeros are padded between the two. Defaults to False.
    """
    is_batch_norm = has_batch_norm_factors(norm)
    if is_batch_norm:
        scale, shift = batch_norm_factors(norm)
    elif type(norm) in (GroupNorm1, LayerNorm2d):
        if norm.weight is None:
            return norm
        scale, shift = norm.weight.double(), norm.bias
    else:
        return norm
    is_conv = isinstance(layer, nn.Conv2d)
    depthwise = is_conv and layer.groups == layer.in_channels == layer.out_channels
    if is_conv and layer.groups > 1 and not depthwise:
        return norm
    if shift is not None and (padded or (is_conv and any(layer.padding))) and shift.any():
        return norm
    if shift is not None:
        moved = constant_response(layer.weight, shift)
        _set_bias(layer, moved if layer.bias is None else layer.bias.double() + moved)
    along = (-1, 1) if depthwise else (1, -1)
    tail = [1] * (layer.weight.ndim - 2)
    layer.weight.copy_(layer.weight.double() * scale.view(*along, *tail))
    if is_batch_norm:
        return nn.Identity()
    norm.weight = norm.bias = None
    return norm


@torch.no_grad()
def absorb_scale(layer: nn.Conv2d | nn.Linear, scale: Tensor | None, shift: Tensor | None = None):
    """Make ``scale * layer(x) + shift``, by channel, of a linear layer."""
    if scale is not None:
        weight = layer.weight.double()
        layer.weight.copy_(weight * scale.double().view(-1, *[1] * (weight.ndim - 1)))
    bias = layer.bias if layer.bias is None or scale is None else layer.bias.double() * scale
    if shift is not None:
        bias = shift if bias is None else bias + shift
    if bias is not None:
        _set_bias(layer, bias)


@torch.no_grad()
def absorb_scale_into_norm(norm: nn.Module, scale: Tensor | None) -> bool:
    """Make ``scale * norm(x)``, by channel, of a norm; returns False if it has no weight."""
    if scale is None:
        return True
    if getattr(norm, "weight", None) is None:
        return False
    for parameter in (norm.weight, norm.bias):
        if parameter is not None:
            parameter.copy_(parameter.double() * scale.double())
    return True


def has_batch_norm_factors(norm: nn.Module) -> bool:
    """Whether a module is a batch norm that keeps statistics, without which it is no factor.

    Every class counts that torch, mmengine and mmcv put in the place of one another: a file from
    one of them is loaded into the others. mmcv's own SyncBN is no batch norm to torch.
    """
    kind = type(norm)
    known = issubclass(kind, _BatchNorm) or kind.__name__ == "SyncBatchNorm"
    plain = kind.__module__.startswith(("torch.", "mmengine.", "mmcv."))
    return known and plain and norm.running_var is not None


def batch_norm_factors(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Factor and shift ``[C]``, in float64, that a batch norm is at inference."""
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    shift = -norm.running_mean.double() * scale
    return scale, shift if norm.bias is None else shift + norm.bias.double()


def constant_response(weight: Tensor, x: Tensor) -> Tensor:
    """What a layer of this weight, without padding, makes of a constant map ``x [in]``: ``[out]``.

    In float64. Layers with groups are meant only where each channel is a group.
    """
    weight = weight.double().view(*weight.shape[:2], -1).sum(2)
    return weight @ x.double() if weight.shape[1] == len(x) else weight[:, 0] * x.double()


def _set_bias(layer: nn.Module, bias: Tensor) -> None:
    bias = bias.to(layer.weight.dtype)
    layer.bias = nn.Parameter(bias, requires_grad=layer.weight.requires_grad)
