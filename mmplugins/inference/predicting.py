"""From pictures to predictions, in batches, picture by picture or tile by tile."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from mmplugins.utils import line_of

from .inputs import Images, InputError, Source, find_inputs, read_frames
from .model import LoadedModel, Packed
from .results import Prediction
from .tiling import Mosaic, Tile, tiles_of

_AHEAD = 2  # pictures that are read while others are computed


@dataclass(frozen=True)
class Options:
    """How to predict; the defaults put out everything that the model does.

    Attributes:
        score_thr: Objects with a lower score are left out.
        classes: Names or indices of classes; objects of others are left out.
        batch_size: Pictures at once, where neighbours have one size.
        tile: Side of the tiles that pictures are cut into, in pixels; None for whole pictures.
        overlap: Overlap of the tiles in pixels; a fifth of a tile by default.
    """

    score_thr: float = 0.0
    classes: Sequence[str] | None = None
    batch_size: int = 1
    tile: int | None = None
    overlap: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.score_thr <= 1:
            raise InputError(f"score_thr={self.score_thr}: expected 0 to 1")
        if self.batch_size < 1:
            raise InputError(f"batch_size={self.batch_size}: expected 1 or more")
        if self.tile is None and self.overlap is not None:
            raise InputError(f"overlap={self.overlap} without tile: expected the tiles' size too")
        try:
            self.tiles((1, 1))
        except ValueError as error:
            raise InputError(str(error)) from error

    @property
    def _overlap(self) -> int:
        return (self.tile or 0) // 5 if self.overlap is None else self.overlap

    def tiles(self, size: tuple[int, int]) -> list[Tile]:
        """The tiles of a picture; none if pictures are not to be cut."""
        return [] if self.tile is None else tiles_of(size, self.tile, self._overlap)


def predict(model: LoadedModel, images: Images, **options: Any) -> list[Prediction]:
    """Predict on pictures.

    Args:
        model: From :func:`load_model`.
        images: Files, folders, patterns, videos, or arrays ``uint8[H, W, 3]`` in BGR; one or
            several.
        options: Of :class:`Options`: ``score_thr``, ``classes``, ``batch_size``, ``tile``,
            ``overlap``.

    Returns:
        One prediction for each picture and each frame of a video, in order.

    Raises:
        InputError: If an input does not exist, cannot be read or cannot be predicted on.
    """
    found = []
    for one, _ in stream(model, find_inputs(images), **options):
        if one.error is not None:
            raise InputError(one.error)
        found.append(one)
    return found


TilesDone: TypeAlias = Callable[[int, int], None]
"""Takes how many tiles of the present picture are done, and how many it has."""


def stream(
    model: LoadedModel,
    sources: Iterable[Source],
    *,
    tiles_done: TilesDone | None = None,
    **options: Any,
) -> Iterator[tuple[Prediction, np.ndarray]]:
    """Predict on pictures one after the other; memory holds a few of them.

    Args:
        model: From :func:`load_model`.
        sources: From :func:`find_inputs`.
        tiles_done: Called before the first and after each batch of a picture's tiles.
        options: Of :class:`Options`.

    Returns:
        Iterator over the prediction for each picture, and the picture, ``uint8[H, W, 3]`` in BGR.
        Of one that cannot be read or predicted on, ``error`` says why, and the picture is empty.

    Raises:
        InputError: If an option is out of range, or a class is none of the model.
    """
    asked = Options(**options)
    labels = None if asked.classes is None else model.labels_of(asked.classes)
    return _chosen(_found(model, sources, asked, tiles_done), asked, labels)


def _chosen(
    results: Iterable[tuple[Prediction, np.ndarray]], asked: Options, labels: list[int] | None
) -> Iterator[tuple[Prediction, np.ndarray]]:
    for found, pixels in results:
        if found.label_map is None and found.error is None:
            found = found.above(asked.score_thr)
            found = found if labels is None else found.of_classes(labels)
        yield found, pixels


def _found(
    model: LoadedModel, sources: Iterable[Source], asked: Options, tiles_done: TilesDone | None
) -> Iterator[tuple[Prediction, np.ndarray]]:
    waiting: list[tuple[str, np.ndarray, Packed]] = []
    for name, pixels in _pictures(model, sources):
        if isinstance(pixels, InputError):
            yield from _whole(model, waiting)
            waiting = []
            yield _failed(name, pixels)
        elif asked.tile is not None:
            yield _by_tiles(model, name, pixels, asked, tiles_done or (lambda count, total: None))
        else:
            try:
                packed = model.prepare(pixels, name)
            except InputError as error:
                yield from _whole(model, waiting)
                waiting = []
                yield _failed(name, error)
                continue
            if waiting and waiting[0][2]["inputs"].shape != packed["inputs"].shape:
                yield from _whole(model, waiting)
                waiting = []
            waiting.append((name, pixels, packed))
            if len(waiting) == asked.batch_size:
                yield from _whole(model, waiting)
                waiting = []
    yield from _whole(model, waiting)


def _whole(
    model: LoadedModel, waiting: Sequence[tuple[str, np.ndarray, Packed]]
) -> Iterator[tuple[Prediction, np.ndarray]]:
    """Predict on a batch; if that fails, on each of it alone, to find out on which."""
    if not waiting:
        return
    try:
        found = _run(model, [packed for _, _, packed in waiting], waiting[0][0])
    except InputError as error:
        if len(waiting) == 1:
            yield _failed(waiting[0][0], error)
        else:
            for one in waiting:
                yield from _whole(model, [one])
        return
    for (name, pixels, _), prediction in zip(waiting, found, strict=True):
        yield replace(prediction, source=name), pixels


def _by_tiles(
    model: LoadedModel, name: str, pixels: np.ndarray, asked: Options, tiles_done: TilesDone
) -> tuple[Prediction, np.ndarray]:
    size = pixels.shape[:2]
    mosaic = Mosaic(name, size)
    tiles = asked.tiles(size)
    done = 0
    tiles_done(done, len(tiles))
    try:
        for _, group in groupby(tiles, key=lambda tile: (tile.width, tile.height)):
            same = list(group)
            for k in range(0, len(same), asked.batch_size):
                batch = same[k : k + asked.batch_size]
                packed = [model.prepare(tile.cut(pixels), name) for tile in batch]
                for tile, found in zip(batch, _run(model, packed, name), strict=True):
                    if found.label_map is None:
                        found = found.above(asked.score_thr)
                    mosaic.add(tile, found)
                done += len(batch)
                tiles_done(done, len(tiles))
    except InputError as error:
        return _failed(name, error)
    return mosaic.result(), pixels


def _run(model: LoadedModel, batch: Sequence[Packed], name: str) -> list[Prediction]:
    try:
        return model.run(batch)
    except InputError:
        raise
    except Exception as error:  # user code may raise anything
        side = "x".join(str(n) for n in reversed(batch[0]["inputs"].shape[1:]))
        hint = ""
        if isinstance(error, MemoryError) or "memory" in str(error).lower():
            hint = "; for large pictures give --tile, for many at once a smaller --batch-size"
        raise InputError(
            f"{name} cannot be predicted on (a batch of {len(batch)} of {side} pixels after the "
            f"test pipeline), {type(error).__name__}: {line_of(error)}{hint}"
        ) from error


def _failed(name: str, error: InputError) -> tuple[Prediction, np.ndarray]:
    return Prediction(name, error=str(error)), np.zeros((0, 0, 3), np.uint8)


def _pictures(
    model: LoadedModel, sources: Iterable[Source]
) -> Iterator[tuple[str, np.ndarray | InputError]]:
    """Names and pixels in order; files are read ahead on a thread."""
    with ThreadPoolExecutor(1) as thread:
        ahead: deque[tuple[Source, Future]] = deque()
        for source in sources:
            ahead.append((source, thread.submit(_read, model, source)))
            if len(ahead) > _AHEAD:
                yield from _opened(*ahead.popleft())
        while ahead:
            yield from _opened(*ahead.popleft())


def _read(model: LoadedModel, source: Source) -> np.ndarray | InputError | None:
    if source.is_video:
        return None
    try:
        return model.read(source.name) if source.pixels is None else source.pixels
    except InputError as error:
        return error
    except MemoryError:
        return InputError(f"{source.name} does not fit the memory")


def _opened(source: Source, future: Future) -> Iterator[tuple[str, np.ndarray | InputError]]:
    if not source.is_video:
        yield source.name, future.result()
        return
    try:
        path = Path(source.name)
        for number, frame in enumerate(read_frames(path)):
            yield str(path.with_name(f"{path.name}#{number:06d}")), frame
    except InputError as error:
        yield source.name, error
