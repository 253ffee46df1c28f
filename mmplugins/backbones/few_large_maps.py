"""Group norm with one group over few large feature maps on a GPU: the one exception to the formula.

PyTorch's CUDA kernel gives each image to one block of threads, so two feature maps of 64x200x320
keep two of an H100's 132 multiprocessors busy. A reduction such as ``torch.var_mean`` spreads over
all of them. Measured on one H200 with torch 2.11 in bf16, 2026-11-27, against timm, which calls
``F.group_norm``: at 800x1280, batch 2, PoolFormer-S12 takes 7.7 ms and timm's 21.8 (2.8 times as
fast), PoolFormerV2-S12 12.1 and 24.0 (2.0); at 512x512, batch 8, 8.2 and 8.3, 5.9 and 9.7. At
512x512, batch 1, where a GPU waits for Python, it was slower (8.2 ms and 5.5): hence the least
sizes below. ``tools/gpu_check.py`` times the two ways beside each other.
"""

from __future__ import annotations

import torch
from torch import Tensor

MOST_IMAGES = 32
"""Larger batches keep a GPU busy with one block of threads to an image."""

LEAST_OF_IMAGE, LEAST_OF_BATCH = 2**18, 3 * 2**19
"""Elements below which more calls cost more than the one slow kernel."""


def are_few_large_maps(x: Tensor) -> bool:
    """Whether :func:`group_norm1` is the faster way for ``x [N, C, H, W]``: eager, on a GPU,
    without gradient, for which ``F.group_norm`` keeps less."""
    return (
        x.is_cuda
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and 0 < len(x) <= MOST_IMAGES
        and x[0].numel() >= LEAST_OF_IMAGE
        and x.numel() >= LEAST_OF_BATCH
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
        factor = factor * weight.view(-1, 1, 1)
    if bias is None:
        shift = -mean * factor
    else:
        shift = torch.addcmul(bias.view(-1, 1, 1), mean, factor, value=-1)
    y = torch.addcmul(shift, wide, factor)
    return y if torch.is_autocast_enabled(x.device.type) else y.to(x.dtype)
