"""A convolution, an activation and a sum in one pass over memory, for inference on the CPU.

oneDNN applies activation and sum to each tile of the product while it is in cache, and wants the
weights in blocks of its own. PyTorch offers both to its compiler under ``torch.ops.mkldnn``; here
they serve eager code. The operators are not public, so :func:`fused_kernels` tries them once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import conv_flop_count, flop_registry, register_flop_formula

ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], str, str]] = {
    "relu": (F.relu, "relu", ""),
    "gelu": (F.gelu, "gelu", "none"),
    "gelu_tanh": (lambda x: F.gelu(x, approximate="tanh"), "gelu", "tanh"),
    "silu": (F.silu, "swish", ""),
}
"""Activations that can be fused, by our name: the function, oneDNN's name and its algorithm."""


BAND = 2**21
"""Elements of a map that :func:`in_bands` lets stand between two layers."""


class Geometry(NamedTuple):
    """What a convolution needs to know beside its weights; zero padding, two sides each."""

    padding: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    groups: int


def plain_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    geometry: Geometry,
    act: str | None = None,
    residual: Tensor | None = None,
) -> Tensor:
    """``act(conv(x)) + residual`` by PyTorch's public functions; shapes as in ``F.conv2d``.

    Args:
        x: Map ``[N, C, H, W]``.
        weight: Kernels ``[out, C / groups, kh, kw]``.
        bias: ``[out]`` or None.
        geometry: Padding, stride, dilation and groups.
        act: A name of :data:`ACTIVATIONS`, or None.
        residual: Map of the shape of the result, or None.
    """
    padding, stride, dilation, groups = geometry
    y = F.conv2d(x, weight, bias, stride, padding, dilation, groups)
    if act is not None:
        y = ACTIVATIONS[act][0](y)
    return y if residual is None else y + residual


def fused_conv2d(
    x: Tensor,
    packed: Tensor,
    bias: Tensor | None,
    geometry: Geometry,
    act: str | None = None,
    residual: Tensor | None = None,
) -> Tensor:
    """The same as :func:`plain_conv2d`, in one pass, with weights from :func:`pack_weight`.

    Without gradient. The result is channels-last; maps in another layout are copied to it.
    An activation and a sum exclude each other, which is all that the backbones need.

    Raises:
        ValueError: If both an activation and a residual are given.
    """
    if act is not None and residual is not None:
        raise ValueError(f"act={act!r} and a residual: expected one of them at most")
    x = x.contiguous(memory_format=torch.channels_last)
    if residual is not None:
        residual = residual.contiguous(memory_format=torch.channels_last)
    _, name, algorithm = ACTIVATIONS[act] if act else (None, "none", "")
    if packed.ndim == 2:
        linear = torch.ops.mkldnn._linear_pointwise
        x = x.permute(0, 2, 3, 1)
        if residual is None:
            y = linear.default(x, packed, bias, name, [], algorithm)
        else:
            y = linear.binary(x, residual.permute(0, 2, 3, 1), packed, bias, "add")
        return y.permute(0, 3, 1, 2)
    conv = torch.ops.mkldnn._convolution_pointwise
    if residual is not None:
        return conv.binary(x, residual, packed, bias, *geometry, "add", None, None, [], None)
    return conv.default(x, packed, bias, *geometry, name, [], algorithm)


def is_pointwise(weight: Tensor, geometry: Geometry) -> bool:
    """Whether a convolution is a linear layer at each position."""
    return weight.shape[2:] == (1, 1) and geometry == Geometry((0, 0), (1, 1), geometry.dilation, 1)


def pack_weight(weight: Tensor, geometry: Geometry, input_size: Sequence[int]) -> Tensor:
    """Copy ``weight`` into the blocks that oneDNN prefers: an opaque tensor for the fused form.

    A pointwise layer is packed as a matrix, whose blocks suit any number of positions. All others
    suit one input size only; at another one, oneDNN would bring them into order again at each call,
    far slower than from the plain weight.
    """
    weight = weight.detach()
    if is_pointwise(weight, geometry):
        return torch.ops.mkldnn._reorder_linear_weight(weight.flatten(1).contiguous())
    return torch.ops.mkldnn._reorder_convolution_weight(weight, *geometry, [*input_size])


