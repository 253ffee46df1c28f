"""Whole models as plain modules from pictures to results, which exporters can follow.

Normalisation, backbone, neck and head are the model's own modules; what mmdet does between them
with lists, metadata and Python conditions is done here with tensors: boxes are decoded for all
pictures of a batch together, and what does not count has the score -1 until the end. Resizing
pictures before and results after stays outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmplugins.utils import type_name

from .dense_decoding import DenseDecoder
from .errors import ExportError
from .open_sizes import open_sizes
from .region_decoding import RegionDecoder

OUTPUTS = {
    "boxes": ("image", "boxes", "scores", "labels"),
    "masks": ("image", "boxes", "scores", "labels", "masks"),
    "map": ("logits", "labels"),
}
"""Names of the outputs, by what a graph puts out."""


class Preprocessing(nn.Module):
    """Order of colours, mean and deviation, and padding, as the model's data preprocessor has them.

    Args:
        preprocessor: Of mmdet or mmseg.
    """

    def __init__(self, preprocessor: nn.Module):
        super().__init__()
        flips = getattr(preprocessor, "channel_conversion", None)
        if flips is None:
            flips = getattr(preprocessor, "_channel_conversion", False)
        self.flips = bool(flips)
        normalises = getattr(preprocessor, "_enable_normalize", False)
        mean = preprocessor.mean.detach() if normalises else torch.zeros(3, 1, 1)
        std = preprocessor.std.detach() if normalises else torch.ones(3, 1, 1)
        self.register_buffer("mean", mean.clone())
        self.register_buffer("std", std.clone())
        test: dict[str, Any] = getattr(preprocessor, "test_cfg", None) or {}
        if test.get("size"):
            raise ExportError(
                f"data_preprocessor.test_cfg.size={test['size']} pads pictures to one size: "
                "expected size_divisor"
            )
        own: int = getattr(preprocessor, "pad_size_divisor", 1)
        self.divisor = int(test.get("size_divisor") or own)
        self.pad_value = float(
            getattr(preprocessor, "pad_value", getattr(preprocessor, "pad_val", 0))
        )

    def forward(self, images: Tensor) -> Tensor:
        """Prepare pictures ``[N, 3, H, W]``, 0..255."""
        if self.flips:
            images = images.flip(1)
        images = (images - self.mean) / self.std
        if self.divisor > 1:
            height, width = images.shape[-2:]
            right, below = -width % self.divisor, -height % self.divisor
            images = F.pad(images, (0, right, 0, below), value=self.pad_value)
        return images


class DetectorGraph(nn.Module):
    """A detector of mmdet, with one stage or with regions.

    Args:
        model: In eval mode.

    Raises:
        ExportError: If a part does what no standard operator does, or decodes in its own way.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.prepare = Preprocessing(model.data_preprocessor)
        self.model = model
        if getattr(model, "roi_head", None) is not None:
            self.propose = DenseDecoder(model.rpn_head, model.test_cfg.rpn, by_level=True)
            self.regions: RegionDecoder | None = RegionDecoder(model.roi_head, model.test_cfg.rcnn)
        else:
            self.propose = DenseDecoder(model.bbox_head, model.test_cfg)
            self.regions = None
        masks = self.regions is not None and self.regions.masks
        self.kind = "masks" if masks else "boxes"

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Find objects.

        Args:
            images: ``float32[N, 3, H, W]``, 0..255, in the order that the config reads (BGR).

        Returns:
            For the M objects of all pictures: the picture's number ``int64[M]``, boxes
            ``float32[M, 4]`` in pixels of the input, scores ``float32[M]``, labels ``int64[M]``,
            and of models with masks ``float32[M, h, w]``, 0..1 over the box.
        """
        maps = self.model.extract_feat(self.prepare(images))
        boxes, scores, labels = self.propose(maps, images.shape[-2:])
        if self.regions is not None:
            boxes, scores, labels = self.regions(maps, boxes, scores, images.shape[-2:])
        found = (scores.flatten() >= 0).nonzero().squeeze(1)
        image = found // scores.shape[1]
        boxes = boxes.reshape(-1, 4).index_select(0, found)
        labels = labels.flatten().index_select(0, found)
        results = image, boxes, scores.flatten().index_select(0, found), labels
        if self.regions is None or not self.regions.masks:
            return results
        return *results, self.regions.masks_of(maps, image, boxes, labels)


class SegmentorGraph(nn.Module):
    """A segmentor of mmseg.

    Args:
        model: In eval mode.

    Raises:
        ExportError: If it is no plain encoder and decoder.
    """

    kind = "map"

    def __init__(self, model: nn.Module):
        super().__init__()
        from mmseg.models.decode_heads.decode_head import BaseDecodeHead

        head = model.decode_head
        if not isinstance(head, BaseDecodeHead) or type(head).predict is not BaseDecodeHead.predict:
            raise ExportError(
                f"decode_head of type {type_name(head)} predicts in its own way: expected one head "
                "that puts out a map of logits"
            )
        if head.out_channels == 1:
            raise ExportError(
                f"{type_name(head)} with one output channel: expected one for each class"
            )
        self.prepare = Preprocessing(model.data_preprocessor)
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Tell the class of each pixel.

        Args:
            images: ``float32[N, 3, H, W]``, 0..255, in the order that the config reads (BGR).

        Returns:
            Logits ``float32[N, C, H, W]``, and the best class ``int64[N, H, W]``. Sliding over
            windows, where ``test_cfg`` asks for it, is left to who calls this.
        """
        prepared = self.prepare(images)
        head = self.model.decode_head
        logits = head(self.model.extract_feat(prepared))
        logits = F.interpolate(
            logits, prepared.shape[-2:], mode="bilinear", align_corners=head.align_corners
        )
        logits = logits[..., : images.shape[2], : images.shape[3]]
        return logits, logits.argmax(1)


def graph_of(model: nn.Module) -> nn.Module:
    """A model as one plain module, in place: its parts are shared.

    Args:
        model: Detector of mmdet or segmentor of mmseg, in eval mode, on the CPU.

    Raises:
        ExportError: If it cannot be; the message names the part and why.
    """
    from mmdet.models.detectors import SingleStageDetector, TwoStageDetector
    from mmseg.models.segmentors import EncoderDecoder

    open_sizes(model)
    if type(model).__name__ == "CascadeEncoderDecoder" or not isinstance(
        model, SingleStageDetector | TwoStageDetector | EncoderDecoder
    ):
        raise ExportError(
            f"model of type {type_name(model)}: expected a detector with one stage or with "
            "regions, or a plain segmentor (EncoderDecoder)"
        )
    if isinstance(model, EncoderDecoder):
        return SegmentorGraph(model).eval()
    return DetectorGraph(model).eval()


def example(size: Sequence[int], seed: int = 0) -> Tensor:
    """A picture ``float32[1, 3, H, W]`` of smooth patches, for tracing."""
    random = torch.Generator().manual_seed(seed)
    small = torch.rand(1, 3, 8, 8, generator=random)
    return F.interpolate(small, tuple(size), mode="bilinear") * 255
