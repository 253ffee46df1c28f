"""Small layers that MetaFormer blocks are made of: norms, activations, scales, channel MLP.

All of them take and return maps of shape ``[N, C, H, W]`` in either memory format, so that a
block never has to care about layout. Pointwise layers are 1x1 convolutions for the same reason.

Norms and activations are chosen in configs by name or by dict, for example ``norm='GN1'``,
``norm=dict(type='LN', bias=False, eps=1e-6)`` or ``act=dict(type='StarReLU')``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmengine.registry import MODELS
from mmengine.utils import digit_version
from torch import Tensor, nn

from mmplugins.utils import did_you_mean

from ..functional.activations import squared_relu, star_relu
from ..functional.calling import is_traced
from ..functional.channel_mlp import Activation, channel_mlp
from ..functional.pointwise import pointwise_conv, pointwise_linear

CONTIGUOUS_GROUP_NORM = digit_version(torch.__version__) < digit_version("2.14")
"""On torch 2.4.0 the backward pass of group norm crashes on a channels-last input without gradient
(CPU); 2.14.1 is known to be free of that, what lies between is not known."""

LayerSpec = str | Mapping[str, Any] | None
"""A layer by name, by ``dict(type=name, **arguments)``, or ``None`` for no layer."""


class GroupNorm1(nn.GroupNorm):
    """Group normalisation with one group: statistics over C, H and W of each image.

    This is the norm that PoolFormer's paper calls modified layer normalisation (MLN, section 4.5).

    Args:
        dim: Number of channels.
        eps: Added to the variance. Defaults to 1e-5, the value of PoolFormer; the baselines of
            the second paper use 1e-6.
        bias: Whether a bias is learnt beside the weight. Defaults to True.
    """

    def __init__(self, dim: int, eps: float = 1e-5, bias: bool = True):
        super().__init__(1, dim, eps=eps)
        if not bias:
            self.bias = None

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x [N, C, H, W]``; shape is kept."""
        if CONTIGUOUS_GROUP_NORM and torch.is_grad_enabled() and not x.requires_grad:
            x = x.contiguous()
        return super().forward(x)


