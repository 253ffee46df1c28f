"""Group norm with one group over few large feature maps on a GPU: the one way around the formula.

PyTorch's CUDA kernel gives each image to one block of threads, so two feature maps of 64x200x320
keep two of an H100's 132 multiprocessors busy. A reduction such as ``torch.var_mean`` spreads over
all of them. Measured on one H100 80GB with torch 2.11 in bf16, batch 2 at 800x1280: an earlier form
of this package, whose statistics spread likewise, ran eager PoolFormer-S12 in 15.86 ms against
23.16 of timm, which calls ``F.group_norm`` (1.46), and PoolFormerV2-S12 in 16.52 against 27.61
(1.67), though it made twice as many calls elsewhere. ``tools/gpu_check.py`` times the two ways
beside each other.
"""

from __future__ import annotations

import torch
from torch import Tensor

MOST_IMAGES = 32
"""Larger batches keep a GPU busy with one block of threads to an image."""

LEAST_ELEMENTS = 2**18
"""Elements of an image below which more calls cost more than the one slow kernel."""


def are_few_large_maps(x: Tensor) -> bool:
    """Whether :func:`group_norm1` is the faster way for ``x [N, C, H, W]``: eager, on a GPU,
    without gradient, for which ``F.group_norm`` keeps less."""
    return (
        x.is_cuda
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and 0 < len(x) <= MOST_IMAGES
        and x[0].numel() >= LEAST_ELEMENTS
    )


def group_norm1(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """``F.group_norm(x, 1, weight, bias, eps)`` from a reduction and one sum with factors.

    Computed in float32 at least. As of ``F.group_norm``, the result has the precision of ``x``, or
    float32 under autocast.
    """
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    variance, mean = torch.var_mean(wide, (1, 2, 3), correction=0, keepdim=True)
    factor = (variance + eps).rsqrt()
    if weight is not None:
        factor = factor * weight[:, None, None]
    shift = -mean * factor if bias is None else bias[:, None, None] - mean * factor
    y = torch.addcmul(shift, wide, factor)
    return y if torch.is_autocast_enabled(x.device.type) else y.to(x.dtype)