def in_bands(
    function: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor, width: int
) -> Tensor:
    """``function(x, y)``, a function of each position alone, for a band of rows after the other.

    What the function holds in between then stays in cache, and is small enough for the allocator to
    reuse: a large block goes back to the operating system each time, and returns by page faults.

    Args:
        function: Function of two maps of the same positions.
        x: Map ``[N, C, H, W]``.
        y: Map of the same positions.
        width: Channels of the widest map in between.
    """
    rows = max(1, BAND // (x.shape[0] * x.shape[3] * width))
    if rows >= x.shape[2]:
        return function(x, y)
    pairs = zip(x.split(rows, 2), y.split(rows, 2), strict=True)
    return torch.cat([function(*bands) for bands in pairs], 2)


def image_moments(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Mean and reciprocal deviation of each image of ``x [N, C, H, W]``: each ``[N, 1, 1, 1]``.

    The statistics of a group norm with one group, without its result. The deviation is taken about
    the mean, in a second pass: the difference of the mean square and the squared mean, as PyTorch's
    channels-last kernel takes it, loses all digits where the mean is far from zero.

    Args:
        x: Channels-last map.
        eps: Added to the variance.
    """
    rows = x.permute(0, 2, 3, 1).flatten(2)
    count = rows[0].numel()
    mean = (rows.sum(-1).double().sum(-1) / count).to(x.dtype).view(-1, 1, 1)
    length = max(1, BAND // (rows.shape[0] * rows.shape[2]))
    norms = [torch.linalg.vector_norm(band - mean, dim=-1) for band in rows.split(length, 1)]
    variance = torch.cat(norms, 1).double().square().sum(-1) / count
    rstd = (variance + eps).rsqrt().to(x.dtype)
    return mean.view(-1, 1, 1, 1), rstd.view(-1, 1, 1, 1)


def can_fuse(x: Tensor, weight: Tensor) -> bool:
    """Whether the fused form may stand in for the plain one here.

    Not where something else has to see the plain operators: autograd, autocast, a compiler, a
    tracer; not for tensor subclasses, other devices or precisions.
    """
    return (
        not torch.compiler.is_compiling()
        and not torch.is_grad_enabled()
        and type(x) is Tensor
        and x.device.type == weight.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and not torch.jit.is_tracing()
        and torch.backends.mkldnn.enabled
        and fused_kernels()
    )


@cache
def fused_kernels() -> bool:
    """Whether this build of PyTorch has oneDNN's fused operators, and they compute as expected."""
    x = torch.linspace(-1, 1, 128).view(1, 8, 4, 4)
    cases = [*((name, None) for name in ACTIVATIONS), (None, None), (None, x)]
    try:
        with torch.inference_mode():
            for side in (1, 3):
                weight = torch.linspace(-1, 1, 64 * side**2).view(8, 8, side, side)
                geometry = Geometry((side // 2, side // 2), (1, 1), (1, 1), 1)
                packed = pack_weight(weight, geometry, x.shape)
                for case in cases:
                    fused = fused_conv2d(x, packed, None, geometry, *case)
                    plain = plain_conv2d(x, weight, None, geometry, *case)
                    if not torch.allclose(fused, plain, rtol=1e-4, atol=1e-4):
                        return False
    except (AttributeError, RuntimeError, TypeError):
        return False
    return True


def _conv_flops(x_shape, first, second, *args, out_shape=None, **kwargs) -> int:
    """Cost of either overload: the weight follows the input, or a summand of as many dimensions."""
    summed = second is not None and len(second) == len(x_shape)
    return conv_flop_count(x_shape, second if summed else first, out_shape)


def _linear_flops(x_shape, *args, out_shape=None, **kwargs) -> int:
    return 2 * math.prod(out_shape) * x_shape[-1]


def _register_flops() -> None:
    """Tell PyTorch's counter what the fused operators cost, so that deployed models count too."""
    formulas = dict(_convolution_pointwise=_conv_flops, _linear_pointwise=_linear_flops)
    for name, formula in formulas.items():
        operator = getattr(torch.ops.mkldnn, name, None)
        if operator is not None and operator not in flop_registry:
            register_flop_formula(operator)(formula)


_register_flops()
