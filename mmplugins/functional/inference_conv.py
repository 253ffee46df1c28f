"""A convolution, an activation and a sum in one pass over memory, for inference on the CPU.

oneDNN applies activation and sum to each tile of the product while it is in cache, and wants the
weights in blocks of its own. PyTorch offers both to its compiler under ``torch.ops.mkldnn``; here
they serve eager code. The operators are not public, so :func:`fused_kernels` tries them once.

A compiler has to take them as they are, too: what PyTorch's own makes of a plain convolution packs
the weight again at each call. :func:`conv2d` then records an operator of this package, which runs
the same eager code.
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
from torch.utils.weak import WeakTensorKeyDictionary

from .calling import is_exported

_PACKED = WeakTensorKeyDictionary()  # weight: (what it was packed of, packed weights by input size)

KEPT_SIZES = 6
"""Input sizes for which a packed weight is kept: a detector's head runs on five levels."""

ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], str, str]] = {
    "relu": (F.relu, "relu", ""),
    "gelu": (F.gelu, "gelu", "none"),
    "gelu_tanh": (lambda x: F.gelu(x, approximate="tanh"), "gelu", "tanh"),
    "silu": (F.silu, "swish", ""),
}
"""Activations that can be fused, by our name: the function, oneDNN's name and its algorithm."""


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


def packed_weight(weight: Tensor, geometry: Geometry, input_size: Sequence[int]) -> Tensor:
    """The result of :func:`pack_weight`, made once for each weight and kept as long as it lives.

    It is made anew when the weight changes, and, unless the layer is pointwise, for each size of
    the input, of which the last :data:`KEPT_SIZES` are kept. A change is told by PyTorch's count of
    in-place operations and by the address. Two escape the count: writing through ``weight.data``,
    which goes unnoticed (write under ``torch.no_grad()`` instead), and tensors made in inference
    mode, for which nothing is kept.
    """
    if weight.is_inference():
        return pack_weight(weight, geometry, input_size)
    size = () if is_pointwise(weight, geometry) else tuple(input_size)
    made_of = (weight.data_ptr(), weight._version, geometry)
    kept = _PACKED.get(weight)
    if kept is None or kept[0] != made_of:
        kept = _PACKED[weight] = made_of, {}
    by_size = kept[1]
    packed = by_size.pop(size, None)
    by_size[size] = pack_weight(weight, geometry, input_size) if packed is None else packed
    while len(by_size) > KEPT_SIZES:
        del by_size[next(iter(by_size))]  # the one that was not called for longest
    return by_size[size]


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    geometry: Geometry,
    act: str | None = None,
    residual: Tensor | None = None,
) -> Tensor:
    """``act(conv(x)) + residual``, fused where :func:`can_fuse` allows, compiled or not.

    Arguments are those of :func:`plain_conv2d`.
    """
    if not can_fuse(x, weight):
        return plain_conv2d(x, weight, bias, geometry, act, residual)
    if torch.compiler.is_compiling():
        return conv2d_operator(x, weight, bias, *geometry, act, residual)
    try:
        packed = packed_weight(weight, geometry, x.shape)
        return fused_conv2d(x, packed, bias, geometry, act, residual)
    except RuntimeError:  # oneDNN does not say which size is wrong; the plain convolution does
        return plain_conv2d(x, weight, bias, geometry, act, residual)


@torch.library.custom_op(
    "mmplugins::fused_conv2d",
    mutates_args=(),
    device_types="cpu",
    # Said, as torch 2.4 does not read annotations that are text.
    schema="(Tensor x, Tensor weight, Tensor? bias, int[] padding, int[] stride, int[] dilation, "
    "int groups, str? act, Tensor? residual) -> Tensor",
)
def conv2d_operator(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    padding: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    act: str | None,
    residual: Tensor | None,
) -> Tensor:
    """:func:`conv2d` as one operator for compilers. The result is channels-last."""
    geometry = Geometry(tuple(padding), tuple(stride), tuple(dilation), groups)
    packed = packed_weight(weight, geometry, x.shape)
    return fused_conv2d(x, packed, bias, geometry, act, residual)


@conv2d_operator.register_fake
def _(x, weight, bias, padding, stride, dilation, groups, act, residual):
    steps = zip(x.shape[2:], weight.shape[2:], padding, stride, dilation, strict=True)
    sides = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, p, s, d in steps]
    return empty_map(x, x.shape[0], weight.shape[0], *sides)


def empty_map(like: Tensor, *size: int) -> Tensor:
    """A channels-last map without content, in dtype and on the device of another."""
    last = torch.channels_last
    return torch.empty(size, dtype=like.dtype, device=like.device, memory_format=last)


def can_fuse(x: Tensor, weight: Tensor) -> bool:
    """Whether the fused form may stand in for the plain one here.

    Not where something else has to see the plain operators: autograd, autocast, a tracer, an
    exporter; not for tensor subclasses, other devices or precisions.
    """
    return (
        not torch.is_grad_enabled()
        and type(x) is Tensor
        and x.ndim == 4
        and x.device.type == weight.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and not torch.jit.is_tracing()
        and not is_exported()
        and _kernels_are_on()
    )


@torch.compiler.assume_constant_result
def _kernels_are_on() -> bool:
    return torch.backends.mkldnn.enabled and fused_kernels()


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
            if operator not in flop_registry:  # torch 2.4 notes overloads, and looks for packets
                flop_registry[operator] = flop_registry[operator.default]


_register_flops()
