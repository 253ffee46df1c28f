"""Non-maximum suppression: plain, soft (Bodla et al., 2017, https://arxiv.org/abs/1704.04503),
and with a record of which box suppressed which.

Boxes of equal scores are taken in the order of their indices, on every device.
"""

import numpy as np
import torch
from torch import Tensor

from .dispatch import KERNELS, extension_op, widen


@extension_op
def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Greedy non-maximum suppression.

    Args:
        boxes: Boxes of shape (N, 4), as (x1, y1, x2, y2); N may be 0.
        scores: Scores of shape (N,).
        iou_threshold: A box goes if it overlaps a better one by more than this. Boxes without area
            overlap nothing.
        offset: 0, or 1 where boxes count pixels: width = x2 - x1 + offset.

    Returns:
        Indices of the kept boxes, int64, best first, on the device of ``boxes``.
    """
    boxes, scores = widen(boxes, scores)
    if offset:
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    # torchvision compares in double precision, and compiled mmcv in the precision of the boxes.
    # With a rounded threshold, both call the same overlaps equal to it.
    threshold = torch.tensor(iou_threshold, dtype=boxes.dtype).item()
    return KERNELS.nms(boxes, scores, threshold)


@extension_op
def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Soft non-maximum suppression: overlapped boxes are not removed, but get lower scores.

    Args:
        boxes: Boxes of shape (N, 4), as (x1, y1, x2, y2).
        scores: Scores of shape (N,).
        dets: Output of shape (N, 5); the first K rows become the kept boxes with their new scores.
        iou_threshold: Overlap from which methods 0 and 1 act.
        sigma: Width of the Gaussian of method 2.
        min_score: Boxes that fall below it are dropped.
        method: 0 sets the score to zero, 1 multiplies it by 1 - IoU, 2 by exp(-IoU^2 / sigma).
        offset: 0, or 1 where boxes count pixels: width = x2 - x1 + offset.

    Returns:
        Indices of the K kept boxes, int64, in the order of ``dets``, on the device of ``boxes``.

    Equal scores are treated as in compiled mmcv: a chosen box changes places with the first one
    left, and the last box takes the place of a dropped one. Each step depends on the one before, so
    calls cost most of the time. Numpy's are several times cheaper than torch's.
    """
    columns = np.stack([c.detach().cpu().numpy() for c in widen(*boxes.unbind(1), scores)])
    x1, y1, x2, y2 = columns[:4]
    areas = (x2 - x1 + offset) * (y2 - y1 + offset)
    table = np.concatenate([columns, areas[None]])  # rows: x1 y1 x2 y2 score area
    index = np.arange(table.shape[1])
    position, count = 0, table.shape[1]
    while position < count:
        best = position + int(table[4, position:count].argmax())
        table[:, [position, best]] = table[:, [best, position]]
        index[[position, best]] = index[[best, position]]
        rest, rest_index = table[:, position + 1 : count], index[position + 1 : count]
        rest[4] *= _decay(_iou_with(table[:, position], rest, offset), method, iou_threshold, sigma)
        position += 1
        dropped = rest[4] < min_score
        if dropped.any():
            survivors = int((~dropped).sum())
            holes = dropped[:survivors].nonzero()[0]
            fillers = survivors + (~dropped[survivors:]).nonzero()[0][::-1]
            rest[:, holes] = rest[:, fillers]
            rest_index[holes] = rest_index[fillers]
            count = position + survivors
    dets[:count] = torch.from_numpy(table[:5, :count].T).to(dets)
    return torch.from_numpy(index[:count]).to(boxes.device)


@extension_op
def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Non-maximum suppression that tells which box suppressed which.

    Args:
        dets: Boxes with scores, shape (N, 5).
        iou_threshold: A box joins the group of a better one that it overlaps by this or more.

    Returns:
        One list of indices per kept box: the box itself, then those it suppressed, best first.
    """
    table = widen(dets)[0].detach().cpu().numpy().T
    x1, y1, x2, y2, scores = table
    table = np.concatenate([table, ((x2 - x1) * (y2 - y1))[None]])
    left = np.argsort(-scores, kind="stable")
    groups = []
    while left.size:
        best, left = left[0], left[1:]
        joins = _iou_with(table[:, best], table[:, left], offset=0) >= iou_threshold
        groups.append([int(best), *left[joins].tolist()])
        left = left[~joins]
    return groups


def _iou_with(box: np.ndarray, others: np.ndarray, offset: int) -> np.ndarray:
    """Overlap of one box, (x1, y1, x2, y2, score, area), with N, shape (6, N); 0/0 is NaN."""
    width = np.minimum(box[2], others[2]) - np.maximum(box[0], others[0]) + offset
    height = np.minimum(box[3], others[3]) - np.maximum(box[1], others[1]) + offset
    intersection = np.maximum(width, 0) * np.maximum(height, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return intersection / (box[5] + others[5] - intersection)


def _decay(iou: np.ndarray, method: int, iou_threshold: float, sigma: float) -> np.ndarray:
    """Factors for the scores of boxes with these overlaps, shape (N,)."""
    if method == 2:
        # The overlap of two boxes without area is NaN, which becomes the score in compiled mmcv.
        return np.exp(-np.square(np.nan_to_num(iou)) / sigma)
    penalty = np.ones_like(iou) if method == 0 else iou
    return np.where(iou >= iou_threshold, 1 - penalty, 1).astype(iou.dtype)
