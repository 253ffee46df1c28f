"""RoIAlign (Mask R-CNN, He et al., 2017, https://arxiv.org/abs/1703.06870, section 3).

Each bin of a region is the average, or the maximum, of bilinear samples on a regular grid. The
weight of a pixel in a sample is a product of one factor per axis. So the average over a bin is
``Y @ F @ X.T``, with one small matrix per axis. Averages are torchvision's. The maximum, which it
does not have, and the gradient of the average in deterministic mode are computed by these products.
"""

import torch
from torch import Tensor

from .dispatch import KERNELS, extension_op, widen

MAX_POOL = 0
# A coordinate outside every map. It marks bins without a sample in the argmax buffers.
NOWHERE = -2.0
# Elements of the largest temporary of the matrix path: 64 MB in float32.
CHUNK = 2**24


@extension_op
def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Pool regions of a feature map into ``output``.

    Args:
        input: Features of shape (N, C, H, W).
        rois: Regions of shape (R, 5), as (image index, x1, y1, x2, y2) in image pixels.
        output: Output of shape (R, C, aligned_height, aligned_width); overwritten.
        argmax_y: Of the shape of ``output`` for max pooling: overwritten with the row coordinate of
            each maximum. Unused for average pooling.
        argmax_x: Likewise for columns.
        aligned_height: Bins per column.
        aligned_width: Bins per row.
        spatial_scale: Map pixels per image pixel.
        sampling_ratio: Samples per bin and axis; 0 takes one per map pixel, rounded up.
        pool_mode: 0 for the maximum, 1 for the average.
        aligned: Whether to shift by half a pixel; False is the legacy rule, with regions of at
            least one map pixel.

    Raises:
        ValueError: On CPU, if ``aligned`` and a region has a negative width or height.

    A region without area has no samples when ``sampling_ratio`` is 0: its bins are 0.
    """
    bins = (aligned_height, aligned_width)
    input, rois = widen(input, rois)
    _check_sizes(rois, aligned)
    if pool_mode == MAX_POOL:
        for buffer, result in zip(
            (output, argmax_y, argmax_x),
            _max_forward(input, rois, bins, spatial_scale, sampling_ratio, aligned),
            strict=True,
        ):
            buffer.copy_(result)
        return
    output.copy_(KERNELS.roi_align(input, rois, spatial_scale, *bins, sampling_ratio, aligned))


@extension_op
def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Add the gradient with respect to the features to ``grad_input``.

    Args:
        grad_output: Gradient of shape (R, C, aligned_height, aligned_width).
        rois: As in :func:`roi_align_forward`, as the rest.
        argmax_y: Filled by the forward op, for max pooling.
        argmax_x: Likewise.
        grad_input: Shape (N, C, H, W); added to.
        aligned_height: Bins per column.
        aligned_width: Bins per row.
        spatial_scale: Map pixels per image pixel.
        sampling_ratio: Samples per bin and axis, or 0.
        pool_mode: 0 for the maximum, 1 for the average.
        aligned: Whether regions are shifted by half a pixel.
    """
    bins = (aligned_height, aligned_width)
    shape = grad_input.shape
    if pool_mode == MAX_POOL:
        grad_output, rois, argmax_y, argmax_x = widen(grad_output, rois, argmax_y, argmax_x)
        grad_input += _max_backward(grad_output, rois, argmax_y, argmax_x, shape)
        return
    grad_output, rois = widen(grad_output, rois)
    if _must_repeat(grad_output):
        settings = (bins, spatial_scale, sampling_ratio, aligned)
        grad_input += _average_backward(grad_output, rois, shape, *settings)
    else:
        region = (rois, spatial_scale, *bins, *shape, sampling_ratio, aligned)
        grad_input += KERNELS._roi_align_backward(grad_output, *region)


def _must_repeat(gradient: Tensor) -> bool:
    """Whether torchvision's kernel refuses: that of CUDA adds in an order which changes."""
    return gradient.is_cuda and torch.are_deterministic_algorithms_enabled()


def _check_sizes(rois: Tensor, aligned: bool) -> None:
    """Refuse regions of negative size, on CPU only, where the check costs nothing."""
    if not aligned or rois.device.type != "cpu":
        return
    inverted = (rois[:, 3:] < rois[:, 1:3]).any(1)
    if inverted.any():
        row = int(inverted.nonzero()[0])
        raise ValueError(
            f"roi_align: region {row} is {rois[row].tolist()} (image, x1, y1, x2, y2); expected "
            "x2 >= x1 and y2 >= y1. Clip or filter boxes before pooling, or pass aligned=False."
        )


