"""Pointwise layers, 1x1 convolutions and linear ones, as matrix products in training on CPUs.

A channels-last map is a matrix of positions by channels, and all three products of a pointwise
layer (result, gradient of the input, gradient of the weight) can be had from oneDNN's linear
primitive, which takes transposed operands as they lie. PyTorch's eager convolution and ``mm`` take
5 to 40 % longer for the first two. For the gradient of the weight it depends on the number of
positions, which are the inner dimension of that product: few, and a product is faster; many, and
the convolution's own gradient is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from .calling import compute_dtype, is_traced
from .inference_conv import empty_map, fused_kernels

FEW_POSITIONS = 4096
"""Up to so many positions in a batch, matrix products give weight gradients faster on CPUs."""


def pointwise_conv(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """1x1 convolution, in training as well; saves its input.

    Args:
        x: Map ``[N, C, H, W]``.
        weight: Weight ``[C_out, C, 1, 1]``.
        bias: One summand per channel ``[C_out]``, or None.

    Returns:
        Map ``[N, C_out, H, W]``.
    """
    if is_traced() or compute_dtype(x) != x.dtype or not _as_products(x, weight):
        return F.conv2d(x, weight, bias)
    return _PointwiseConv.apply(x, weight, bias)


def pointwise_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.linear`` of tokens ``x [N, L, C]`` with ``weight [C_out, C]``, in training as well."""
    as_map = x.transpose(1, 2).unsqueeze(-1)  # [N, C, L, 1], channels-last in memory
    if is_traced() or compute_dtype(x) != x.dtype or not _as_products(as_map, weight):
        return F.linear(x, weight, bias)
    y = _PointwiseConv.apply(as_map, weight[:, :, None, None], bias)
    return y.squeeze(-1).transpose(1, 2)


def mix_channels(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The same as a 1x1 convolution of ``x [N, C, H, W]``, for use where no graph is recorded."""
    if not _as_products(x, weight):
        return F.conv2d(x, weight, bias)
    return _as_map(_product(_rows(x), weight.flatten(1), bias), x)


def pointwise_gradients(
    grad: Tensor, x: Tensor, weight: Tensor, need_x: bool, need_weight: bool, need_bias: bool
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of a 1x1 convolution for input, weight and bias, those that are needed.

    Args:
        grad: Gradient of the result, ``[N, C_out, H, W]``.
        x: Input ``[N, C, H, W]``; of its values only the gradient of the weight makes use.
        weight: Weight ``[C_out, C, 1, 1]``.
        need_x: Whether the gradient of the input is wanted.
        need_weight: Whether that of the weight is.
        need_bias: Whether that of the bias is.
    """
    n, _, h, w = x.shape
    fast = _as_products(x, weight)
    few = x.device.type == "cpu" and n * h * w <= FEW_POSITIONS
    if fast:
        grad = grad.contiguous(memory_format=torch.channels_last)
    grad_x = grad_weight = grad_bias = None
    mask = [need_x and not fast, need_weight and not few, need_bias and not fast]
    if any(mask):
        grad_x, grad_weight, grad_bias = torch.ops.aten.convolution_backward(
            grad, x, weight, [len(weight)], [1, 1], [0, 0], [1, 1], False, [0, 0], 1, mask
        )
    if need_weight and few:
        rows, columns = _rows(grad), _rows(x)
        # a product with more rows than columns is slower in this primitive
        product = _product if fast and len(weight) <= x.shape[1] else _plain_product
        grad_weight = product(rows.t(), columns.t())[:, :, None, None]
    if need_x and fast:
        grad_x = _as_map(_product(_rows(grad), weight.flatten(1).t()), x)
    if need_bias and fast:
        grad_bias = _rows(grad).sum(0)
    return grad_x, grad_weight, grad_bias


def position_bands(x: Tensor, count: int | None = None) -> Sequence[Tensor]:
    """Parts of a map, to be worked on one after the other; all positions together are the map.

    What stands between two pointwise layers, wider than the map, then stays in cache, and the
    allocator reuses one block for all parts: large blocks go back to the operating system and
    return by page faults.

    Args:
        x: Map ``[N, C, H, W]``.
        count: Number of parts. Defaults to as many as make each one of :data:`FEW_POSITIONS`, and
            to one where maps are no matrices of positions by channels.

    Returns:
        Maps ``[1, C, positions, 1]``, views; or the map itself.
    """
    n, _, h, w = x.shape
    if count is None:
        count = -(-n * h * w // FEW_POSITIONS) if _as_products(x, x) else 1
    if count <= 1:
        return [x]
    rows = _rows(x.contiguous(memory_format=torch.channels_last))
    return [part.t()[None, :, :, None] for part in rows.split(-(-len(rows) // count))]


def join_bands(bands: Sequence[Tensor], like: Tensor) -> Tensor:
    """The map whose :func:`position_bands` these are; ``like`` has its images and positions."""
    if len(bands) == 1:
        return bands[0]
    return _as_map(torch.cat([_rows(band) for band in bands]), like)


def _as_products(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN's linear primitive serves: dense channels-last maps in float32 on the CPU."""
    return (
        type(x) in (Tensor, torch.nn.Parameter)
        and x.numel() > 0  # oneDNN has no products of nothing
        and x.device.type == weight.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.is_contiguous(memory_format=torch.channels_last)
        and torch.backends.mkldnn.enabled
        and fused_kernels()
    )


def _rows(x: Tensor) -> Tensor:
    """A map as a matrix of positions by channels; of a channels-last map, a view."""
    return x.permute(0, 2, 3, 1).flatten(0, 2)


def _as_map(rows: Tensor, like: Tensor) -> Tensor:
    n, _, h, w = like.shape
    return rows.view(n, h, w, rows.shape[1]).permute(0, 3, 1, 2)


def _product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """``a @ b.t() + bias`` of matrices in any order of strides."""
    return torch.ops.mkldnn._linear_pointwise.default(a, b, bias, "none", [], "")


def _plain_product(a: Tensor, b: Tensor) -> Tensor:
    return a @ b.t()


class _PointwiseConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        need_weight = ctx.needs_input_grad[1]
        ctx.save_for_backward(x if need_weight else None, weight)
        return mix_channels(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple:
        x, weight = ctx.saved_tensors
        if x is None:  # only its shape and layout are looked at
            x = empty_map(grad, len(grad), weight.shape[1], *grad.shape[2:])
        return pointwise_gradients(grad, x, weight, *ctx.needs_input_grad)
