"""Predictions as files: drawings, COCO results, label maps, JSON lines; each whole or absent.

::

    OUT/pictures/NAME.jpg      drawings
    OUT/predictions.json       detectors: COCO's results, with file and class names beside the ids
    OUT/label_maps/NAME.png    segmentors: the class of each pixel, with a palette
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from mmplugins.utils import WriteError, check_writable, few, write_whole

from .drawing import Drawer, flat_palette
from .inputs import InputError
from .model import LoadedModel
from .results import Prediction


class Writer:
    """Writes what one model finds.

    Args:
        model: Whose classes and colours to use.
        folder: Where the files go; None writes none.
        pictures: Whether to draw. Defaults to True.
        lines: Where one line of JSON for each picture goes.
        annotations: A COCO file, of which images and categories keep their ids. Without it, images
            count from 0 in their order, and categories from 1.
        overwrite: Whether ``folder`` may hold earlier results, which are then replaced.

    Raises:
        InputError: If the folder holds results already, or the annotations cannot be used.
        WriteError: If nothing can be written there.
    """

    def __init__(
        self,
        model: LoadedModel,
        folder: str | os.PathLike | None,
        *,
        pictures: bool = True,
        lines: TextIO | None = None,
        annotations: str | os.PathLike | None = None,
        overwrite: bool = False,
    ):
        self.model, self.lines = model, lines
        self.folder = None if folder is None else Path(folder)
        if self.folder is not None:
            _claim(self.folder, overwrite)
        self._ids, self._categories = _ids_of(annotations, model)
        self._drawer = Drawer(model) if pictures and self.folder is not None else None
        self._records: list[dict[str, Any]] = []
        self._used: set[str] = set()
        self._count = 0

    def add(self, found: Prediction, pixels: np.ndarray) -> None:
        """Write what belongs to one picture."""
        number, self._count = self._count, self._count + 1
        line = found.as_dict(self.model.classes)
        if self.folder is not None and found.error is None:
            stem = self._stem(found.source)
            if found.label_map is not None:
                path = self.folder / "label_maps" / f"{stem}.png"
                self._write_map(path, found.label_map)
                line["label_map"] = str(path)
            else:
                self._records += self._coco(found, number)
            if self._drawer is not None:
                path = self.folder / "pictures" / f"{stem}.jpg"
                write_whole(path, encoded(self._drawer.draw(pixels, found), ".jpg"))
        if self.lines is not None:
            self.lines.write(json.dumps(line) + "\n")
            self.lines.flush()

    def close(self) -> list[Path]:
        """Write what belongs to all pictures together; returns what there is now."""
        if self.folder is None:
            return []
        if self.model.task == "detection":
            write_whole(self.folder / "predictions.json", json.dumps(self._records))
        names = ("pictures", "label_maps", "predictions.json")
        return [self.folder / name for name in names if (self.folder / name).exists()]

    def _coco(self, found: Prediction, number: int) -> list[dict]:
        name = Path(found.source).name
        if self._ids is not None:
            if name not in self._ids:
                raise InputError(
                    f"{name} is no file_name in the annotations, which have "
                    f"{few(list(self._ids), 3)}: predict on their pictures only"
                )
            number = self._ids[name]
        records = found.coco_records(number, self._categories)
        if self._ids is None:
            for record, label in zip(records, found.labels.tolist(), strict=True):
                record["file_name"] = found.source
                if label < len(self.model.classes):
                    record["category"] = self.model.classes[label]
        return records

    def _write_map(self, path: Path, labels: np.ndarray) -> None:
        from PIL import Image

        picture = Image.fromarray(labels)
        if labels.dtype == np.uint8:
            picture = picture.convert("P")
            picture.putpalette(flat_palette(self.model.palette, 256))
        data = io.BytesIO()
        picture.save(data, "PNG")
        write_whole(path, data.getvalue())

    def _stem(self, source: str) -> str:
        """A name of its own for the results of a picture: pictures of two folders may share one."""
        stem = wanted = Path(source).name.rpartition(".")[0] or Path(source).name
        if "#" in Path(source).name:  # a frame: video.mp4#000012
            stem = wanted = Path(source).name.replace("#", "_")
        number = 1
        while stem in self._used:
            number += 1
            stem = f"{wanted}_{number}"
        self._used.add(stem)
        return stem


def encoded(pixels: np.ndarray, suffix: str) -> bytes:
    """A picture ``uint8[H, W, 3]`` in BGR as the bytes of a file."""
    import cv2

    done, data = cv2.imencode(suffix, pixels)
    if not done:
        raise WriteError(f"a picture of {pixels.shape[1]}x{pixels.shape[0]} pixels as {suffix}")
    return data.tobytes()


def _claim(folder: Path, overwrite: bool) -> None:
    """Make sure, before anything is computed, that results may and can be written."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: expected a folder for the results")
    results = [n for n in ("pictures", "label_maps", "predictions.json") if (folder / n).exists()]
    if results and not overwrite:
        raise InputError(
            f"{folder} holds {', '.join(results)} of an earlier run: give another --out, or "
            "--overwrite"
        )
    check_writable(folder)


def _ids_of(
    annotations: str | os.PathLike | None, model: LoadedModel
) -> tuple[Mapping[str, int] | None, list[int]]:
    """Ids of images by file name, None for counting; and ids of the classes, in their order."""
    if annotations is None:
        return None, list(range(1, 1 + max(len(model.classes), 1024)))
    try:
        content = json.loads(Path(annotations).read_bytes())
        images = {Path(image["file_name"]).name: image["id"] for image in content["images"]}
        named = {category["name"]: category["id"] for category in content["categories"]}
    except OSError as error:
        raise InputError(f"annotations {annotations} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"annotations {annotations} are not COCO's (images with file_name and id, categories "
            f"with name and id): {type(error).__name__}: {error}"
        ) from error
    absent = [name for name in model.classes if name not in named]
    if absent or not model.classes:
        raise InputError(
            f"annotations {annotations} have the categories {few(list(named), 8)}, but the model "
            f"has {few(absent, 8) if absent else 'classes without names'}"
        )
    return images, [named[name] for name in model.classes]
