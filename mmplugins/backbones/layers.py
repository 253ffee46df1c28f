"""Small layers that MetaFormer blocks are made of: norms, activations, scales, channel MLP.

All of them take and return feature maps of shape ``[N, C, H, W]``, in either memory format. That
is also why pointwise layers are 1x1 convolutions.

Norms and activations are chosen in configs by name or by dict, for example ``norm='GN1'``,
``norm=dict(type='LN', bias=False, eps=1e-6)`` or ``act=dict(type='StarReLU')``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmengine.registry import MODELS
from mmengine.utils import digit_version
from torch import Tensor, nn

from mmplugins.utils import did_you_mean

from .few_large_maps import are_few_large_maps, group_norm1

CONTIGUOUS_GROUP_NORM = digit_version(torch.__version__) < digit_version("2.14")
"""Whether group norm needs a contiguous input where that input gets no gradient. Otherwise the
backward pass crashes with torch 2.4.0 (CPU), not with 2.14.1; none between was tried."""

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
        if are_few_large_maps(x):
            return group_norm1(x, self.weight, self.bias, self.eps)
        return super().forward(x)


class LayerNorm2d(nn.LayerNorm):
    """Layer normalisation over the channels of a ``[N, C, H, W]`` feature map, at each position.

    The result is channels-last in memory: the statistics run along channels, so this is the
    memory format in which neither this norm nor the convolution after it has to copy.

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
        return self.scale * F.relu(x) ** 2 + self.bias


class SquaredReLU(nn.Module):
    """``relu(x)**2 + bias`` (Primer, So et al. 2021, which has no bias).

    Args:
        bias: Start value of one learnable summand, or None for no summand. Defaults to None.
    """

    def __init__(self, bias: float | None = None):
        super().__init__()
        self.bias = None if bias is None else nn.Parameter(torch.full((1,), bias))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the activation to ``x`` of any shape; in float16 it overflows above 255."""
        x = F.relu(x)
        return x**2 if self.bias is None else torch.addcmul(self.bias, x, x)


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
        return x * self.scale.view(-1, 1, 1)


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016): in training, whole images lose a branch.

    The rate is a tensor, so that blocks of different rates share one compiled graph.

    Args:
        p: Probability that an image loses the branch; the others are divided by ``1 - p``.
    """

    def __init__(self, p: float):
        super().__init__()
        self.p = p
        self.register_buffer("keep", torch.tensor(1 - p), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Drop images of ``x [N, C, H, W]``; shape and precision are kept."""
        if not self.training:
            return x
        kept = torch.bernoulli(self.keep.expand(len(x), 1, 1, 1)) / self.keep
        return x * kept.to(x.dtype)

    def _apply(self, *args: Any, **kwargs: Any) -> DropPath:
        super()._apply(*args, **kwargs)
        if not self.keep.is_meta:  # no file holds it, and after to_empty() it would be random
            with torch.no_grad():
                self.keep.fill_(1 - self.p)
        return self


class PointwiseLinear(nn.Conv2d):
    """A convolution of 1x1, computed as a matrix product over channels-last positions.

    ConvNeXt's authors compute it so, and timm does after attention. On a CPU PyTorch rearranges the
    weights of a convolution in each pass, which does not pay on a feature map of few positions.
    Compilers and other runtimes rearrange them once, so the deployed form is a convolution.

    Args:
        in_dim: Channels of the input.
        out_dim: Channels of the output.
        bias: Whether there is a bias. Defaults to True.
    """

    def __init__(self, in_dim: int, out_dim: int, bias: bool = True):
        super().__init__(in_dim, out_dim, 1, bias=bias)

    def switch_to_deploy(self) -> nn.Conv2d:
        """The same weights as a plain convolution."""
        conv = nn.Conv2d(self.in_channels, self.out_channels, 1, device="meta").eval()
        conv.weight, conv.bias = self.weight, self.bias
        return conv

    def forward(self, x: Tensor) -> Tensor:
        """Mix the channels of ``x [N, in_dim, H, W]``; the result is channels-last in memory."""
        x = F.linear(x.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias)
        return x.permute(0, 3, 1, 2)


def channels_last_gradient(x: Tensor) -> Tensor:
    """The values of ``x [N, C, H, W]`` unchanged, and their gradient brought to channels-last.

    A gradient comes from a head or a loss in any memory format, and passes along the shortcuts to
    all blocks. If it were not channels-last, each matrix product would copy it.

    Args:
        x: Channels-last in memory.
    """
    n, c, h, w = x.shape
    return x.permute(0, 2, 3, 1).flatten().view(n, h, w, c).permute(0, 3, 1, 2)


class ChannelMLP(nn.Module):
    """Two pointwise layers with an activation between them.

    Args:
        dim: Channels of input and output.
        ratio: Hidden channels divided by ``dim``. Defaults to 4.
        act: Activation. Defaults to GELU.
        bias: Whether the pointwise layers have a bias. Defaults to True.
        linear: Compute them as matrix products (:class:`PointwiseLinear`). Names and shapes of the
            weights are those of convolutions. Defaults to False.
    """

    linear_ends = ("fc1", "fc2")

    def __init__(
        self,
        dim: int,
        ratio: float = 4,
        act: LayerSpec = "GELU",
        bias: bool = True,
        linear: bool = False,
    ):
        super().__init__()
        hidden = int(dim * ratio)
        pointwise = PointwiseLinear if linear else partial(nn.Conv2d, kernel_size=1)
        self.fc1 = pointwise(dim, hidden, bias=bias)
        self.act = build_act(act)
        self.fc2 = pointwise(hidden, dim, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Mix the channels of ``x [N, C, H, W]``; shape is kept."""
        return self.fc2(self.act(self.fc1(x)))


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


def build_norm(spec: LayerSpec, dim: int) -> nn.Module:
    """Build a norm over ``dim`` channels from its name or dict; ``None`` gives the identity.

    Beside the names in :data:`NORMS`, any norm of the OpenMMLab registry serves, such as
    ``SyncBN``. PyTorch's norms take the arguments of OpenMMLab's configs: ``num_groups``,
    ``requires_grad``.

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
    name: Any = settings.pop("type", None)
    layer = table.get(name) or (MODELS.get(name) if isinstance(name, str) else None)
    if layer is None:
        hint = did_you_mean(name, table)
        raise ValueError(f"Unknown {kind} {name!r}: expected one of {', '.join(table)}.{hint}")
    return layer, settings
