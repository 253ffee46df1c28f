"""Exact algebra on the weights of neighbouring layers: what deploying a model consists of.

A folded block is the same block with less in it, so its formula stays that of the paper:

* the affine part of a norm goes into the linear layer after it, all of a batch norm likewise;
* the layer scale goes into the last linear layer, or, where the token mixer treats each channel
  alike and linearly, into the norm before it;
* the factor of StarReLU goes into the layer after it, and so does its shift, unless that layer
  pads with zeros; what stays is a squared ReLU;
* a batch norm after a convolution goes into the convolution.

How a token mixer takes part is said in :mod:`.token_mixers`. Products are made in float64 and
rounded once. Layers are changed in place.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import torch
from mmcv.cnn import ConvModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .layers import ChannelMLP, GroupNorm1, LayerNorm2d, Scale, SquaredReLU, StarReLU
from .token_mixers import SepConv


@torch.no_grad()
def fold_branch(
    norm: nn.Module, body: nn.Module, layer_scale: nn.Module
) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Fold ``layer_scale(body(norm(x)))``, one half of a block.

    Args:
        norm: Norm before the body, or identity.
        body: Token mixer or MLP.
        layer_scale: :class:`Scale` after the body, or identity.

    Returns:
        What is left of the three; an identity for what was taken in.
    """
    if hasattr(body, "fold_into"):
        body = body.fold_into(norm)
    first, last = getattr(body, "linear_ends", (None, None))
    if first is not None:
        norm = absorb_norm(norm, body.get_submodule(first))
    if type(layer_scale) is Scale:
        if last is not None:
            absorb_scale(body.get_submodule(last), layer_scale.scale)
            layer_scale = nn.Identity()
        elif getattr(body, "channelwise", False) and absorb_scale_into_norm(
            norm, layer_scale.scale
        ):
            layer_scale = nn.Identity()
    if type(body) is ChannelMLP and type(body.act) is StarReLU:
        body.act = _fold_star_relu_before(body.fc2, body.act)
    elif type(body) is SepConv and type(body.act1) is StarReLU:
        body.act1 = _fold_star_relu_around(body.pwconv1, body.act1, body.dwconv)
    return norm, body, layer_scale


def _fold_star_relu_before(fc2: nn.Conv2d, act: StarReLU) -> SquaredReLU:
    """Fold factor and shift of a StarReLU into the layer after it, which must not pad."""
    shift = constant_response(fc2.weight, act.bias.expand(fc2.in_channels))
    absorb_scale(fc2, None, shift)
    fc2.weight.copy_(fc2.weight.double() * act.scale.double())
    return SquaredReLU().train(act.training)


def _fold_star_relu_around(fc1: nn.Conv2d, act: StarReLU, conv: nn.Conv2d) -> SquaredReLU:
    """Fold the factor of a StarReLU into a layer before it and a depthwise one after it.

    The root of the factor passes the ReLU and goes into ``fc1``; its sign goes into ``conv``. The
    shift stays: it must not be added to the zeros that ``conv`` pads with.
    """
    sign = torch.where(act.scale < 0, -1.0, 1.0).to(act.scale)
    absorb_scale(fc1, act.scale.double().abs().sqrt().expand(fc1.out_channels))
    absorb_scale(conv, sign.expand(conv.out_channels))
    squared = SquaredReLU().train(act.training)
    squared.bias = nn.Parameter(act.bias * sign, requires_grad=act.bias.requires_grad)
    return squared


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
def absorb_scale_into_norm(norm: nn.Module, scale: Tensor) -> bool:
    """Make ``scale * norm(x)``, by channel, of a norm; returns False if it has no weight."""
    if getattr(norm, "weight", None) is None:
        return False
    for parameter in (norm.weight, norm.bias):
        if parameter is not None:
            parameter.copy_(parameter.double() * scale.double())
    return True


