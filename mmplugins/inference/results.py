"""What was found in one picture: one form, whatever found it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

Rle = dict[str, Any]
"""A mask in COCO's compressed run lengths: ``size`` (height, width) and ``counts`` (text)."""


@dataclass(frozen=True)
class Prediction:
    """What a model found in one picture, in pixels of that picture.

    Attributes:
        source: The picture's file, or what it was called.
        size: Height and width.
        boxes: ``float32[N, 4]``, ``x0, y0, x1, y1``, surest first; empty for segmentors.
        scores: ``float32[N]`` in 0..1.
        labels: ``int64[N]``, indices of classes.
        masks: N masks as COCO run lengths, None if the model puts out no instance masks.
        label_map: ``uint8`` or ``uint16[H, W]``, class of each pixel; None for detectors.
        error: Why there is nothing, if the picture could not be read or predicted on.
    """

    source: str
    size: tuple[int, int] = (0, 0)
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    scores: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    masks: list[Rle] | None = None
    label_map: np.ndarray | None = None
    error: str | None = None

    def __len__(self) -> int:
        """Number of objects."""
        return len(self.scores)

    def __getitem__(self, keep: np.ndarray | slice | Sequence[int]) -> Prediction:
        """Some of the objects: by a mask, a slice or indices."""
        numbers = np.arange(len(self))[keep]
        masks = None if self.masks is None else [self.masks[k] for k in numbers]
        return replace(
            self,
            boxes=self.boxes[numbers],
            scores=self.scores[numbers],
            labels=self.labels[numbers],
            masks=masks,
        )

    def above(self, score: float) -> Prediction:
        """The objects with at least this score."""
        return self[self.scores >= score]

    def of_classes(self, labels: Iterable[int]) -> Prediction:
        """The objects of these classes."""
        return self[np.isin(self.labels, list(labels))]

    def mask(self, number: int) -> np.ndarray:
        """The mask of one object, ``bool[H, W]``.

        Raises:
            ValueError: If the model puts out no masks.
        """
        if self.masks is None:
            raise ValueError(f"{self.source}: this model puts out boxes without masks")
        return decode(self.masks[number])

    def as_dict(self, classes: Sequence[str]) -> dict[str, Any]:
        """Everything as plain numbers and text, for JSON; a label map as shares of its classes."""
        values: dict[str, Any] = dict(file=self.source, height=self.size[0], width=self.size[1])
        if self.error is not None:
            return dict(file=self.source, error=self.error)
        if self.label_map is not None:
            labels, counts = np.unique(self.label_map, return_counts=True)
            shares = counts / self.label_map.size
            named = zip(labels.tolist(), shares.tolist(), strict=True)
            values["shares"] = {name_of(classes, k): round(share, 6) for k, share in named}
            return values
        values["boxes"] = [[round(v, 3) for v in box] for box in self.boxes.tolist()]
        values["scores"] = [round(score, 6) for score in self.scores.tolist()]
        values["labels"] = self.labels.tolist()
        values["classes"] = [name_of(classes, k) for k in self.labels.tolist()]
        if self.masks is not None:
            values["masks"] = self.masks
        return values

    def coco_records(self, image_id: int | str, category_ids: Sequence[int]) -> list[dict]:
        """The objects as COCO writes results: boxes ``x, y, width, height``, masks run lengths."""
        records = []
        for k, (x0, y0, x1, y1) in enumerate(self.boxes.tolist()):
            record: dict[str, Any] = dict(
                image_id=image_id,
                category_id=category_ids[int(self.labels[k])],
                bbox=[round(v, 3) for v in (x0, y0, x1 - x0, y1 - y0)],
                score=round(float(self.scores[k]), 6),
            )
            if self.masks is not None:
                record["segmentation"] = self.masks[k]
            records.append(record)
        return records


def name_of(classes: Sequence[str], label: int) -> str:
    """Name of a class, or its number where the model does not know names."""
    return classes[label] if label < len(classes) else str(label)


def encode(masks: np.ndarray) -> list[Rle]:
    """Masks ``bool[N, H, W]`` as COCO run lengths."""
    from pycocotools import mask as coco

    # One by one: of a large picture even one mask is large.
    return [_as_text(coco.encode(np.asfortranarray(mask, np.uint8))) for mask in masks]


def decode(rle: Rle) -> np.ndarray:
    """The mask of COCO run lengths, ``bool[H, W]``."""
    from pycocotools import mask as coco

    return coco.decode(dict(rle, counts=rle["counts"].encode())).view(bool)


def joined(bands: Iterable[np.ndarray], corner: tuple[int, int], size: tuple[int, int]) -> Rle:
    """Put a mask into a picture, without ever holding one of the picture's size.

    Args:
        bands: The mask ``bool[H, W]`` in bands that follow one another to the right.
        corner: Where the upper left corner of the first goes: x, y.
        size: Height and width of the picture.

    Returns:
        The same run lengths as those of :func:`encode` of the whole picture's mask.
    """
    from pycocotools import mask as coco

    x, y = corner
    found: list[np.ndarray] = [np.zeros(0, np.int64)]
    for band in bands:
        edges = np.diff(np.pad(band, ((1, 1), (0, 0))), axis=0).T  # runs go down the columns
        columns, rows = np.nonzero(edges)
        found.append((columns + x) * size[0] + rows + y)
        x += band.shape[1]
    bounds, times = np.unique(np.concatenate(found), return_counts=True)
    bounds = bounds[times == 1]  # twice: a run that goes on at the top of the next column
    counts = np.diff(bounds, prepend=0, append=size[0] * size[1]).tolist()
    if len(counts) > 1 and not counts[-1]:
        counts.pop()
    return _as_text(coco.frPyObjects(dict(counts=counts, size=list(size)), *size))


def placed(rle: Rle, corner: tuple[int, int], size: tuple[int, int]) -> Rle:
    """A mask of part of a picture as one of the whole, see :func:`joined`."""
    return joined([decode(rle)], corner, size)


def sampled(
    rle: Rle, rows: np.ndarray, columns: np.ndarray
) -> tuple[tuple[slice, slice], np.ndarray]:
    """A mask at some rows and columns; time and memory go by its box and runs, not the picture.

    Args:
        rle: The mask.
        rows: Numbers of the picture's rows, rising.
        columns: Likewise.

    Returns:
        Which of the rows and columns its bounding box holds, and the mask there, ``bool[h, w]``.
    """
    from faster_coco_eval import mask_api_new_cpp as runs
    from pycocotools import mask as coco

    packed = dict(rle, counts=rle["counts"].encode())
    x, y, width, height = coco.toBbox(packed)
    down = slice(np.searchsorted(rows, y), np.searchsorted(rows, y + height))
    across = slice(np.searchsorted(columns, x), np.searchsorted(columns, x + width))
    places = columns[across] * rle["size"][0] + rows[down, None]
    ends = np.cumsum(runs.toUncompressedRLE([packed])[0]["counts"])
    return (down, across), np.searchsorted(ends, places, side="right") % 2 == 1


def _as_text(rle: dict) -> Rle:
    return dict(size=[int(side) for side in rle["size"]], counts=rle["counts"].decode())
