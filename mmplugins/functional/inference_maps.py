"""Statistics and pairs of layers on channels-last maps, for inference on the CPU.

What takes time there beside the convolutions is memory: maps that fall out of the cache, and large
blocks that the allocator hands back to the operating system and gets again page by page.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .calling import by_channel
from .inference_conv import Geometry, conv2d, empty_map

BAND = 2**20
"""Elements of a map that :func:`in_bands` lets stand between two layers: 4 MiB, measured.

From 8 MiB on glibc's allocator returns it after each layer; below 1 MiB calls cost more than they
save.
"""

_POINTWISE = Geometry((0, 0), (1, 1), (1, 1), 1)


def in_bands(
    function: Callable[[Tensor, Tensor | None], Tensor],
    x: Tensor,
    shortcut: Tensor | None,
    factor: Tensor | None,
    width: int,
) -> Tensor:
    """``factor * shortcut + function(x)``, for a band of rows after the other.

    Args:
        function: ``function(x, residual)`` adds a residual, or none, to what it makes of each
            position of ``x`` alone; it keeps the shape.
        x: Map ``[N, C, H, W]``.
        shortcut: Map of the same shape, or None.
        factor: Factors on the shortcut ``[C]``, or None for 1.
        width: Channels of the widest map that the function holds in between.
    """
    row = x.shape[0] * x.shape[3] * width
    rows = max(1, BAND // max(1, row))  # a batch may be empty
    if rows >= x.shape[2]:
        return function(x, scaled(shortcut, factor))
    out = empty_map(x, *x.shape)
    shortcuts = [None] * x.shape[2] if shortcut is None else shortcut.split(rows, 2)
    for band, short, to in zip(x.split(rows, 2), shortcuts, out.split(rows, 2), strict=False):
        y = function(band, None)
        if short is None:
            to.copy_(y)
        elif factor is None:
            torch.add(y, short, out=to)
        else:
            torch.addcmul(y, short, by_channel(factor), out=to)
    return out


def scaled(x: Tensor | None, factor: Tensor | None) -> Tensor | None:
    """``factor * x`` by channel; None stays None, and None as a factor is 1."""
    return x if x is None or factor is None else x * by_channel(factor)


@torch.library.custom_op(
    "mmplugins::pointwise_pair",
    mutates_args=(),
    device_types="cpu",
    schema="(Tensor x, Tensor weight1, Tensor? bias1, str? act, bool squared, Tensor weight2, "
    "Tensor? bias2, Tensor? shortcut, Tensor? factor) -> Tensor",
)
def pointwise_pair(
    x: Tensor,
    weight1: Tensor,
    bias1: Tensor | None,
    act: str | None,
    squared: bool,
    weight2: Tensor,
    bias2: Tensor | None,
    shortcut: Tensor | None,
    factor: Tensor | None,
) -> Tensor:
    """Two pointwise convolutions and a shortcut, in bands, as one operator for compilers.

    Without gradient. The result is channels-last.

    Args:
        x: Map ``[N, C, H, W]``.
        weight1: ``[hidden, C, 1, 1]``.
        bias1: ``[hidden]``, or None.
        act: Activation between the layers, a name of
            :data:`~mmplugins.functional.inference_conv.ACTIVATIONS`, or None.
        squared: Whether what the activation gives is squared.
        weight2: ``[C, hidden, 1, 1]``.
        bias2: ``[C]``, or None.
        shortcut: Map ``[N, C, H, W]`` to be added, or None.
        factor: Factors on the shortcut ``[C]``, or None for 1.
    """

    def layers(x: Tensor, residual: Tensor | None) -> Tensor:
        x = conv2d(x, weight1, bias1, _POINTWISE, act)
        x = x.square_() if squared else x
        return conv2d(x, weight2, bias2, _POINTWISE, None, residual)

    x = x.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        return in_bands(layers, x, shortcut, factor, weight1.shape[0])


@pointwise_pair.register_fake
def _(x, weight1, bias1, act, squared, weight2, bias2, shortcut, factor):
    return empty_map(x, *x.shape)


def image_moments(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Mean and reciprocal deviation of each image of ``x [N, C, H, W]``: each ``[N, 1, 1, 1]``.

    The statistics of a group norm with one group, without its result. The variance is the mean
    square less the squared mean, as PyTorch's channels-last kernel takes it, but only while the two
    are not close: far from zero their difference loses all digits. There the deviation is taken
    about the mean, in a second pass.

    Args:
        x: Channels-last map.
        eps: Added to the variance.
    """
    rows = x.permute(0, 2, 3, 1).flatten(2)
    mean = rows.sum(-1).double().sum(-1) / rows.shape[1:].numel()
    square = _mean_square(rows)
    variance = square - mean.square()
    if (square > 8 * variance).any():
        rough = mean.to(x.dtype).view(-1, 1, 1)
        length = max(1, BAND // (rows.shape[0] * rows.shape[2]))
        bands = [_mean_square(band - rough) * band.shape[1] for band in rows.split(length, 1)]
        variance = sum(bands) / rows.shape[1]
    rstd = (variance + eps).rsqrt()
    return mean.to(x.dtype).view(-1, 1, 1, 1), rstd.to(x.dtype).view(-1, 1, 1, 1)


def _mean_square(rows: Tensor) -> Tensor:
    """By image, in float64, of rows ``[N, H, W * C]``; each row is summed in its own precision."""
    norms = torch.linalg.vector_norm(rows, dim=-1)
    return norms.double().square().sum(-1) / rows.shape[1:].numel()
