"""Pooling minus identity over a normalised map, without ever writing the normalised map.

Pooling minus identity, P, is linear, takes each channel by itself, and maps constants to zero, as
only positions inside the map count in its averages. So of ``norm(x) = (x - mean) * rstd * w + b``
neither mean nor bias survives:

    P(norm(x)) = w * rstd * P(x)

With k = scale * w, q = sum over positions of x * P^T(g) by image and channel, and M = C * H * W,
the gradient of x is ``k rstd P^T(g) - rstd**3 / M * (sum over channels of k q) * (x - mean)``.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from .calling import by_channel, is_traced, on_triton


def pool_normalised(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    eps: float,
    pool_size: int = 3,
    scale: Tensor | None = None,
) -> Tensor:
    """``scale * (pool(norm(x)) - norm(x))`` with group normalisation in one group.

    Saved for the backward pass: ``x``, and mean and reciprocal deviation of each image.

    Args:
        x: Map ``[N, C, H, W]``.
        weight: Weight of the norm ``[C]``.
        bias: Its bias ``[C]``, which has no effect and gets a gradient of exact zeros; or None.
        eps: Added to the variance.
        pool_size: Side of the neighbourhood, odd. Defaults to 3.
        scale: Factors by channel ``[C]`` on the result (layer scale), or None for 1.

    Returns:
        Map ``[N, C, H, W]`` in the precision that group norm gives, or that of ``scale`` if wider.
    """
    dtype = _norm_dtype(x)
    if is_traced():
        normed = F.group_norm(x, 1, weight, bias, eps)
        y = F.avg_pool2d(normed, pool_size, 1, pool_size // 2, False, False) - normed
        return y if scale is None else y * by_channel(scale)
    if scale is not None:
        dtype = torch.promote_types(dtype, scale.dtype)
        weight = weight * scale
    return _PoolNormalised.apply(x, weight, bias, eps, pool_size, dtype)


def _norm_dtype(x: Tensor) -> torch.dtype:
    """Precision of group norm's result: autocast on CUDA asks for float32."""
    wide = x.is_cuda and torch.is_autocast_enabled("cuda") and x.dtype != torch.float64
    return torch.float32 if wide else x.dtype


def image_statistics(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Mean and ``1 / sqrt(variance + eps)`` by image of ``x [N, C, H, W]``, as ``[N, 1, 1, 1]``.

    Half precision is computed and returned in float32.
    """
    if on_triton(x):
        from . import triton_kernels  # here, as importing Triton takes a while

        return triton_kernels.image_statistics(x, eps)
    x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    n, c, h, w = x.shape
    # PyTorch's group norm, of which only the statistics are wanted: on CPUs its one pass takes a
    # twentieth of the time of var_mean, in both memory formats.
    _, mean, rstd = torch.native_group_norm(x, None, None, n, c, h * w, 1, eps)
    return mean.view(n, 1, 1, 1), rstd.view(n, 1, 1, 1)


def _pool_minus_identity(x: Tensor, pool_size: int) -> Tensor:
    return F.avg_pool2d(x, pool_size, 1, pool_size // 2, False, False).sub_(x)


def _transposed(grad: Tensor, pool_size: int) -> Tensor:
    """P^T: what each position gives to its neighbours' averages, minus itself."""
    h, w = grad.shape[-2:]
    reach = pool_size // 2
    counts = [
        torch.arange(side, device=grad.device).sub(reach).clamp_(min=0).neg_()
        + torch.arange(side, device=grad.device).add(reach + 1).clamp_(max=side)
        for side in (h, w)
    ]
    count = (counts[0][:, None] * counts[1]).to(grad.dtype)
    return F.avg_pool2d(
        grad / count, pool_size, 1, reach, count_include_pad=True, divisor_override=1
    ).sub_(grad)


class _PoolNormalised(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        eps: float,
        pool_size: int,
        dtype: torch.dtype,
    ) -> Tensor:
        mean, rstd = image_statistics(x, eps)
        ctx.pool_size, ctx.has_bias = pool_size, bias is not None
        ctx.save_for_backward(x, weight, mean, rstd)
        y = _pool_minus_identity(x, pool_size)
        factor = by_channel(weight) * rstd
        return y.mul_(factor) if y.dtype == dtype else (y * factor).to(dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple:
        x, weight, mean, rstd = ctx.saved_tensors  # once: checkpointing allows no second look
        wide = torch.promote_types(grad.dtype, rstd.dtype)
        spread = _transposed(grad.to(wide), ctx.pool_size)
        overlap = (spread * x).sum((2, 3), keepdim=True)
        grad_x = grad_weight = grad_bias = None
        if ctx.needs_input_grad[1]:
            grad_weight = (overlap * rstd).sum((0, 2, 3)).to(weight.dtype)
        if ctx.has_bias and ctx.needs_input_grad[2]:
            grad_bias = torch.zeros_like(weight)
        if ctx.needs_input_grad[0]:
            factor = by_channel(weight).to(wide) * rstd
            pull = rstd**2 * (factor * overlap).sum(1, keepdim=True) / x.shape[1:].numel()
            grad_x = torch.addcmul(pull * mean, spread, factor)
            grad_x = torch.addcmul(grad_x, x, -pull, out=grad_x).to(x.dtype)
        return grad_x, grad_weight, grad_bias, None, None, None
