"""Instance masks as run lengths, straight from a mask head's small map over each box.

mmdet makes a map of the picture's size for each object before anybody asks for it: 10 GB for 100
objects in a picture of 100 megapixels. Here a mask is sampled as mmdet samples it, in bands of
columns, which is the order of COCO's run lengths, and only the runs are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .results import Rle, joined

_BAND = 2**20
"""Pixels that are sampled at once, about 30 bytes for each."""


def pasted(mask: Tensor, box: Tensor, size: tuple[int, int], threshold: float) -> Rle:
    """Stretch a mask over its box.

    Args:
        mask: ``float[h, w]``, 0 to 1 over the box.
        box: ``x0, y0, x1, y1`` in pixels of the picture.
        size: Height and width of the picture.
        threshold: From which value on a pixel belongs to the object.

    Returns:
        The same pixels as those of mmdet's ``FCNMaskHead`` on a CPU.
    """
    x0, y0, x1, y1 = box.tolist()
    left, right = _reach(x0, x1, size[1])
    top, bottom = _reach(y0, y1, size[0])
    mask, rows = mask.float()[None, None], _positions(top, bottom, box[1], box[3])

    def bands() -> Iterator[np.ndarray]:
        step = max(1, _BAND // max(1, bottom - top))
        for start in range(left, right, step):
            columns = _positions(start, min(start + step, right), box[0], box[2])
            grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)
            sampled = F.grid_sample(mask, grid[None], align_corners=False)
            yield (sampled[0, 0] >= threshold).numpy()

    return joined(bands(), (left, top), size)


def _reach(low: float, high: float, length: int) -> tuple[int, int]:
    """First pixel, and the one after the last, that a box from ``low`` to ``high`` may touch."""
    first = min(max(int(np.floor(low)) - 1, 0), length)
    return first, max(min(int(np.ceil(high)) + 1, length), first)


def _positions(first: int, last: int, low: Tensor, high: Tensor) -> Tensor:
    """Middles of pixels in -1 to 1 over a box's side; the middle of a side without length."""
    middles = torch.arange(first, last).float() + 0.5
    places = (middles - low) / (high - low) * 2 - 1
    return places.masked_fill(places.isinf(), 0)


@contextmanager
def masks_as_runs(model: nn.Module) -> Iterator[None]:
    """Have mmdet's mask heads put out lists of run lengths, for the length of a block.

    Heads that make their masks in another way than ``FCNMaskHead`` stay as they are.
    """
    from mmdet.models.roi_heads.mask_heads import FCNMaskHead

    name = "_predict_by_feat_single"
    usual = getattr(FCNMaskHead, name)
    heads = [
        part
        for part in model.modules()
        if isinstance(part, FCNMaskHead)
        and getattr(type(part), name) is usual
        and name not in vars(part)
    ]
    for head in heads:
        setattr(head, name, partial(_runs, head))
    try:
        yield
    finally:
        for head in heads:
            delattr(head, name)


def _runs(
    head: nn.Module,
    mask_preds: Tensor,
    bboxes: Tensor,
    labels: Tensor,
    img_meta: Mapping[str, Any],
    rcnn_test_cfg: Mapping[str, Any],
    rescale: bool = False,
    activate_map: bool = False,
) -> Any:
    """What ``FCNMaskHead._predict_by_feat_single`` puts out, as run lengths."""
    threshold = float(rcnn_test_cfg["mask_thr_binary"])
    if not rescale or threshold < 0:  # masks of the network's input, or in grey levels
        return type(head)._predict_by_feat_single(  # type: ignore[attr-defined]
            head, mask_preds, bboxes, labels, img_meta, rcnn_test_cfg, rescale, activate_map
        )
    bboxes /= bboxes.new_tensor(img_meta["scale_factor"]).repeat(1, 2)  # in place, as mmdet does
    if activate_map:  # a cascade's mean, which is past the sigmoid
        values = torch.as_tensor(mask_preds, dtype=bboxes.dtype, device=bboxes.device)
    else:
        values = mask_preds.sigmoid()
    number = 0 if head.class_agnostic else labels
    masks = values[torch.arange(len(values), device=values.device), number]
    size = tuple(img_meta["ori_shape"][:2])
    return [
        pasted(mask, box, size, threshold)
        for mask, box in zip(masks.cpu(), bboxes.cpu(), strict=True)
    ]