def _samples(
    start: Tensor, end: Tensor, bins: int, sampling_ratio: int, aligned: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Where the bins of R regions are sampled along one axis.

    Args:
        start: Shape (R,), in map pixels.
        end: Shape (R,).
        bins: Bins along this axis.
        sampling_ratio: Samples per bin, or 0 for one per map pixel.
        aligned: Whether the half-pixel shift applies.

    Returns:
        Coordinates of shape (R, bins, S); which of them exist, bool of shape (R, 1, S), as S is the
        largest count of any region; and the count of each region, shape (R,).
    """
    if aligned:
        start, end = start - 0.5, end - 0.5
    size = end - start
    if not aligned:
        size = size.clamp(min=1)
    bin_size = (size / bins)[:, None, None]
    counts = (size / bins).ceil().clamp(min=0)
    if sampling_ratio > 0:
        counts = torch.full_like(size, sampling_ratio)
    most = int(counts.max()) if counts.numel() else 0
    step = torch.arange(most, device=start.device, dtype=start.dtype)
    bin_number = torch.arange(bins, device=start.device, dtype=start.dtype)[:, None]
    counts_ = counts[:, None, None]
    offsets = bin_number * bin_size + (step + 0.5) * bin_size / counts_.clamp(min=1)
    return start[:, None, None] + offsets, step < counts_, counts


def _inside(positions: Tensor, length: int) -> Tensor:
    """Which samples count: those up to one pixel outside of the map. Others are zero."""
    return (positions >= -1) & (positions <= length)


def _weights(positions: Tensor, exists: Tensor, length: int) -> Tensor:
    """Sum over S samples of the bilinear weights along an axis of ``length`` pixels.

    Args:
        positions: Shape (R, B, S).
        exists: Bool that broadcasts against ``positions``.
        length: Pixels of the map along this axis.

    Returns:
        Shape (R, B, length).
    """
    pixels = torch.arange(length, device=positions.device, dtype=positions.dtype)
    counted = (exists & _inside(positions, length)).to(positions.dtype)
    clamped = positions.clamp(0, length - 1)
    weights = positions.new_zeros(*positions.shape[:2], length)
    for s in range(positions.size(2)):
        hat = (1 - (clamped[..., s, None] - pixels).abs()).clamp_(min=0)
        weights.addcmul_(hat, counted[..., s, None])
    return weights


def _axis_matrices(
    rois: Tensor,
    size: tuple[int, int],
    bins: tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> tuple[Tensor, Tensor]:
    """Averaging matrices of shape (R, bins[0], H) for rows and (R, bins[1], W) for columns."""
    x1, y1, x2, y2 = (rois[:, 1:] * spatial_scale).unbind(1)
    matrices = []
    for axis, (start, end) in enumerate(((y1, y2), (x1, x2))):
        positions, exists, counts = _samples(start, end, bins[axis], sampling_ratio, aligned)
        weights = _weights(positions, exists, size[axis])
        matrices.append(weights / counts.clamp(min=1)[:, None, None])
    return tuple(matrices)


def _chunks(rois: Tensor, elements_per_roi: int):
    """Yield (image index, indices of some of its regions) so that temporaries stay small."""
    images = rois[:, 0].long()
    for image in images.unique().tolist():
        members = (images == image).nonzero()[:, 0]
        for chunk in members.split(max(1, CHUNK // max(1, elements_per_roi))):
            yield image, chunk


def _average_backward(
    grad_output: Tensor,
    rois: Tensor,
    shape: torch.Size,
    bins: tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    _, channels, height, width = shape
    grad_input = grad_output.new_zeros(shape)
    for image, chunk in _chunks(rois, bins[0] * channels * width):
        rows, columns = _axis_matrices(
            rois[chunk], (height, width), bins, spatial_scale, sampling_ratio, aligned
        )
        spread = grad_output[chunk].transpose(1, 2) @ columns[:, None]
        spread = spread.reshape(len(chunk) * bins[0], channels * width)
        by_row = rows.flatten(0, 1).T @ spread
        grad_input[image] += by_row.view(height, channels, width).transpose(0, 1)
    return grad_input


def _max_forward(
    input: Tensor,
    rois: Tensor,
    bins: tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Maxima with their row and column coordinates. Regions have grids of different sizes."""
    _, channels, height, width = input.shape
    output = input.new_zeros(rois.size(0), channels, *bins)
    argmax_y, argmax_x = torch.full_like(output, NOWHERE), torch.full_like(output, NOWHERE)
    bin_y = torch.arange(bins[0], device=input.device)[:, None]
    bin_x = torch.arange(bins[1], device=input.device)
    for r, image in enumerate(rois[:, 0].long().tolist()):
        x1, y1, x2, y2 = (rois[r, 1:] * spatial_scale)[:, None].unbind(0)
        ys, exists, _ = _samples(y1, y2, bins[0], sampling_ratio, aligned)
        rows = _weights(ys.view(1, -1, 1), exists.any(), height)[0]
        xs, exists, _ = _samples(x1, x2, bins[1], sampling_ratio, aligned)
        columns = _weights(xs.view(1, -1, 1), exists.any(), width)[0]
        per_bin = (ys.size(2), xs.size(2))
        if 0 in per_bin:
            continue
        values = rows @ input[image] @ columns.T
        values = values.view(channels, bins[0], per_bin[0], bins[1], per_bin[1])
        output[r], best = values.transpose(2, 3).flatten(3).max(3)
        argmax_y[r] = ys[0][bin_y, best // per_bin[1]]
        argmax_x[r] = xs[0][bin_x, best % per_bin[1]]
    return output, argmax_y, argmax_x


def _max_backward(
    grad_output: Tensor, rois: Tensor, argmax_y: Tensor, argmax_x: Tensor, shape: torch.Size
) -> Tensor:
    """Share each bin's gradient among the four pixels around its maximum."""
    _, channels, height, width = shape
    inside = _inside(argmax_y, height) & _inside(argmax_x, width)
    y, x = argmax_y.clamp(0, height - 1), argmax_x.clamp(0, width - 1)
    top, left = y.floor(), x.floor()
    channel = torch.arange(channels, device=rois.device)[:, None, None]
    plane = (rois[:, 0].long()[:, None, None, None] * channels + channel) * height
    grad_input = grad_output.new_zeros(shape)
    for down, weight_y in ((0, 1 - (y - top)), (1, y - top)):
        row = plane + (top.long() + down).clamp(max=height - 1)
        for right, weight_x in ((0, 1 - (x - left)), (1, x - left)):
            pixel = row * width + (left.long() + right).clamp(max=width - 1)
            share = grad_output * weight_y * weight_x * inside
            grad_input.view(-1).index_put_((pixel,), share, accumulate=True)
    return grad_input
