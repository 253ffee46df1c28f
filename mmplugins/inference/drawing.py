"""Predictions drawn into their pictures by mmdet's and mmseg's own visualisers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from .model import LoadedModel, scope_of
from .results import Prediction, sampled

LARGEST = 2560
"""Longest side of a drawing in pixels; larger pictures are drawn reduced. Drawing takes about 130
bytes for each pixel."""

_MASKS = 2**28  # bytes of the masks that mmdet draws


class Drawer:
    """Draws predictions of one model.

    Args:
        model: Whose classes and colours to use.
    """

    def __init__(self, model: LoadedModel):
        highest = 256 if not model.classes else len(model.classes)
        self._classes = list(model.classes) or [str(k) for k in range(highest)]
        self._palette = list(model.palette) or colours(highest)
        with scope_of(model.task):
            self._visualizer = self._build(model.task)

    def _build(self, task: str) -> Any:
        if task == "segmentation":
            from mmseg.visualization import SegLocalVisualizer

            visualizer = SegLocalVisualizer(alpha=0.5)
            visualizer._get_center_loc = _middle  # mmseg's own sorts a Python list of all pixels
        else:
            from mmdet.visualization import DetLocalVisualizer

            visualizer = DetLocalVisualizer()
        visualizer.dataset_meta = dict(classes=self._classes, palette=self._palette)
        return visualizer

    def draw(self, pixels: np.ndarray, found: Prediction) -> np.ndarray:
        """Draw a prediction.

        Args:
            pixels: Its picture, ``uint8[H, W, 3]`` in BGR.
            found: What to draw.

        Returns:
            The drawing, likewise, reduced if the picture is larger than ``LARGEST``.
        """
        import cv2

        height, width = pixels.shape[:2]
        scale = min(1.0, LARGEST / max(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        if scale < 1:
            pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        picture = np.ascontiguousarray(pixels[..., ::-1])
        if found.label_map is not None:
            labels = found.label_map
            if scale < 1:
                labels = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
            drawn = self._label_map(picture, labels)
        else:
            if found.masks is not None and len(found) * size[0] * size[1] > _MASKS:
                self._tint(picture, found)
                found = replace(found, masks=None)
            drawn = self._objects(picture, found, scale, size) if len(found) else picture
        return np.ascontiguousarray(drawn[..., ::-1])

    def _label_map(self, picture: np.ndarray, labels: np.ndarray) -> np.ndarray:
        from mmengine.structures import PixelData
        from mmseg.structures import SegDataSample

        sample = SegDataSample()
        # As an array: a tensor of one pixel would be an index where mmseg means a mask.
        sample.pred_sem_seg = PixelData(data=labels.astype(np.int64)[None])
        return self._drawn(picture, sample)

    def _objects(
        self, picture: np.ndarray, found: Prediction, scale: float, size: tuple[int, int]
    ) -> np.ndarray:
        from mmdet.structures import DetDataSample
        from mmengine.structures import InstanceData

        objects = InstanceData(
            bboxes=torch.from_numpy(found.boxes * scale),
            scores=torch.from_numpy(found.scores),
            labels=torch.from_numpy(found.labels),
        )
        if found.masks is not None:
            masks = torch.zeros(len(found), size[1], size[0], dtype=torch.bool)
            for mask, (window, part) in zip(masks, _reduced(found, size), strict=True):
                mask[window] = torch.from_numpy(part)
            objects.masks = masks
        return self._drawn(picture, DetDataSample(pred_instances=objects), pred_score_thr=-1.0)

    def _tint(self, picture: np.ndarray, found: Prediction) -> None:
        """Masks into a picture, in place, as mmdet blends them, but each in its own window.

        mmdet holds a map of the picture for each mask, and goes through the whole picture for it.
        """
        import cv2
        from mmdet.visualization.palette import jitter_color

        size, alpha = (picture.shape[1], picture.shape[0]), self._visualizer.alpha
        for label, (window, part) in zip(found.labels, _reduced(found, size), strict=True):
            if not part.size:
                continue
            colour = np.uint8(jitter_color(self._palette[label]))
            before = picture[window]
            after = cv2.addWeighted(before, 1 - alpha, np.full_like(before, colour), alpha, 0)
            after = np.where(part[..., None], after, before)
            edges, _ = cv2.findContours(part.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
            picture[window] = cv2.drawContours(after, edges, -1, (255, 255, 255), 1)

    def _drawn(self, picture: np.ndarray, sample: Any, **options: Any) -> np.ndarray:
        visualizer = self._visualizer
        kept: list[np.ndarray] = []
        visualizer.add_image = lambda name, image, step=0: kept.append(image)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on boxes that reach the picture's edge
            visualizer.add_datasample("", picture, sample, draw_gt=False, **options)
        return kept[0]


def _middle(mask: np.ndarray) -> np.ndarray:
    """Where the name of a class goes, ``x, y``: the middle of the row that has most of it."""
    y = mask.sum(1, dtype=np.int64).argmax()
    x = np.flatnonzero(mask[y])
    return np.array([x[len(x) // 2], y])


def _reduced(
    found: Prediction, size: tuple[int, int]
) -> Iterator[tuple[tuple[slice, slice], np.ndarray]]:
    """Masks in a drawing of that width and height: where each lies, and itself there."""
    columns, rows = (
        (np.arange(drawn) / (drawn / length)).astype(np.int64)  # as OpenCV's nearest
        for drawn, length in zip(size, reversed(found.size), strict=True)
    )
    for rle in found.masks or ():
        yield sampled(rle, rows, columns)


def colours(count: int) -> list[tuple[int, int, int]]:
    """Colours (RGB) that neighbours in the list do not share: steps of the golden angle in hue."""
    import colorsys

    hues = [(k * 0.618034) % 1 for k in range(count)]
    tones = [colorsys.hsv_to_rgb(hue, 0.85, 0.95 - 0.3 * (k % 2)) for k, hue in enumerate(hues)]
    return [(round(255 * r), round(255 * g), round(255 * b)) for r, g, b in tones]


def flat_palette(palette: Sequence[tuple[int, int, int]], count: int) -> list[int]:
    """Colours one after the other, as a PNG wants them, made up where there are none."""
    known = [*palette, *colours(count)[len(palette) :]]
    return [channel for colour in known[:256] for channel in colour]
