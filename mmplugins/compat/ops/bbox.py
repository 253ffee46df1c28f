"""Overlaps of axis-aligned boxes."""

from torch import Tensor

from .dispatch import extension_op, widen


@extension_op
def bbox_overlaps(
    bboxes1: Tensor, bboxes2: Tensor, ious: Tensor, mode: int, aligned: bool, offset: int
) -> None:
    """Write the overlaps of two sets of boxes into ``ious``.

    Args:
        bboxes1: Boxes of shape (M, 4), as (x1, y1, x2, y2) in pixels.
        bboxes2: Boxes of shape (N, 4).
        ious: Output of shape (M, N), or (M,) if ``aligned``; overwritten.
        mode: 0 for intersection over union, 1 for intersection over the area of ``bboxes1``.
        aligned: Whether to compare row with row (then M == N) instead of all with all.
        offset: 0, or 1 where boxes count pixels: width = x2 - x1 + offset.

    Two boxes without area give 0/0 = NaN, as compiled mmcv does.
    """
    first, second = widen(bboxes1, bboxes2)
    if not aligned:
        first = first[:, None]
    ax1, ay1, ax2, ay2 = first.unbind(-1)
    bx1, by1, bx2, by2 = second.unbind(-1)
    width = (ax2.minimum(bx2) - ax1.maximum(bx1) + offset).clamp_(min=0)
    height = (ay2.minimum(by2) - ay1.maximum(by1) + offset).clamp_(min=0)
    intersection = width.mul_(height)
    area = (ax2 - ax1 + offset) * (ay2 - ay1 + offset)
    if mode == 0:
        area = area + (bx2 - bx1 + offset) * (by2 - by1 + offset) - intersection
    ious.copy_(intersection / area)
