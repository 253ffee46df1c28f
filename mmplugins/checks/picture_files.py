"""Checks of picture files: are they there, can they be decoded, are they of a usable form?"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
from PIL import Image

from mmplugins.utils import few, is_cut_short

from .data_set import MIN_SIDE, SAMPLE, DataSet


def check_prefix(data: DataSet, prefix: Mapping, known: Sequence[str]) -> None:
    """Names in `data_prefix` are those that the type of data set reads."""
    unknown = [name for name in prefix if name not in known]
    if unknown:
        data.fail(
            f"is {dict(prefix)}, and nobody reads {few(unknown)}: expected "
            f"{' and '.join(known)}, with the folders below data_root",
            "data_prefix",
        )


def check_present(data: DataSet, paths: Sequence[str], what: str, remedy: str) -> None:
    """Files are there; each folder is listed once instead of asking for every file."""
    folders = defaultdict(list)
    for path in paths:
        folders[os.path.dirname(path)].append(path)
    missing = []
    for folder, inside in folders.items():
        found = {e.name for e in os.scandir(folder) if e.is_file()} if os.path.isdir(folder) else ()
        missing += [path for path in inside if os.path.basename(path) not in found]
    if missing:
        links = sum(map(os.path.islink, missing))
        dangling = f" ({links} are links that lead nowhere)" if links else ""
        data.fail(
            f"{len(missing)} of {len(paths)} {what} do not exist{dangling}: {few(missing, 3)}: "
            f"{remedy}"
        )


def read_all(
    data: DataSet,
    paths: Sequence[str],
    step: Mapping | None,
    flag: str,
    backend: str,
    read: Callable[[np.ndarray], Any],
) -> Iterator[tuple[str, Any]]:
    """Decode pictures on threads, as a loading step of the pipeline will.

    Args:
        data: Whose pictures these are; it fails at a file that cannot be decoded.
        paths: The files.
        step: Config of the loading step, or None for mmcv's own settings.
        flag: How colours are read if the step does not say it.
        backend: Which library decodes if the step does not say it.
        read: What is wanted of the pixels.

    Yields:
        Each path with what ``read`` makes of its pixels.
    """
    from rich.progress import track

    step = step or {}
    flag, backend = step.get("color_type", flag), step.get("imdecode_backend", backend)

    def one(path: str) -> Any:
        try:
            with open(path, "rb") as file:
                pixels = mmcv.imfrombytes(file.read(), flag=flag, backend=backend)
            if pixels is None:
                raise ValueError(f"{backend} makes nothing of it")
            return read(pixels)
        except Exception as error:  # decoders may raise anything
            return error

    with ThreadPoolExecutor() as threads:
        results = zip(paths, threads.map(one, paths), strict=True)
        shown = len(paths) > SAMPLE  # a sample takes no time worth a bar
        for path, found in track(results, "Reading pictures", len(paths)) if shown else results:
            if isinstance(found, Exception):
                data.fail(
                    f"{path} ({os.path.getsize(path)} bytes) cannot be decoded as the pipeline "
                    f"does it, {found}: copy it again from its source, save it as PNG or JPEG, or "
                    "take it out of the annotations"
                )
            yield path, found


def check_depth(data: DataSet, paths: Sequence[str], step: Mapping | None) -> None:
    """Pictures of 16 bits: OpenCV keeps the upper 8, of which 12-bit cameras fill half."""
    if (step or {}).get("color_type", "color") not in ("color", "grayscale"):
        return
    deep = [path for path in paths if _about(path, _has_16_bits)]
    if deep:
        data.warn(
            f"{len(deep)} of {len(paths)} pictures have 16 bits per channel, of which "
            f"LoadImageFromFile keeps the upper 8, often nearly black: {few(deep, 3)}: scale them "
            "to 8 bits"
        )


def check_ends(data: DataSet, paths: Sequence[str]) -> None:
    """Pictures that lost their end and are decoded all the same."""
    cut = [path for path in paths if is_cut_short(Path(path).read_bytes())]
    if cut:
        data.warn(
            f"{len(cut)} of {len(paths)} pictures have lost their end, and OpenCV fills the rest "
            f"with grey: {few(cut, 3)}: copy them again from their source"
        )


def check_sides(data: DataSet, small: Sequence[str], total: int) -> None:
    """Pictures below `MIN_SIDE` pixels; padding may help them, or a step that resizes."""
    if small and not data.resizes:
        data.warn(
            f"{len(small)} of {total} pictures have a side below {MIN_SIDE} pixels, the largest "
            f"stride of the backbones: {few(small, 3)}: resize or pad them in the pipeline"
        )


def check_flags(
    data: DataSet, sizes: Sequence[tuple[str, tuple[int, int]]], step: Mapping | None
) -> None:
    """Cameras' flags that turn or mirror a picture and leave its size, which so tells nothing.

    Args:
        data: Whose pictures these are.
        sizes: Each path with the width and height that were loaded.
        step: Config of the loading step.
    """
    kind = (step or {}).get("color_type", "color")
    if kind == "unchanged":
        return
    flagged = [path for path, (w, h) in sizes if 2 <= _orientation(path) <= (8 if w == h else 4)]
    always = [path for path in flagged if _is_turned_always(path)]
    if kind.endswith("ignore_orientation"):
        flagged = always
    if not flagged:
        return
    remedy = "give LoadImageFromFile color_type='color_ignore_orientation'"
    if always:
        remedy = "export them without the flag, which OpenCV obeys in TIFF whatever it is told"
    data.warn(
        f"{len(flagged)} of {len(sizes)} pictures have a camera's flag by which they are loaded "
        f"turned or mirrored: {few(flagged, 3)}: where boxes or maps are those of the pictures as "
        f"they are stored, {remedy}"
    )


def _is_turned_always(path: str) -> bool:
    """Whether OpenCV turns a picture also where it is told not to, as it does TIFF."""
    if _about(path, lambda picture: picture.format == "TIFF") != 1:
        return False
    told = mmcv.imread(path, flag="color_ignore_orientation", backend="cv2")
    return told is not None and bool((told == mmcv.imread(path, backend="cv2")).all())


def is_turned(path: str) -> bool:
    """Whether a camera's flag says that a picture is to be shown turned by 90 or 270 degrees."""
    return _orientation(path) >= 5


def _orientation(path: str) -> int:
    return _about(path, lambda picture: picture.getexif().get(0x0112, 1))


def _has_16_bits(picture: Image.Image) -> bool:
    return any(";16" in str(tile[-1]) for tile in picture.tile)


def _about(path: str, asked: Callable[[Image.Image], int]) -> int:
    """What Pillow says of a file, or 0; it knows other formats than the decoder, other limits."""
    try:
        with Image.open(path) as picture:
            return asked(picture)
    except Exception:  # its readers may raise anything; the pipeline's decoder tells the user
        return 0


def as_saved(path: str, size: tuple[int, int]) -> str:
    """How to get a turned picture in the size of its annotations; TIFF is turned in any case."""
    kept = mmcv.imread(path, flag="color_ignore_orientation", backend="cv2")
    if kept is not None and kept.shape[1::-1] == size:
        return "give LoadImageFromFile color_type='color_ignore_orientation', or export both turned"
    return "export both turned"
