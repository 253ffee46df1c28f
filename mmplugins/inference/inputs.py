"""What there is to predict on: pictures, folders, patterns, videos, lists; and reading them."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO, TypeAlias

import numpy as np

from mmplugins.utils import few, is_cut_short, line_of

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".jp2")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")

Images: TypeAlias = str | os.PathLike | np.ndarray | Iterable[str | os.PathLike | np.ndarray]
"""What :func:`mmplugins.predict` takes."""


class InputError(ValueError):
    """An input that cannot be predicted on; the message names it and says why."""


@dataclass(frozen=True)
class Source:
    """One picture, or one video.

    Attributes:
        name: Path of the file, or ``image_0`` and so on for arrays.
        pixels: The picture itself, ``uint8[H, W, 3]`` in BGR, if it came as an array.
    """

    name: str
    pixels: np.ndarray | None = None

    @property
    def is_video(self) -> bool:
        """Whether the name is of a video."""
        return self.pixels is None and Path(self.name).suffix.lower() in VIDEOS


def find_inputs(images: Images, listing: TextIO | None = None) -> list[Source]:
    """Find pictures and videos.

    Args:
        images: Files, folders (all pictures in them, not in folders below), patterns
            (``'pictures/**/*.jpg'``), ``'-'`` for a list of those, one a line, from ``listing``,
            and arrays ``uint8[H, W, 3]`` in BGR; one or several.
        listing: Where ``'-'`` reads from.

    Raises:
        InputError: If a file or folder does not exist, a folder or pattern holds no picture, or an
            array is no picture.
    """
    if isinstance(images, str | os.PathLike | np.ndarray):
        images = [images]
    found: list[Source] = []
    for one in images:
        if isinstance(one, np.ndarray):
            found.append(Source(f"image_{len(found)}", _checked(one, len(found))))
        elif str(one) == "-" and listing is not None:
            lines = [line.strip() for line in listing]
            found += [s for line in lines if line for s in _named(line)]
        else:
            found += _named(one)
    if not found:
        raise InputError("no pictures were given: expected files, folders, patterns or a video")
    return found


def _named(path: str | os.PathLike) -> list[Source]:
    text = os.path.expanduser(os.fspath(path))
    if os.path.isfile(text):
        return [Source(text)]
    if os.path.isdir(text):
        try:
            names = sorted(os.listdir(text))
        except OSError as error:
            raise InputError(f"folder {text} cannot be listed: {error.strerror}") from error
        names = [name for name in names if Path(name).suffix.lower() in (*PICTURES, *VIDEOS)]
        if not names:
            raise InputError(
                f"folder {text} holds no pictures ({', '.join(PICTURES)}): for folders below it, "
                f"give the pattern '{text.rstrip('/')}/**/*.jpg' in quotes"
            )
        return [Source(os.path.join(text, name)) for name in names]
    if glob.has_magic(text):
        names = sorted(name for name in glob.glob(text, recursive=True) if os.path.isfile(name))
        if not names:
            raise InputError(f"pattern {text!r} matches no files, from {os.getcwd()}")
        return [Source(name) for name in names]
    raise InputError(f"input {text!r} does not exist (looked for {os.path.abspath(text)})")


def _checked(pixels: np.ndarray, number: int) -> np.ndarray:
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
        raise InputError(
            f"image {number} is an array {pixels.dtype}{list(pixels.shape)}: expected "
            "uint8[H, W, 3], blue first, as cv2.imread gives it"
        )
    return pixels


def read_picture(path: str | os.PathLike, color: str = "color", decoder: str = "cv2") -> np.ndarray:
    """Read a picture as mmcv does, turned as its EXIF data say, and refuse half ones.

    Grey, transparent, CMYK and 16-bit pictures become three channels of 8 bits; of 16 bits the
    upper 8 stay.

    Args:
        path: The file.
        color: mmcv's ``color_type``. Defaults to ``'color'``: BGR.
        decoder: mmcv's ``imdecode_backend``. Defaults to ``'cv2'``.

    Returns:
        ``uint8[H, W, 3]``.

    Raises:
        InputError: If it cannot be read or decoded, or is cut short.
    """
    import cv2
    import mmcv

    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    if not data:
        raise InputError(f"{path} is empty")
    if is_cut_short(data):
        raise InputError(f"{path} is cut short: copy it again from its source")
    try:
        pixels = mmcv.imfrombytes(data, flag=color, backend=decoder)
    except (cv2.error, OSError, SyntaxError, ValueError) as error:
        reason = line_of(error, -1)
        raise InputError(f"{path} ({len(data):,} bytes) cannot be decoded: {reason}") from error
    if pixels is None:
        raise InputError(
            f"{path} ({len(data):,} bytes) is no picture that OpenCV knows: expected 8 or 16 bits, "
            f"in one of {few(PICTURES, 9)}"
        )
    return pixels


def read_frames(path: str | os.PathLike) -> Iterator[np.ndarray]:
    """Frames of a video, ``uint8[H, W, 3]`` in BGR.

    Raises:
        InputError: If it cannot be opened or has no frames.
    """
    import cv2

    video = cv2.VideoCapture(os.fspath(path))
    count = 0
    try:
        while video.isOpened():
            there, frame = video.read()
            if not there:
                break
            count += 1
            yield frame
    finally:
        video.release()
    if not count:
        raise InputError(f"{path} is no video that OpenCV can read, or has no frames")


def frame_count(path: str | os.PathLike) -> int | None:
    """How many frames a video says it has, None if it does not say."""
    import cv2

    video = cv2.VideoCapture(os.fspath(path))
    count = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    video.release()
    return count if count > 0 else None
