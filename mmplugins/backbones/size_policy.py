"""Feature maps of any size for token mixers whose weights carry the side of those in training.

Sparse MLP, random mixing and spatial FC multiply all positions of a line or of a feature map by one
matrix, so a network trained at 224 pixels only fits feature maps of 56, 28, 14 and 7 positions. Two
policies let such a matrix meet another length ``n``; both change nothing at ``n == side``.

``'window'``
    The line is cut into windows of ``side`` positions, and each is mixed as in training. If ``n``
    is no multiple of ``side``, the last window is moved back so that it ends with the line. It then
    reads real positions only, no padding, and only its part not yet covered is kept. A line shorter
    than one window is resampled as below. Cost grows linearly with the feature map.

``'resample'``
    The matrix is resampled to ``n``: with R the antialiased linear resampling of a line, W becomes
    R(side -> n) W R(n -> side) and a bias b becomes R(side -> n) b. The rows of R sum to 1. So the
    row sums of W are kept, and with them the answer to constant input. For a matrix over a grid
    this is its resampling as a kernel [h, w, h', w']. The mixing is linear, so the two R are
    applied to the feature map and not to the matrix. That gives the same numbers without the n x n
    matrix (4,200 x 4,200 for one stage of a detector).

On feature maps, each axis is treated on its own. Nothing is cached between calls, so weights may
change at any time, and gradients reach them under both policies. Under ``torch.compile``,
``'resample'`` also traces quickly with dynamic sizes; ``'window'`` is for static ones (with dynamic
sizes the number of windows is symbolic, and tracing takes minutes).

The default is ``'resample'``: in the study of ``projects/size_policy`` it was better on larger
drawings of the same scene, and elsewhere level with ``'window'`` or better.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

SizePolicy = Literal["window", "resample"]

DEFAULT_POLICY: SizePolicy = "resample"


def check_size_policy(side: int, policy: str) -> None:
    """Raise ValueError unless ``side`` is a positive int and ``policy`` a known one."""
    if not isinstance(side, int) or side < 1:
        raise ValueError(
            f"side={side!r}: expected height and width of the feature map at the training size, in "
            "positions; at 224 pixels these are 56, 28, 14 and 7 for stages 0 to 3"
        )
    if policy not in get_args(SizePolicy):
        raise ValueError(
            f"policy={policy!r}: expected 'window' (mix windows of the training size) or "
            "'resample' (resample the weights to the feature map)"
        )


def mix_lines(x: Tensor, weight: Tensor, bias: Tensor | None, policy: SizePolicy) -> Tensor:
    """Mix the last axis of ``x [..., n]`` by ``weight [side, side]`` and ``bias [side]``."""
    side = weight.shape[0]
    mixed = F.linear(to_windows(x, side, policy), weight, bias)
    return from_windows(mixed, x.shape[-1], policy)


def mix_grid(x: Tensor, weight: Tensor, side: int, policy: SizePolicy) -> Tensor:
    """Mix all positions of feature maps ``x [N, C, H, W]`` by ``weight [side**2, side**2]``.

    Rows and columns of the weight count the positions of a side x side feature map, row by row.
    """
    height, width = x.shape[-2:]
    x = to_windows(x, side, policy)  # [N, C, H, columns of windows, side]
    x = to_windows(x.movedim(2, -1), side, policy)  # [N, C, columns, side, rows, side]
    x = x.permute(0, 1, 4, 2, 5, 3).flatten(-2)  # [N, C, rows, columns, side**2]
    x = F.linear(x, weight).unflatten(-1, (side, side))
    x = from_windows(x.permute(0, 1, 3, 5, 2, 4), height, policy).movedim(-1, 2)
    return from_windows(x, width, policy)


def to_windows(x: Tensor, side: int, policy: SizePolicy) -> Tensor:
    """Bring the last axis of ``x [..., n]`` to the training size: ``[..., windows, side]``."""
    size = x.shape[-1]
    length, count = _window_length(size, side, policy)
    if count * length != size:
        x = torch.cat([x[..., : (count - 1) * length], x[..., size - length :]], dim=-1)
    x = x.unflatten(-1, (count, length))
    return x if length == side else F.linear(x, resampling_matrix(length, side, x))


def from_windows(x: Tensor, size: int, policy: SizePolicy) -> Tensor:
    """Undo :func:`to_windows`: ``[..., windows, side]`` becomes ``[..., size]``."""
    side = x.shape[-1]
    length, count = _window_length(size, side, policy)
    if length != side:
        x = F.linear(x, resampling_matrix(side, length, x))
    x = x.flatten(-2)
    if count * length != size:
        done = (count - 1) * length
        x = torch.cat([x[..., :done], x[..., count * length - (size - done) :]], dim=-1)
    return x


def resampling_matrix(source: int, target: int, like: Tensor) -> Tensor:
    """Antialiased linear resampling of ``source`` positions to ``target`` as a matrix.

    Each target position averages the sources around its centre with a triangle that is one source
    wide on either side, or one target if those are coarser: ``F.interpolate`` with
    ``mode='bilinear', antialias=True``, for one axis.

    Args:
        source: Length before.
        target: Length after.
        like: Tensor whose device and dtype the matrix takes.

    Returns:
        Matrix ``[target, source]``; its entries are not negative and each row sums to 1.
    """
    dtype = torch.promote_types(like.dtype, torch.float32)
    step = source / target
    centers = (torch.arange(target, device=like.device, dtype=dtype) + 0.5) * step
    positions = torch.arange(source, device=like.device, dtype=dtype) + 0.5
    weights = F.relu(1 - (positions - centers[:, None]).abs() / max(step, 1.0))
    return (weights / weights.sum(dim=1, keepdim=True)).to(like.dtype)


def _window_length(size: int, side: int, policy: SizePolicy) -> tuple[int, int]:
    """Length of the windows on a line of ``size`` positions, before resampling; their number."""
    length = size if policy == "resample" else min(size, side)
    return length, -(-size // length)
