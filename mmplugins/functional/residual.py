"""The sum of shortcut and branch in one pass, with factors on either."""

from __future__ import annotations

from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .calling import by_channel, is_traced, memory_format, on_triton


def scaled_residual(
    x: Tensor,
    branch: Tensor,
    x_scale: Tensor | None = None,
    branch_scale: Tensor | None = None,
    keep: Tensor | None = None,
) -> Tensor:
    """``x_scale * x + keep * branch_scale * branch``.

    For the backward pass ``x`` is saved only if ``x_scale`` needs a gradient, ``branch`` only if
    ``branch_scale`` does, and the factors themselves. The gradient is brought to the memory format
    of the result here, once, so that nothing below has to work on, or copy, a mixture.

    Args:
        x: Map of the shortcut, ``[N, C, H, W]``.
        branch: Map of the branch, of the same shape.
        x_scale: Factors by channel ``[C]``, or None for 1.
        branch_scale: Factors by channel ``[C]``, or None for 1.
        keep: Factors by image ``[N, 1, 1, 1]`` of drop path, which get no gradient; None for 1.

    Returns:
        The sum, in the widest precision of all that enter but ``keep``.
    """
    if is_traced() or not torch.is_grad_enabled():
        y = _sum(x, branch, x_scale, _product(branch_scale, keep))
        return y.to(_result_dtype(x, branch, x_scale, branch_scale))
    return _ScaledResidual.apply(x, branch, x_scale, branch_scale, keep)


def _result_dtype(*tensors: Tensor | None) -> torch.dtype:
    return reduce(torch.promote_types, (t.dtype for t in tensors if t is not None))


def _product(branch_scale: Tensor | None, keep: Tensor | None) -> Tensor | None:
    """One factor on the branch out of two, of shape ``[N or 1, C or 1, 1, 1]``."""
    if branch_scale is None:
        return keep
    scale = by_channel(branch_scale)
    return scale if keep is None else scale * keep


def _sum(x: Tensor, branch: Tensor, x_scale: Tensor | None, factor: Tensor | None) -> Tensor:
    if x_scale is factor is None:
        return x + branch
    if x_scale is None:
        return torch.addcmul(x, branch, factor)
    if factor is None:
        return torch.addcmul(branch, x, by_channel(x_scale))
    return torch.addcmul(x * by_channel(x_scale), branch, factor)


class _ScaledResidual(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        branch: Tensor,
        x_scale: Tensor | None,
        branch_scale: Tensor | None,
        keep: Tensor | None,
    ) -> Tensor:
        ctx.dtypes = x.dtype, branch.dtype
        ctx.save_for_backward(
            x if ctx.needs_input_grad[2] else None,
            branch if ctx.needs_input_grad[3] else None,
            x_scale,
            branch_scale,
            keep,
        )
        factor = _product(branch_scale, keep)
        if on_triton(x, branch) and not (x_scale is factor is None):
            from . import triton_kernels  # here, as importing Triton takes a while

            y = triton_kernels.scaled_sum(x, branch, x_scale, factor)
        else:
            y = _sum(x, branch, x_scale, factor)
        ctx.memory_format = memory_format(y)
        return y.to(_result_dtype(x, branch, x_scale, branch_scale))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple:
        x, branch, x_scale, branch_scale, keep = ctx.saved_tensors
        need_x, need_branch, need_x_scale, need_branch_scale, _ = ctx.needs_input_grad
        grad = grad.contiguous(memory_format=ctx.memory_format)
        grads: list[Tensor | None] = [None] * 5
        if need_x:
            product = grad if x_scale is None else grad * by_channel(x_scale)
            grads[0] = product.to(ctx.dtypes[0])
        if need_branch:
            factor = _product(branch_scale, keep)
            product = grad if factor is None else grad * factor
            grads[1] = product.to(ctx.dtypes[1])
        if need_x_scale:
            grads[2] = (grad * x).sum((0, 2, 3), dtype=x_scale.dtype)
        if need_branch_scale:
            product = grad * branch if keep is None else grad * branch * keep
            grads[3] = product.sum((0, 2, 3), dtype=branch_scale.dtype)
        return tuple(grads)
