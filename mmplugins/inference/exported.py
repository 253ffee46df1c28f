"""Exported files as models: the same test pipeline before, the same sizes after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config

from mmplugins.deployment.runtime import Exported

from .instance_masks import pasted
from .model import Packed, compact
from .results import Prediction


class ExportedRuntime:
    """Runs an exported file on pictures after the test pipeline.

    Args:
        exported: The file.
        cfg: Its config, for what comes after the graph.
    """

    def __init__(self, exported: Exported, cfg: Config):
        self.exported = exported
        test = cfg.model.get("test_cfg") or {}
        self.threshold = float((test.get("rcnn") or {}).get("mask_thr_binary", 0.5))
        slides = test.get("mode") == "slide"
        self.window = (tuple(test["crop_size"]), tuple(test["stride"])) if slides else None
        self.align_corners = bool((cfg.model.get("decode_head") or {}).get("align_corners", False))

    def __call__(self, batch: Sequence[Packed]) -> list[Prediction]:
        """Predict on pictures of one size."""
        images = images_of(batch)
        found = self._sliding(images, *self.window) if self.window else self.exported(images)
        finish = self._map if "logits" in found else self._objects
        return [finish(found, k, one["data_samples"]) for k, one in enumerate(batch)]

    def _sliding(
        self, images: np.ndarray, size: tuple[int, int], stride: tuple[int, int]
    ) -> dict[str, np.ndarray]:
        """Mean logits of overlapping windows, as mmseg's ``mode='slide'`` has them."""
        total: np.ndarray | None = None
        count: np.ndarray = np.zeros(images.shape[2:], np.float32)
        for y in _starts(images.shape[2], size[0], stride[0]):
            for x in _starts(images.shape[3], size[1], stride[1]):
                window = (..., slice(y, y + size[0]), slice(x, x + size[1]))
                part = self.exported(images[window])["logits"]
                if total is None:
                    total = np.zeros((*part.shape[:2], *images.shape[2:]), np.float32)
                total[window] += part
                count[window] += 1
        return dict(logits=total / count)

    def _map(self, found: dict[str, np.ndarray], number: int, sample: Any) -> Prediction:
        size = tuple(sample.ori_shape[:2])
        logits = torch.from_numpy(found["logits"][number : number + 1])
        logits = F.interpolate(logits, size, mode="bilinear", align_corners=self.align_corners)
        return Prediction("", size, label_map=compact(logits[0].argmax(0).numpy()))

    def _objects(self, found: dict[str, np.ndarray], number: int, sample: Any) -> Prediction:
        size = tuple(sample.ori_shape[:2])
        mine = found["image"] == number
        scale = np.tile(np.asarray(sample.get("scale_factor", (1, 1)), np.float32)[:2], 2)
        boxes = (found["boxes"][mine] / scale).astype(np.float32)
        masks = None
        if "masks" in found:
            each = zip(*map(torch.from_numpy, (found["masks"][mine], boxes)), strict=True)
            masks = [pasted(mask, box, size, self.threshold) for mask, box in each]
        return Prediction(
            "",
            size,
            boxes,
            found["scores"][mine].astype(np.float32),
            found["labels"][mine].astype(np.int64),
            masks,
        )


def _starts(length: int, window: int, stride: int) -> list[int]:
    """Where windows begin along one side; the last one ends with the picture."""
    count = max(length - window + stride - 1, 0) // stride + 1
    return [max(min(k * stride + window, length) - window, 0) for k in range(count)]


def images_of(batch: Sequence[Packed]) -> np.ndarray:
    """Pictures after the test pipeline as ``float32[N, 3, H, W]``."""
    return torch.stack([one["inputs"] for one in batch]).float().numpy()
