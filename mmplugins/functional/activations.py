"""StarReLU and squared ReLU that keep nothing but their input."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from .calling import is_traced, on_triton


def star_relu(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """``scale * relu(x)**2 + bias`` (MetaFormer Baselines, section 2.2).

    The square is taken in the precision of the result, which is the wider one of ``x`` and
    ``scale``. So it is safe for half precision ``x`` with float32 factors; where all of them are
    float16, inputs above 255 overflow.

    Args:
        x: Tensor of any shape.
        scale: One factor, shape ``[1]``.
        bias: One summand, shape ``[1]``.
    """
    if is_traced():
        return star_relu_formula(x, scale, bias)
    return _StarReLU.apply(x, scale, bias)


def squared_relu(x: Tensor) -> Tensor:
    """``relu(x)**2`` of ``x`` of any shape; in float16 it overflows above 255."""
    return F.relu(x).square() if is_traced() else _SquaredReLU.apply(x)


def star_relu_formula(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """The formula, with the factor inside the square so that the wider precision holds it."""
    rectified = F.relu(x)
    return torch.addcmul(bias, rectified * scale, rectified)


def star_of_rectified(rectified: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """:func:`star_relu` of what is above zero already, in one new map; without gradient."""
    y = rectified * scale
    return torch.addcmul(bias, y, rectified.to(y.dtype), out=y)


def star_relu_gradients(
    grad: Tensor, rectified: Tensor, scale: Tensor, bias: Tensor, needed: tuple[bool, ...]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of :func:`star_relu` for ``x``, ``scale`` and ``bias``, those that are needed.

    ``rectified`` is ``relu(x)``; ``grad`` is that of the result.
    """
    need_x, need_scale, need_bias = needed
    grad_x = grad_scale = grad_bias = None
    if need_bias:
        grad_bias = grad.sum(dtype=bias.dtype).view_as(bias)
    if need_x or need_scale:
        product = grad * rectified
        if need_scale:
            grad_scale = (product * rectified).sum(dtype=scale.dtype).view_as(scale)
        if need_x:
            grad_x = product.mul_(2 * scale).to(rectified.dtype)
    return grad_x, grad_scale, grad_bias


class _StarReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, scale, bias)
        if on_triton(x):
            from . import triton_kernels  # here, as importing Triton takes a while

            return triton_kernels.star_relu(x, scale, bias)
        return star_of_rectified(F.relu(x), scale, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple:
        x, scale, bias = ctx.saved_tensors
        if ctx.needs_input_grad[0] and on_triton(x, grad):
            from . import triton_kernels

            return triton_kernels.star_relu_backward(grad, x, scale, bias)
        return star_relu_gradients(grad, F.relu(x), scale, bias, ctx.needs_input_grad)


class _SquaredReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return F.relu(x).square_()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return F.relu(x).mul_(grad).mul_(2)
