"""Large pictures by overlapping tiles: what to cut, and one picture's results from those of many.

A tile is predicted on like a picture of its own. Boxes that two tiles found are merged by
torchvision's NMS. An object cut by the edge of a tile leaves a stump, which overlaps the whole
object of the next tile too little for NMS: a box that ends at an inner edge goes if another of its
class covers half of it. So tiles should overlap by the size of the largest object. Of label maps,
each tile gives what is nearer to its own middle than to that of its neighbour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torchvision.ops import batched_nms

from .results import Prediction, placed

_AT_THE_EDGE = 2.0  # pixels between a box and the edge that cuts it
_SAME = 0.5  # IoU of two boxes of one object
_STUMP = 0.5  # factor on the score of a stump, where it competes with a whole box
_COVERED = 0.5  # share of a stump inside of the whole object
_CHUNK = 1024  # stumps that are compared with all boxes at once


@dataclass(frozen=True)
class Tile:
    """A window of a picture.

    Attributes:
        x, y: Its upper left corner.
        width, height: Its size.
        core: The part that is its own in a label map: x0, y0, x1, y1 in the picture.
    """

    x: int
    y: int
    width: int
    height: int
    core: tuple[int, int, int, int]

    def cut(self, pixels: np.ndarray) -> np.ndarray:
        """The tile's pixels."""
        window = pixels[self.y : self.y + self.height, self.x : self.x + self.width]
        return np.ascontiguousarray(window)


def tiles_of(size: tuple[int, int], side: int, overlap: int) -> list[Tile]:
    """Cut a picture into tiles of one size, each moved inwards where it would stand out.

    Args:
        size: Height and width of the picture.
        side: Height and width of a tile, in pixels; a smaller picture is one smaller tile.
        overlap: Least overlap of neighbours, in pixels.

    Raises:
        ValueError: If the overlap is not smaller than half a tile.
    """
    if side < 1 or not 0 <= 2 * overlap < side:
        raise ValueError(
            f"tiles of {side} pixels that overlap by {overlap}: expected an overlap of 0 to less "
            "than half a tile"
        )
    rows, columns = (_spans(length, side, overlap) for length in size)
    return [
        Tile(x0, y0, x1 - x0, y1 - y0, (a, c, b, d))
        for (y0, y1, c, d) in rows
        for (x0, x1, a, b) in columns
    ]


def _spans(length: int, side: int, overlap: int) -> list[tuple[int, int, int, int]]:
    """Begin, end, and begin and end of the own part, of the tiles along one side."""
    if length <= side:
        return [(0, length, 0, length)]
    count = -(-(length - overlap) // (side - overlap))
    starts = [round(k * (length - side) / (count - 1)) for k in range(count)]
    borders = [0, *((a + side + b) // 2 for a, b in zip(starts, starts[1:], strict=False)), length]
    return [(a, a + side, borders[k], borders[k + 1]) for k, a in enumerate(starts)]


class Mosaic:
    """Collects the results of a picture's tiles.

    Args:
        source: The picture's name.
        size: Its height and width.
    """

    def __init__(self, source: str, size: tuple[int, int]):
        self.source, self.size = source, size
        self._found: list[Prediction] = []
        self._stumps: list[np.ndarray] = []
        self._map: np.ndarray | None = None

    def add(self, tile: Tile, found: Prediction) -> None:
        """Take over what was found in a tile."""
        if found.label_map is not None:
            self._add_map(tile, found.label_map)
            return
        masks = found.masks
        if masks is not None:
            masks = [placed(mask, (tile.x, tile.y), self.size) for mask in masks]
        shift = np.array([tile.x, tile.y, tile.x, tile.y], np.float32)
        self._stumps.append(self._is_stump(tile, found.boxes))
        self._found.append(
            Prediction(
                self.source, self.size, found.boxes + shift, found.scores, found.labels, masks
            )
        )

    def result(self) -> Prediction:
        """The whole picture's results."""
        if self._map is not None:
            return Prediction(self.source, self.size, label_map=self._map)
        together = _together(self._found)
        if not len(together):
            return together
        stumps = torch.from_numpy(np.concatenate(self._stumps))
        boxes, scores, labels = (
            torch.from_numpy(x).to(kind)
            for x, kind in (
                (together.boxes, torch.float64),  # NMS tells classes apart by shifts
                (together.scores, torch.float64),
                (together.labels, torch.int64),
            )
        )
        rank = torch.where(stumps, _STUMP * scores, scores)
        keep = batched_nms(boxes, rank, labels, _SAME)
        keep = keep[scores[keep].argsort(descending=True, stable=True)]
        keep = keep[~_covered(boxes[keep], labels[keep], stumps[keep])]
        return together[keep.numpy()]

    def _is_stump(self, tile: Tile, boxes: np.ndarray) -> np.ndarray:
        height, width = self.size
        near = [
            (boxes[:, 0] < _AT_THE_EDGE) & (tile.x > 0),
            (boxes[:, 1] < _AT_THE_EDGE) & (tile.y > 0),
            (boxes[:, 2] > tile.width - _AT_THE_EDGE) & (tile.x + tile.width < width),
            (boxes[:, 3] > tile.height - _AT_THE_EDGE) & (tile.y + tile.height < height),
        ]
        return np.any(near, axis=0)

    def _add_map(self, tile: Tile, labels: np.ndarray) -> None:
        if self._map is None:
            self._map = np.zeros(self.size, labels.dtype)
        if labels.dtype.itemsize > self._map.dtype.itemsize:
            self._map = self._map.astype(labels.dtype)
        x0, y0, x1, y1 = tile.core
        self._map[y0:y1, x0:x1] = labels[y0 - tile.y : y1 - tile.y, x0 - tile.x : x1 - tile.x]


def _together(found: Sequence[Prediction]) -> Prediction:
    """All objects of a picture's tiles, of which there is one at least."""
    has_masks = any(one.masks is not None for one in found)
    return Prediction(
        found[0].source,
        found[0].size,
        np.concatenate([one.boxes for one in found]),
        np.concatenate([one.scores for one in found]),
        np.concatenate([one.labels for one in found]),
        [mask for one in found for mask in one.masks or ()] if has_masks else None,
    )


def _covered(boxes: torch.Tensor, labels: torch.Tensor, stumps: torch.Tensor) -> torch.Tensor:
    """Which stumps lie by half or more in a larger box of their class."""
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    gone = torch.zeros(len(boxes), dtype=torch.bool)
    for chunk in stumps.nonzero().squeeze(1).split(_CHUNK):
        low = torch.maximum(boxes[chunk, None, :2], boxes[None, :, :2])
        high = torch.minimum(boxes[chunk, None, 2:], boxes[None, :, 2:])
        shared = (high - low).clamp_min(0).prod(2)
        inside = shared >= _COVERED * areas[chunk, None].clamp_min(1e-6)
        larger = areas[None] > areas[chunk, None]
        same = labels[None] == labels[chunk, None]
        gone[chunk] = (inside & larger & same).any(1)
    return gone