class LayerNorm2d(nn.LayerNorm):
    """Layer normalisation over the channels of a ``[N, C, H, W]`` map, at each position.

    The result is channels-last in memory: the statistics run along channels, so this is the
    layout in which neither this norm nor the convolution after it has to copy.

    Args:
        dim: Number of channels.
        eps: Added to the variance. Defaults to 1e-6.
        bias: Whether a bias is learnt beside the weight. Defaults to True.
    """

    def __init__(self, dim: int, eps: float = 1e-6, bias: bool = True):
        super().__init__(dim, eps=eps, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x [N, C, H, W]``; shape is kept."""
        x = F.layer_norm(
            x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps
        )
        return x.permute(0, 3, 1, 2)


class StarReLU(nn.Module):
    """``scale * relu(x)**2 + bias`` with one learnable scale and bias (MetaFormer Baselines).

    The paper derives 0.8944 and -0.4472 for unit-Gaussian input; the released code starts at 1
    and 0 and learns both, and so does this.
    """

    def __init__(self, scale: float = 1.0, bias: float = 0.0):
        super().__init__()
        self.scale = nn.Parameter(torch.full((1,), scale))
        self.bias = nn.Parameter(torch.full((1,), bias))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the activation to ``x`` of any shape."""
        return star_relu(x, self.scale, self.bias)


class SquaredReLU(nn.Module):
    """``relu(x)**2`` (Primer, So et al. 2021)."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply the activation to ``x`` of any shape."""
        return squared_relu(x)


class Scale(nn.Module):
    """One learnable factor per channel: a layer scale on a branch, or a res scale on the shortcut.

    Args:
        dim: Number of channels.
        init_value: Start value of every factor.
    """

    def __init__(self, dim: int, init_value: float):
        super().__init__()
        self.scale = nn.Parameter(torch.full((dim,), float(init_value)))

    def forward(self, x: Tensor) -> Tensor:
        """Scale ``x [N, C, H, W]`` by channel."""
        return x * self.scale[:, None, None]


class ChannelMLP(nn.Module):
    """Two pointwise layers with an activation between them.

    Args:
        dim: Channels of input and output.
        ratio: Hidden channels divided by ``dim``. Defaults to 4.
        act: Activation. Defaults to GELU.
        bias: Whether the pointwise layers have a bias. Defaults to True.
    """

    absorbs = ("scale",)
    linear_ends = ("fc1", "fc2")

    def __init__(self, dim: int, ratio: float = 4, act: LayerSpec = "GELU", bias: bool = True):
        super().__init__()
        hidden = int(dim * ratio)
        self.fc1 = nn.Conv2d(dim, hidden, 1, bias=bias)
        self.act = build_act(act)
        self.fc2 = nn.Conv2d(hidden, dim, 1, bias=bias)

    def forward(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        """Mix the channels of ``x [N, C, H, W]``; ``scale [C]`` multiplies the result."""
        if act := self._known_act():
            weights = (self.fc1.weight, self.fc1.bias, self.fc2.weight, self.fc2.bias)
            factors = (self.act.scale, self.act.bias) if act == "star_relu" else (None, None)
            return channel_mlp(x, *weights, act, *factors, scale)
        y = self.fc2(self.act(self.fc1(x)))
        return y if scale is None else y * scale[:, None, None]

    def _known_act(self) -> Activation | None:
        """The activation by the name that :func:`channel_mlp` knows it by, if all is as built."""
        if not (type(self.fc1) is type(self.fc2) is nn.Conv2d):
            return None
        if is_hooked(self.fc1, self.act, self.fc2):
            return None
        if type(self.act) is nn.GELU:
            return "gelu" if self.act.approximate == "none" else "gelu_tanh"
        return {StarReLU: "star_relu", SquaredReLU: "squared_relu"}.get(type(self.act))


NORMS: dict[str, Callable[..., nn.Module]] = {
    "GN1": GroupNorm1,
    "LN": LayerNorm2d,
    "BN": nn.BatchNorm2d,
}
ACTIVATIONS: dict[str, Callable[..., nn.Module]] = {
    "GELU": nn.GELU,
    "StarReLU": StarReLU,
    "SquaredReLU": SquaredReLU,
    "ReLU": nn.ReLU,
    "SiLU": nn.SiLU,
}


def is_hooked(*modules: nn.Module) -> bool:
    """Whether something waits for the input, the result or the gradient of one of the modules."""
    return any(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        for module in modules
    )


def to_fast_layout(x: Tensor) -> Tensor:
    """Bring a map on the CPU to channels-last, in which all layers here are faster there.

    Convolutions keep it, so a network whose first layer is given such an image copies no other map.
    """
    if is_traced() or x.device.type != "cpu":
        return x
    return x.contiguous(memory_format=torch.channels_last)


def pointwise(layer: nn.Module, x: Tensor) -> Tensor:
    """``layer(x)``, of a 1x1 convolution or a linear layer by the faster functions for them."""
    functions = {nn.Conv2d: pointwise_conv, nn.Linear: pointwise_linear}
    function = functions.get(type(layer))
    if function is None or is_hooked(layer):
        return layer(x)
    return function(x, layer.weight, layer.bias)


def build_norm(spec: LayerSpec, dim: int) -> nn.Module:
    """Build a norm over ``dim`` channels from its name or dict; ``None`` gives the identity.

    Beside the names in :data:`NORMS`, any norm of the OpenMMLab registry serves (``SyncBN``...).
    PyTorch's own take the arguments of OpenMMLab's configs: ``num_groups``, ``requires_grad``.

    Raises:
        ValueError: If the name is unknown; the message lists the known ones.
    """
    if spec is None:
        return nn.Identity()
    layer, settings = _look_up(spec, NORMS, "norm")
    if layer.__module__.startswith(("torch.", "mmengine.")):  # SyncBN is of the latter
        return build_norm_layer(dict(settings, type=layer), dim)[1]
    return layer(dim, **settings)


def build_act(spec: LayerSpec) -> nn.Module:
    """Build an activation from its name or dict; ``None`` gives the identity.

    Raises:
        ValueError: If the name is unknown; the message lists the known ones.
    """
    if spec is None:
        return nn.Identity()
    layer, settings = _look_up(spec, ACTIVATIONS, "activation")
    return layer(**settings)


def _look_up(
    spec: str | Mapping[str, Any], table: Mapping[str, Callable], kind: str
) -> tuple[Callable[..., nn.Module], dict[str, Any]]:
    """The layer that a spec names, and the arguments beside the name."""
    settings = {"type": spec} if isinstance(spec, str) else dict(spec)
    name = settings.pop("type", None)
    layer = table.get(name) or (MODELS.get(name) if isinstance(name, str) else None)
    if layer is None:
        hint = did_you_mean(name, table)
        raise ValueError(f"Unknown {kind} {name!r}: expected one of {', '.join(table)}.{hint}")
    return layer, settings
