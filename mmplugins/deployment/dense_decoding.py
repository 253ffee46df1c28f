"""From the maps of a dense head to boxes, for a batch of pictures of any size.

The steps are those of mmdet: of each level the best ``nms_pre`` pairs of place and class, boxes
from the head's own priors and coder, suppression by class (or, of proposals, by level), the best
``max_per_img``. Each step has a result of fixed length; what is missing has the score -1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmplugins.utils import type_name

from .errors import ExportError
from .operators import suppress

Found = tuple[Tensor, Tensor, Tensor]
"""Boxes ``[N, K, 4]``, scores ``[N, K]`` (-1 for none) and labels ``[N, K]``."""


class DenseDecoder(nn.Module):
    """Decodes what a head puts out.

    Args:
        head: Of RetinaNet's, FCOS's or RPN's kind.
        settings: The head's ``test_cfg``.
        by_level: Suppress within each level, and forget the classes, as for proposals.

    Raises:
        ExportError: If the head decodes in its own way.
    """

    def __init__(self, head: nn.Module, settings: Mapping[str, Any], by_level: bool = False):
        super().__init__()
        _check(head, by_level)
        self.head = head
        self.by_level = by_level
        self.first = positive(settings, "nms_pre", head)
        self.most = positive(settings, "max_per_img", head)
        self.iou = iou_of(settings, head)
        self.least = 0.0 if by_level else float(settings.get("score_thr", 0))
        self.smallest = settings.get("min_bbox_size", -1)

    def forward(self, maps: Sequence[Tensor], size: Sequence[int]) -> Found:
        """Decode the maps of the neck for pictures of a height and width."""
        outputs = self.head(tuple(maps))
        levels = [self._level(k, *parts) for k, parts in enumerate(zip(*outputs, strict=True))]
        boxes, scores, labels = (torch.cat(one, 1) for one in zip(*levels, strict=True))
        together = clipped(boxes, size, self.head.bbox_coder)
        if self.smallest >= 0:
            sides = together[..., 2:] - together[..., :2]
            scores = torch.where((sides > self.smallest).all(-1), scores, -1.0)
        groups = len(outputs[0]) if self.by_level else self.head.cls_out_channels
        return best(together, scores, labels, groups, self.iou, self.most)

    def _level(self, level: int, logits: Tensor, deltas: Tensor, *factors: Tensor) -> Found:
        """The best of one level; of proposals the label is the level."""
        head, number = self.head, logits.shape[0]
        priors = head.prior_generator.single_level_grid_priors(
            logits.shape[-2:], level, dtype=logits.dtype, device=logits.device
        )
        scores = rows(logits, head.cls_out_channels)
        scores = scores.sigmoid() if head.use_sigmoid_cls else scores.softmax(-1)[..., :-1]
        classes = scores.shape[-1]
        scores, index = top(scores.flatten(1), self.first)
        # An index beyond the end stands for what is missing, and may point to anything.
        place = (index // classes).clamp_max(priors.shape[0] - 1)
        width = head.bbox_coder.encode_size
        deltas = rows(deltas, width).gather(1, place[..., None].expand(-1, -1, width))
        chosen = priors.index_select(0, place.flatten())
        boxes = head.bbox_coder.decode(chosen, deltas.reshape(-1, width))
        scores = torch.where(scores > self.least, scores, -1.0) if self.least > 0 else scores
        if factors:
            factor = rows(factors[0], 1)[..., 0].sigmoid().gather(1, place)
            scores = torch.where(scores >= 0, scores * factor, -1.0)
        labels = torch.full_like(index, level) if self.by_level else index % classes
        return boxes.reshape(number, -1, 4), scores, labels


def rows(maps: Tensor, width: int) -> Tensor:
    """Maps ``[N, A*width, H, W]`` as ``[N, H*W*A, width]``, in mmdet's order."""
    return maps.permute(0, 2, 3, 1).reshape(maps.shape[0], -1, width)


def top(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The best of each row, -1 where there are fewer, and where they are."""
    filled = torch.cat([scores, scores.new_full((scores.shape[0], count), -1.0)], 1)
    return filled.topk(count)


def best(
    boxes: Tensor, scores: Tensor, labels: Tensor, groups: int, iou: float, most: int
) -> Found:
    """The best boxes that are left when each group suppresses its own."""
    of_group = labels[:, None] == torch.arange(groups, device=labels.device)[None, :, None]
    by_group = torch.where(of_group, scores[:, None], -1.0)
    stays = suppress(boxes, by_group, iou, -0.5).amax(1)
    scores, index = top(torch.where(stays > 0, scores, -1.0), most)
    index = index.clamp_max(boxes.shape[1] - 1)
    return boxes.gather(1, index[..., None].expand(-1, -1, 4)), scores, labels.gather(1, index)


def clipped(boxes: Tensor, size: Sequence[int], coder: Any) -> Tensor:
    """Boxes ``[..., 4]`` moved into the picture, unless the coder leaves them as they are."""
    if not getattr(coder, "clip_border", True):
        return boxes
    height, width = size
    x = boxes[..., 0::2].clamp(0, width)
    y = boxes[..., 1::2].clamp(0, height)
    return torch.stack([x[..., 0], y[..., 0], x[..., 1], y[..., 1]], -1)


def positive(settings: Mapping[str, Any], name: str, part: nn.Module) -> int:
    """A count among the settings.

    Raises:
        ExportError: If it is open, so that the result would have no fixed length.
    """
    value = settings.get(name, -1)
    if value is None or value <= 0:
        raise ExportError(f"test_cfg.{name}={value} of {type_name(part)}: expected a limit above 0")
    return int(value)


def iou_of(settings: Mapping[str, Any], part: nn.Module) -> float:
    """Threshold of the plain suppression that the settings ask for.

    Raises:
        ExportError: If they ask for another.
    """
    nms = settings.get("nms") or {}
    kind = nms.get("type", "nms")
    if kind != "nms" or "iou_threshold" not in nms or nms.get("class_agnostic"):
        raise ExportError(
            f"test_cfg.nms={dict(nms)} of {type_name(part)}: expected dict(type='nms', "
            "iou_threshold=...), the one that ONNX has as an operator (NonMaxSuppression)"
        )
    return float(nms["iou_threshold"])


def _check(head: nn.Module, by_level: bool) -> None:
    from mmdet.models.dense_heads import RPNHead
    from mmdet.models.dense_heads.base_dense_head import BaseDenseHead

    owner = RPNHead if by_level else BaseDenseHead
    if not isinstance(head, owner):
        raise ExportError(f"{type_name(head)}: expected a dense head of mmdet's kind")
    for step in ("predict_by_feat", "_predict_by_feat_single", "_bbox_post_process"):
        if getattr(type(head), step) is not getattr(owner, step):
            raise ExportError(
                f"{type_name(head)} has a {step} of its own: only heads that decode as RetinaHead, "
                "FCOSHead or RPNHead do can be exported"
            )
    if getattr(head.loss_cls, "custom_cls_channels", False):
        raise ExportError(f"{type_name(head.loss_cls)} turns logits into scores in its own way")
