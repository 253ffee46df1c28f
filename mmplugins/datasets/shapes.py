"""Makes the embedded *shapes* data set: one set of pictures, in COCO and in ADE20K form at once.

    shapes/
      shapes.json                          the parameters it was made with
      images/{training,validation}/        {train,val}_00000.jpg, ...
      annotations/{training,validation}/   {train,val}_00000.png, 0 = unlabelled, classes from 1
      annotations/instances_{train,val}.json   COCO instances of the same pictures

Detection reads `images/*` with `annotations/instances_*.json`, segmentation `images/*` with
`annotations/*` and `reduce_zero_label=True`; no picture is stored twice. What is in the pictures,
and the list of classes, is in `shapes_render.py`.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from filelock import FileLock

from .shapes_render import CLASSES, ShapeObject, render_image

MANIFEST = "shapes.json"
VERSION = 1  # to be raised when the same parameters give other files
METAINFO = {
    "classes": tuple(c.name for c in CLASSES),
    "palette": [c.palette for c in CLASSES],
}
_SPLITS = {"train": "training", "val": "validation"}
_JPEG_QUALITY = 92


@dataclass(frozen=True)
class ShapesSpec:
    """What decides every byte of a shapes data set.

    Attributes:
        image_size: Height and width of the pictures in pixels, at least 64.
        num_train: Number of training pictures.
        num_val: Number of validation pictures.
        seed: Picture `i` of a split depends on the seed, the split and `i` alone, so a larger set
            begins with the pictures of a smaller one.
    """

    image_size: int = 128
    num_train: int = 1200
    num_val: int = 240
    seed: int = 0

    def __post_init__(self) -> None:
        lowest = {"image_size": 64, "num_train": 1, "num_val": 1, "seed": 0}
        for name, low in lowest.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < low:
                raise ValueError(
                    f"shapes data: {name}={value!r}, expected a whole number of at least {low}"
                )

    @property
    def manifest(self) -> dict[str, int]:
        return {"version": VERSION, **asdict(self)}


def make_shapes(
    root: str | os.PathLike,
    image_size: int = ShapesSpec.image_size,
    num_train: int = ShapesSpec.num_train,
    num_val: int = ShapesSpec.num_val,
    seed: int = ShapesSpec.seed,
) -> Path:
    """Makes the data set in `root`, or returns at once when it is there already.

    The files are written to a folder beside `root` that takes its name only when complete, so a
    crash leaves no half data set. Processes that ask for the same `root` at once wait for the
    first one and use its files.

    Args:
        root: Folder of the data set; see the module's text for what is in it.
        image_size: Side of the square pictures in pixels, at least 64.
        num_train: Number of training pictures.
        num_val: Number of validation pictures.
        seed: See `ShapesSpec`.

    Returns:
        `root` as a path.

    Raises:
        ValueError: A parameter is out of range.
        FileExistsError: `root` holds something else, or a shapes data set made with other
            parameters.
    """
    spec = ShapesSpec(image_size, num_train, num_val, seed)
    root = Path(root)
    if _is_made(root, spec):
        return root
    target = root.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.parent / f".{target.name}.lock"):
        if not _is_made(target, spec):
            _make(target, spec)
    return root


def _is_made(root: Path, spec: ShapesSpec) -> bool:
    """Whether `root` holds this very data set; raises when it holds anything else."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    try:
        found = json.loads((root / MANIFEST).read_text())
    except (OSError, ValueError):
        raise FileExistsError(
            f"{root} exists but is no shapes data set (no readable {MANIFEST} in it), and nothing "
            "is overwritten: give another data_root, or remove it"
        ) from None
    if found == spec.manifest:
        return True
    differences = ", ".join(
        f"{name}={found.get(name)} (asked for: {value})"
        for name, value in spec.manifest.items()
        if found.get(name) != value
    )
    raise FileExistsError(
        f"{root} holds a shapes data set made with {differences}: ask for the same parameters, "
        "give another data_root, or remove the folder to have it made anew"
    )


def _make(target: Path, spec: ShapesSpec) -> None:
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed; we hold the lock
    try:
        with _progress(spec.num_train + spec.num_val) as advance:
            for split in _SPLITS:
                _write_split(partial, split, spec, advance)
        (partial / MANIFEST).write_text(json.dumps(spec.manifest, indent=2) + "\n")
        if target.exists():
            target.rmdir()  # known to be empty
        os.replace(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    with Progress(
        *Progress.get_default_columns()[:-1], MofNCompleteColumn(), TimeRemainingColumn()
    ) as progress:
        task = progress.add_task("Making the shapes data", total=total)
        yield lambda: progress.advance(task)


def _write_split(root: Path, split: str, spec: ShapesSpec, advance: Callable[[], None]) -> None:
    images = root / "images" / _SPLITS[split]
    maps = root / "annotations" / _SPLITS[split]
    images.mkdir(parents=True)
    maps.mkdir(parents=True)
    coco: dict[str, Any] = {
        "info": {"description": f"shapes, {split}", "version": str(VERSION), **asdict(spec)},
        "licenses": [],
        "images": [],
        "annotations": [],
        "categories": [
            {"id": k, "name": c.name, "supercategory": c.form} for k, c in enumerate(CLASSES, 1)
        ],
    }
    for index in range(getattr(spec, f"num_{split}")):
        rng = np.random.default_rng([spec.seed, list(_SPLITS).index(split), index])
        picture, objects = render_image(rng, spec.image_size)
        name = f"{split}_{index:05d}"
        _write_image(images / f"{name}.jpg", picture[..., ::-1])
        _write_image(maps / f"{name}.png", semantic_map(objects, spec.image_size))
        coco["images"].append(
            {
                "id": index + 1,
                "file_name": f"{name}.jpg",
                "width": spec.image_size,
                "height": spec.image_size,
            }
        )
        for drawn in objects:
            number = len(coco["annotations"]) + 1
            coco["annotations"].append(_annotation(drawn, number, index + 1))
        advance()
    (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(coco))


def semantic_map(objects: list[ShapeObject], side: int) -> np.ndarray:
    """Classes of the pixels, `uint8[side, side]`: 0 unlabelled, class index + 1 otherwise.

    Args:
        objects: From back to front, as `render_image` gives them.
        side: Height and width in pixels.
    """
    labels: np.ndarray = np.zeros((side, side), np.uint8)
    for drawn in objects:
        labels[drawn.mask] = drawn.label + 1
    return labels


def _annotation(drawn: ShapeObject, number: int, image_id: int) -> dict:
    rows, columns = np.flatnonzero(drawn.mask.any(1)), np.flatnonzero(drawn.mask.any(0))
    x, y = int(columns[0]), int(rows[0])
    return {
        "id": number,
        "image_id": image_id,
        "category_id": drawn.label + 1,
        "segmentation": drawn.polygons,
        "area": int(drawn.mask.sum()),
        "bbox": [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y],
        "iscrowd": 0,
    }


def _write_image(path: Path, pixels: np.ndarray) -> None:
    options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY] if path.suffix == ".jpg" else []
    done, data = cv2.imencode(path.suffix, pixels, options)
    if not done:
        raise OSError(f"OpenCV could not encode {path}")
    path.write_bytes(data.tobytes())
