"""Triton kernels for CUDA: StarReLU, the scaled residual sum, the statistics of an image.

Each reads its maps once and computes in float32; the plain formulas beside the callers are both the
fallback and the oracle of the tests. They were run through Triton's interpreter only, never on a
GPU: neither their speed nor their block size has been measured there.

Maps are addressed as they lie in memory, so a kernel serves both memory formats; all maps of a call
must be dense and lie alike, which :func:`.calling.on_triton` sees to.
"""

# No `from __future__ import annotations`: Triton 3.0's interpreter knows constants by the class in
# their annotation, not by its name.
import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024
"""Elements that one program works on at a time."""


@triton.jit
def _star_relu(x_ptr, scale_ptr, bias_ptr, y_ptr, count, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    x = tl.maximum(tl.load(x_ptr + i, mask=i < count, other=0.0).to(tl.float32), 0.0)
    scale, bias = tl.load(scale_ptr).to(tl.float32), tl.load(bias_ptr).to(tl.float32)
    tl.store(y_ptr + i, scale * x * x + bias, mask=i < count)


@triton.jit
def _star_relu_backward(
    grad_ptr, x_ptr, scale_ptr, grad_x_ptr, sums_ptr, count, BLOCK: tl.constexpr
):
    program = tl.program_id(0)
    i = program.to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    grad = tl.load(grad_ptr + i, mask=i < count, other=0.0).to(tl.float32)
    x = tl.maximum(tl.load(x_ptr + i, mask=i < count, other=0.0).to(tl.float32), 0.0)
    scale = tl.load(scale_ptr).to(tl.float32)
    tl.store(grad_x_ptr + i, 2.0 * scale * grad * x, mask=i < count)
    tl.store(sums_ptr + 2 * program, tl.sum(grad * x * x, axis=0))
    tl.store(sums_ptr + 2 * program + 1, tl.sum(grad, axis=0))


@triton.jit
def _scaled_sum(
    x_ptr, branch_ptr, x_scale_ptr, factor_ptr, y_ptr, count, image, channels, run,
    factor_image, factor_channel,
    HAS_X_SCALE: tl.constexpr, HAS_FACTOR: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = i < count
    channel = (i // run) % channels
    y = tl.load(x_ptr + i, mask=inside, other=0.0).to(tl.float32)
    branch = tl.load(branch_ptr + i, mask=inside, other=0.0).to(tl.float32)
    if HAS_X_SCALE:
        y = y * tl.load(x_scale_ptr + channel, mask=inside, other=0.0).to(tl.float32)
    if HAS_FACTOR:
        at = factor_ptr + (i // image) * factor_image + channel * factor_channel
        branch = branch * tl.load(at, mask=inside, other=0.0).to(tl.float32)
    tl.store(y_ptr + i, y + branch, mask=inside)


@triton.jit
def _statistics(x_ptr, partial_ptr, image, programs, BLOCK: tl.constexpr):
    n, program = tl.program_id(0).to(tl.int64), tl.program_id(1)
    i = program * BLOCK + tl.arange(0, BLOCK)
    inside = i < image
    x = tl.load(x_ptr + n * image + i, mask=inside, other=0.0).to(tl.float32)
    size = tl.sum(inside.to(tl.float32), axis=0)
    mean = tl.sum(x, axis=0) / size
    centred = tl.where(inside, x - mean, 0.0)
    at = partial_ptr + 3 * (n * programs + program)
    tl.store(at, size)
    tl.store(at + 1, mean)
    tl.store(at + 2, tl.sum(centred * centred, axis=0))


def star_relu(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """``scale * relu(x)**2 + bias`` in one kernel, in the wider of their precisions."""
    y = torch.empty_like(x, dtype=torch.promote_types(x.dtype, scale.dtype))
    _star_relu[(triton.cdiv(x.numel(), BLOCK),)](x, scale, bias, y, x.numel(), BLOCK=BLOCK)
    return y


def star_relu_backward(
    grad: Tensor, x: Tensor, scale: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients for ``x``, ``scale`` and ``bias`` in one kernel and a sum over its programs."""
    grad_x = torch.empty_like(x)
    programs = triton.cdiv(x.numel(), BLOCK)
    sums = torch.empty(programs, 2, dtype=torch.float32, device=x.device)
    _star_relu_backward[(programs,)](grad, x, scale, grad_x, sums, x.numel(), BLOCK=BLOCK)
    grad_scale, grad_bias = sums.sum(0)
    return grad_x, grad_scale.view_as(scale).to(scale.dtype), grad_bias.view_as(bias).to(bias.dtype)


def scaled_sum(x: Tensor, branch: Tensor, x_scale: Tensor | None, factor: Tensor | None) -> Tensor:
    """``x_scale * x + factor * branch`` in one kernel.

    Args:
        x: Map ``[N, C, H, W]``.
        branch: Map of the same shape and layout.
        x_scale: Factors by channel ``[C]``, or None for 1.
        factor: Factors ``[N or 1, C or 1, 1, 1]``, or ``[C, 1, 1]``, or None for 1.
    """
    dtype = torch.promote_types(x.dtype, branch.dtype)
    for scale in (x_scale, factor):
        dtype = dtype if scale is None else torch.promote_types(dtype, scale.dtype)
    y = torch.empty_like(x, dtype=dtype)
    n, c, h, w = x.shape
    steps = (0, 0)
    if factor is not None:
        factor = factor.expand(n, c, 1, 1)
        steps = factor.stride()[:2]
    _scaled_sum[(triton.cdiv(x.numel(), BLOCK),)](
        x, branch, x_scale, factor, y, x.numel(), c * h * w, c, h * w if x.is_contiguous() else 1,
        *steps, HAS_X_SCALE=x_scale is not None, HAS_FACTOR=factor is not None, BLOCK=BLOCK,
    )  # fmt: skip
    return y


def image_statistics(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Mean and ``1 / sqrt(variance + eps)`` of each image, ``[N, 1, 1, 1]`` in float32.

    One kernel leaves size, mean and sum of squared deviations of each block; they are combined
    exactly as Chan et al. (1979) do, so that no digits are lost where the mean is large.
    """
    n, image = len(x), x.shape[1:].numel()
    programs = triton.cdiv(image, BLOCK)
    partial = torch.empty(n, programs, 3, dtype=torch.float32, device=x.device)
    _statistics[(n, programs)](x, partial, image, programs, BLOCK=BLOCK)
    size, means, squares = partial.unbind(-1)
    mean = (size * means).sum(1, keepdim=True) / image
    variance = (squares + size * (means - mean).square()).sum(1, keepdim=True) / image
    return mean.view(n, 1, 1, 1), (variance + eps).rsqrt().view(n, 1, 1, 1)