def absorb_batch_norm(layer: nn.Conv2d, norm: nn.Module) -> nn.Module:
    """Move a batch norm into the layer before it; returns what is left, any other norm as it is."""
    if not has_batch_norm_factors(norm):
        return norm
    absorb_scale(layer, *batch_norm_factors(norm))
    return nn.Identity()


def has_batch_norm_factors(norm: nn.Module) -> bool:
    """Whether a module is a batch norm with running statistics: at inference a constant factor.

    All classes of torch, mmengine and mmcv count, because each of them replaces the others' by its
    own. mmcv's SyncBN is no subclass of torch's.
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
    """Output ``[out]`` of a layer without bias and padding for a constant feature map ``x [in]``.

    In float64. A layer has one group, or one group per channel.
    """
    weight = weight.double().view(*weight.shape[:2], -1).sum(2)
    return weight @ x.double() if weight.shape[1] == len(x) else weight[:, 0] * x.double()


def _set_bias(layer: nn.Module, bias: Tensor) -> None:
    bias = bias.to(layer.weight.dtype)
    layer.bias = nn.Parameter(bias, requires_grad=layer.weight.requires_grad)


def fold_batch_norms(model: nn.Module, but: Sequence[nn.Module] = ()) -> None:
    """Fold every batch norm that follows a convolution at once, in place.

    Args:
        model: Model in eval mode.
        but: Modules to leave alone, with all below them.
    """
    for child in model.children():
        if child not in but:
            fold_batch_norms(child, but)
    for conv_name, norm_name in list(_conv_norm_pairs(model)):
        conv, norm = getattr(model, conv_name), getattr(model, norm_name)
        conv = copy.deepcopy(conv)  # heads may share one between levels that have norms each
        absorb_scale(conv, *batch_norm_factors(norm))
        setattr(model, conv_name, conv)
        setattr(model, norm_name, _remains(norm))


def _conv_norm_pairs(parent: nn.Module) -> Iterator[tuple[str, str]]:
    """Names of the convolutions in a module whose output goes into a batch norm and nowhere else.

    Modules do not say in which order they run their parts. By the habits of the libraries it is
    known of four: neighbours in a ``Sequential``, the parts of a ``ConvModule``, neighbours in a
    module of timm, and ``conv1`` with ``bn1`` or ``norm1`` right after it. (A norm that runs before
    its convolution is also written before it.)
    """
    children = dict(parent.named_children())
    if isinstance(parent, ConvModule):
        order = parent.order
        follows = "norm" in order and order.index("norm") == order.index("conv") + 1
        pairs = [("conv", parent.norm_name)] if follows and parent.with_norm else []
    else:
        neighbours = list(zip(children, list(children)[1:], strict=False))
        ordered = isinstance(parent, nn.Sequential) or type(parent).__module__.startswith("timm.")
        pairs = [
            (conv, norm)
            for conv, norm in neighbours
            if ordered or norm in (conv.replace("conv", "bn", 1), conv.replace("conv", "norm", 1))
        ]
    for conv, norm in pairs:
        is_plain = type(children[conv]) is nn.Conv2d and not _is_hooked(children[conv])
        if is_plain and _is_batch_norm(children[norm]):
            yield conv, norm


def _is_batch_norm(module: nn.Module) -> bool:
    """A batch norm with statistics of its own; timm's with an activation included."""
    return has_batch_norm_factors(module) or (
        _has_act(module)
        and isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm)
        and module.running_var is not None
    )


def _has_act(norm: nn.Module) -> bool:
    # timm's norm with activation, also after mmengine has exchanged its class.
    return isinstance(getattr(norm, "act", None), nn.Module)


def _remains(norm: nn.Module) -> nn.Module:
    """What a batch norm does beside normalising: timm's drops and activates."""
    if _has_act(norm):
        return nn.Sequential(getattr(norm, "drop", nn.Identity()), norm.act).eval()
    return nn.Identity()


def _is_hooked(module: nn.Module) -> bool:
    """Whether something waits for the input, the result or the gradient of a module."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )
