"""From proposals to objects: features of regions, box heads (one, or a cascade), masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

from mmplugins.utils import type_name

from .dense_decoding import Found, clipped, iou_of, positive, top
from .errors import ExportError
from .operators import suppress


class RegionDecoder(nn.Module):
    """The second stage of Faster, Mask and Cascade R-CNN.

    Args:
        roi_head: ``StandardRoIHead`` or ``CascadeRoIHead`` of mmdet.
        settings: Its ``test_cfg``.

    Raises:
        ExportError: If it, or one of its heads, works in another way.
    """

    def __init__(self, roi_head: nn.Module, settings: Mapping[str, Any]):
        super().__init__()
        _check(roi_head)
        cascade = type_name(roi_head) == "CascadeRoIHead"
        as_list = (lambda part: list(part)) if cascade else (lambda part: [part])
        self.shared = roi_head.shared_head if roi_head.with_shared_head else nn.Identity()
        self.box_features = nn.ModuleList(map(RegionFeatures, as_list(roi_head.bbox_roi_extractor)))
        self.box_heads = nn.ModuleList(as_list(roi_head.bbox_head))
        self.masks = bool(roi_head.with_mask)
        if self.masks:
            same = roi_head.share_roi_extractor
            extractors = roi_head.bbox_roi_extractor if same else roi_head.mask_roi_extractor
            self.mask_features = nn.ModuleList(map(RegionFeatures, as_list(extractors)))
            self.mask_heads = nn.ModuleList(as_list(roi_head.mask_head))
        self.iou = iou_of(settings, roi_head)
        self.most = positive(settings, "max_per_img", roi_head)
        self.least = float(settings.get("score_thr", 0))

    def forward(
        self, maps: Sequence[Tensor], boxes: Tensor, proposed: Tensor, size: Sequence[int]
    ) -> Found:
        """Classify proposals and move their boxes.

        Args:
            maps: Of the neck.
            boxes: Proposals ``[N, P, 4]``.
            proposed: Their scores ``[N, P]``, -1 for none.
            size: Height and width of the pictures.
        """
        number, count = proposed.shape
        boxes, logits, deltas = self.classified(maps, boxes, size)
        scores = logits.softmax(-1)[:, :-1]
        scores = torch.where(scores > self.least, scores, -1.0)
        scores = scores.reshape(number, count, -1)
        scores = torch.where((proposed >= 0)[..., None], scores, -1.0)
        return self._best(self.box_heads[-1], boxes, deltas, scores, size)

    def classified(
        self, maps: Sequence[Tensor], boxes: Tensor, size: Sequence[int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What the box heads make of proposals ``[N, P, 4]``.

        Returns:
            The boxes ``[N * P, 4]`` that the last stage began with, logits (means over the stages)
            and deltas.
        """
        number, count = boxes.shape[:2]
        image = torch.arange(number, device=boxes.device)[:, None].expand(-1, count).reshape(-1, 1)
        boxes = boxes.reshape(-1, 4)
        each: list[Tensor] = []
        for stage, (features, head) in enumerate(
            zip(self.box_features, self.box_heads, strict=True)
        ):
            regions = torch.cat([image.to(boxes.dtype), boxes], 1)
            logits, deltas = head(self.shared(features(maps, regions)))
            each.append(logits)
            if stage < len(self.box_heads) - 1:
                boxes = self._moved(head, boxes, deltas, logits, size)
        return boxes, sum(each[1:], each[0]) / len(each), deltas

    def masks_of(
        self, maps: Sequence[Tensor], image: Tensor, boxes: Tensor, labels: Tensor
    ) -> Tensor:
        """Masks ``[M, h, w]``, 0..1 over the box, of objects found."""
        regions = torch.cat([image[:, None].to(boxes.dtype), boxes], 1)
        # One region more than there are, which is dropped: some runtimes fail on none at all.
        regions = torch.cat([regions, regions.new_zeros(1, 5)])
        labels = torch.cat([labels, labels.new_zeros(1)])
        stages = [logits.sigmoid() for logits in self.mask_logits(maps, regions)]
        masks = sum(stages[1:], stages[0]) / len(stages)
        if self.mask_heads[-1].class_agnostic:
            return masks[:-1, 0]
        height, width = masks.shape[-2:]
        index = labels[:, None, None, None].expand(-1, 1, height, width)
        return masks.gather(1, index)[:-1, 0]

    def mask_logits(self, maps: Sequence[Tensor], regions: Tensor) -> list[Tensor]:
        """Mask logits ``[R, C, h, w]`` of regions ``[R, 5]``, by stage."""
        return [
            head(self.shared(features(maps, regions)))
            for features, head in zip(self.mask_features, self.mask_heads, strict=True)
        ]

    def _moved(
        self, head: nn.Module, boxes: Tensor, deltas: Tensor, logits: Tensor, size: Sequence[int]
    ) -> Tensor:
        """Boxes moved by the deltas of their likeliest class, as between stages of a cascade."""
        if not head.reg_class_agnostic:
            label = logits[:, :-1].argmax(1)
            index = label[:, None, None].expand(-1, 1, 4)
            deltas = deltas.reshape(deltas.shape[0], -1, 4).gather(1, index)[:, 0]
        return clipped(head.bbox_coder.decode(boxes, deltas), size, head.bbox_coder)

    def _best(
        self, head: nn.Module, boxes: Tensor, deltas: Tensor, scores: Tensor, size: Sequence[int]
    ) -> Found:
        number, count, classes = scores.shape
        each = 1 if head.reg_class_agnostic else classes
        boxes = boxes[:, None].expand(-1, each, -1).reshape(-1, 4)
        boxes = clipped(head.bbox_coder.decode(boxes, deltas.reshape(-1, 4)), size, head.bbox_coder)
        boxes = boxes.reshape(number, count, each, 4)
        by_class = scores.transpose(1, 2)
        if head.reg_class_agnostic:
            stays = suppress(boxes[:, :, 0], by_class, self.iou, -0.5)
            boxes = boxes.expand(-1, -1, classes, -1)
        else:  # each class has boxes of its own: a picture for the suppression
            alone = boxes.transpose(1, 2).reshape(-1, count, 4)
            stays = suppress(alone, by_class.reshape(-1, 1, count), self.iou, -0.5)
            stays = stays.reshape(number, classes, count)
        kept = torch.where(stays > 0, by_class, -1.0).reshape(number, -1)
        scores, index = top(kept, self.most)
        index = index.clamp_max(classes * count - 1)
        boxes = boxes.transpose(1, 2).reshape(number, -1, 4)
        return boxes.gather(1, index[..., None].expand(-1, -1, 4)), scores, index // count


class RegionFeatures(nn.Module):
    """RoIAlign on the level of the pyramid that fits a region's size.

    Args:
        extractor: ``SingleRoIExtractor`` of mmdet with ``RoIAlign``.

    Raises:
        ExportError: If it is of another kind.
    """

    def __init__(self, extractor: nn.Module):
        super().__init__()
        layers = list(getattr(extractor, "roi_layers", ()))
        kinds = {type_name(layer) for layer in layers}
        if type_name(extractor) != "SingleRoIExtractor" or kinds != {"RoIAlign"}:
            raise ExportError(
                f"{type_name(extractor)} with {', '.join(sorted(kinds)) or 'no layers'}: "
                "expected a SingleRoIExtractor with RoIAlign, the one that ONNX has as an operator"
            )
        if any(layer.pool_mode != "avg" for layer in layers):
            raise ExportError("RoIAlign with pool_mode='max': expected 'avg'")
        self.level_of = extractor.map_roi_levels
        self.layers = [
            dict(
                output_size=tuple(layer.output_size),
                spatial_scale=layer.spatial_scale,
                sampling_ratio=layer.sampling_ratio or -1,
                aligned=layer.aligned,
            )
            for layer in layers
        ]

    def forward(self, maps: Sequence[Tensor], regions: Tensor) -> Tensor:
        """Features ``[R, C, h, w]`` of regions ``[R, 5]``: picture, ``x0, y0, x1, y1``."""
        maps = maps[: len(self.layers)]
        if len(maps) == 1:
            return roi_align(maps[0], regions, **self.layers[0])
        level = self.level_of(regions, len(maps))
        chosen = [(level == k).nonzero().squeeze(1) for k in range(len(maps))]
        parts = [
            roi_align(one, regions.index_select(0, index), **layer)
            for one, index, layer in zip(maps, chosen, self.layers, strict=True)
        ]
        count = torch.arange(level.shape[0], device=level.device)
        back = (level * level.shape[0] + count).argsort().argsort()  # where each went, by level
        return torch.cat(parts).index_select(0, back)


def _check(roi_head: nn.Module) -> None:
    from mmdet.models.roi_heads import CascadeRoIHead, StandardRoIHead
    from mmdet.models.roi_heads.bbox_heads import BBoxHead
    from mmdet.models.roi_heads.mask_heads import FCNMaskHead

    if type(roi_head) not in (StandardRoIHead, CascadeRoIHead):
        raise ExportError(
            f"roi_head of type {type_name(roi_head)}: expected StandardRoIHead or CascadeRoIHead"
        )
    heads = roi_head.bbox_head
    for head in heads if isinstance(heads, nn.ModuleList) else [heads]:
        own = type(head)._predict_by_feat_single is not BBoxHead._predict_by_feat_single
        if own or not head.with_reg or getattr(head, "custom_activation", False):
            raise ExportError(
                f"{type_name(head)} decodes in its own way: expected mmdet's BBoxHead"
            )
    if roi_head.with_mask:
        heads = roi_head.mask_head
        for head in heads if isinstance(heads, nn.ModuleList) else [heads]:
            if type(head) is not FCNMaskHead:
                raise ExportError(f"mask head {type_name(head)}: expected FCNMaskHead")
