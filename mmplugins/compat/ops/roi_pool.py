"""RoIPool (Fast R-CNN, Girshick, 2015, https://arxiv.org/abs/1504.08083, section 2.1).

This is plain torch. torchvision's operator first rounds a region to whole pixels of the feature
map, and mmcv's does not. So the two differ if the feature map is coarser than the image.
"""

import torch
from torch import Tensor

from .dispatch import extension_op, widen


@extension_op
def roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Write the maximum of each bin of each region into ``output``.

    Args:
        input: Features of shape (N, C, H, W).
        rois: Regions of shape (R, 5), as (image index, x1, y1, x2, y2) in image pixels, the last
            pixel included.
        output: Output of shape (R, C, pooled_height, pooled_width); overwritten, 0 for bins that
            cover no pixel.
        argmax: Int of the shape of ``output``; overwritten with ``row * W + column`` of each
            maximum, -1 for bins that cover no pixel.
        pooled_height: Bins per column.
        pooled_width: Bins per row.
        spatial_scale: Map pixels per image pixel.
    """
    input, rois = widen(input, rois)
    output.zero_()
    argmax.fill_(-1)
    height, width = input.shape[2:]
    starts = rois[:, 1:3] * spatial_scale
    sizes = (rois[:, 3:5] + 1) * spatial_scale - starts
    rows = _bin_edges(starts[:, 1], sizes[:, 1], pooled_height, height)
    columns = _bin_edges(starts[:, 0], sizes[:, 0], pooled_width, width)
    images = rois[:, 0].long().tolist()
    for r, (image, has_area) in enumerate(zip(images, (sizes > 0).all(1).tolist(), strict=True)):
        if not has_area:
            continue
        for j, (left, right) in enumerate(columns[r]):
            if right <= left:
                continue
            # First along the rows, once per column of bins, then down. The first of equal pixels
            # is taken.
            in_row, column = input[image, :, :, left:right].max(2)
            for i, (top, bottom) in enumerate(rows[r]):
                if bottom <= top:
                    continue
                output[r, :, i, j], row = in_row[:, top:bottom].max(1)
                row += top
                argmax[r, :, i, j] = row * width + left + column.gather(1, row[:, None])[:, 0]


def _bin_edges(start: Tensor, size: Tensor, bins: int, length: int) -> list[list[list[int]]]:
    """First and one-past-last pixel of every bin of every region: R x bins x 2."""
    number = torch.arange(bins, device=start.device, dtype=start.dtype)
    bin_size = (size / bins)[:, None]
    first = (number * bin_size + start[:, None]).floor()
    last = ((number + 1) * bin_size + start[:, None]).ceil()
    return torch.stack([first, last], 2).clamp(0, length).long().tolist()


@extension_op
def roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Add the gradient with respect to the features to ``grad_input``.

    Args:
        grad_output: Gradient of shape (R, C, pooled_height, pooled_width).
        rois: Regions of shape (R, 5).
        argmax: As filled by :func:`roi_pool_forward`.
        grad_input: Shape (N, C, H, W); added to.
        pooled_height: Bins per column; implied by ``argmax``.
        pooled_width: Bins per row; implied by ``argmax``.
        spatial_scale: Map pixels per image pixel; implied by ``argmax``.
    """
    channels, height, width = grad_input.shape[1:]
    (gradient,) = widen(grad_output)
    plane = rois[:, :1].long() * channels + torch.arange(channels, device=rois.device)
    pixel = plane[:, :, None, None] * (height * width) + argmax
    pooled = argmax >= 0
    result = gradient.new_zeros(grad_input.shape)
    result.view(-1).index_put_((pixel[pooled],), gradient[pooled], accumulate=True)
    grad_input += result
