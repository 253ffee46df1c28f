"""Depthwise convolution with a fast weight gradient, alone or after StarReLU.

The gradient of a depthwise kernel is itself a depthwise convolution: of the input with the gradient
of the output in the place of the kernel. On CPUs the forward primitive computes it 5 to 20 times
faster than PyTorch's backward one does for 7x7 kernels, which spends more time there than on all
pointwise layers of such a block together.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from .activations import star_of_rectified, star_relu_formula, star_relu_gradients
from .calling import cast, compute_dtype, is_traced, without_autocast

BAND = 16384
"""Positions whose products are summed in one run; longer runs would lose digits in float32."""


def depthwise_conv(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve each channel with a kernel of its own, stride 1, size kept by zero padding.

    Args:
        x: Map ``[N, C, H, W]``.
        weight: Kernels ``[C, 1, k, k]``, k odd.
        bias: One summand per channel ``[C]``, or None.
    """
    if is_traced() or not torch.is_grad_enabled() or not _has_fast_gradient(x, weight):
        return _convolve(x, weight, bias)
    return _DepthwiseConv.apply(x, weight, bias, compute_dtype(x))


def star_relu_depthwise_conv(x: Tensor, scale: Tensor, bias: Tensor, weight: Tensor) -> Tensor:
    """``depthwise_conv(scale * relu(x)**2 + bias, weight)``, which saves ``relu(x)`` only.

    The activation is computed in the wider precision of ``x`` and ``scale`` and handed to the
    convolution in the latter's.

    Args:
        x: Map ``[N, C, H, W]`` before the activation.
        scale: Factor of the activation ``[1]``.
        bias: Summand of the activation ``[1]``.
        weight: Kernels ``[C, 1, k, k]``, k odd.
    """
    if is_traced() or not torch.is_grad_enabled():
        return _convolve(star_relu_formula(x, scale, bias), weight, None)
    return _StarReLUDepthwiseConv.apply(x, scale, bias, weight, compute_dtype(x))


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2, groups=len(weight))


def _has_fast_gradient(x: Tensor, weight: Tensor) -> bool:
    """3x3 kernels are fast enough in PyTorch's own backward pass; GPUs were not measured."""
    return x.device.type == "cpu" and weight.shape[-1] >= 5 and x.numel() > 0


def depthwise_gradients(
    grad: Tensor, x: Tensor, weight: Tensor, needed: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of :func:`depthwise_conv` for ``x`` and ``weight``, those that are needed."""
    need_x, need_weight = needed
    fast = need_weight and _has_fast_gradient(x, weight)
    padding = weight.shape[-1] // 2
    grad_x = grad_weight = None
    if need_x or (need_weight and not fast):
        grad_x, grad_weight, _ = torch.ops.aten.convolution_backward(
            grad, x, weight, None, [1, 1], [padding] * 2, [1, 1], False, [0, 0], len(weight),
            [need_x, need_weight and not fast, False],
        )  # fmt: skip
    if fast:
        grad_weight = _weight_gradient(grad, x, weight.shape[-1])
    return grad_x, grad_weight


def _weight_gradient(grad: Tensor, x: Tensor, kernel_size: int) -> Tensor:
    """Correlate input and gradient by images and channels, in bands of rows that overlap."""
    n, c, h, w = x.shape
    padding = kernel_size // 2
    rows = max(1, BAND // w)
    x, grad = x.reshape(1, n * c, h, w), grad.reshape(n * c, 1, h, w)
    if rows >= h:
        kernels = F.conv2d(x, grad, padding=padding, groups=n * c)
        return kernels.view(n, c, kernel_size, kernel_size).sum(0).unsqueeze(1)
    x = F.pad(x, (0, 0, padding, padding))
    bands = [
        F.conv2d(x[:, :, i : i + rows + 2 * padding], part, padding=(0, padding), groups=n * c)
        for i, part in zip(range(0, h, rows), grad.split(rows, dim=2), strict=True)
    ]
    kernels = torch.cat(bands).view(-1, c, kernel_size, kernel_size)
    return kernels.sum(0).unsqueeze(1)


class _DepthwiseConv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype
    ) -> Tensor:
        ctx.input_dtype = x.dtype
        x = x.to(dtype)
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight)
        with without_autocast(x):
            return _convolve(x, weight.to(dtype), cast(bias, dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple:
        x, weight = ctx.saved_tensors
        if x is None:
            x = grad  # only its shape is looked at
        with without_autocast(grad):
            grad_x, grad_weight = depthwise_gradients(
                grad, x, weight.to(grad.dtype), ctx.needs_input_grad[:2]
            )
        grad_bias = grad.sum((0, 2, 3), dtype=weight.dtype) if ctx.needs_input_grad[2] else None
        return cast(grad_x, ctx.input_dtype), cast(grad_weight, weight.dtype), grad_bias, None


class _StarReLUDepthwiseConv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, bias: Tensor, weight: Tensor, dtype: torch.dtype
    ) -> Tensor:
        ctx.dtype = dtype
        rectified = F.relu(x)
        ctx.save_for_backward(rectified, scale, bias, weight)
        with without_autocast(x):
            active = star_of_rectified(rectified, scale, bias).to(dtype)
            return _convolve(active, weight.to(dtype), None)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple:
        rectified, scale, bias, weight = ctx.saved_tensors
        *need_act, need_weight, _ = ctx.needs_input_grad
        with without_autocast(grad):
            # only the gradient of the kernel asks for the activation; the other for its shape
            active = grad
            if need_weight:
                active = star_of_rectified(rectified, scale, bias).to(ctx.dtype)
            grad_active, grad_weight = depthwise_gradients(
                grad, active, weight.to(ctx.dtype), (any(need_act), need_weight)
            )
            del active
            grads: tuple = (None, None, None)
            if grad_active is not None:
                grad_active = grad_active.to(torch.promote_types(rectified.dtype, scale.dtype))
                grads = star_relu_gradients(grad_active, rectified, scale, bias, tuple(need_act))
        return *grads, cast(grad_weight, weight.dtype), None
