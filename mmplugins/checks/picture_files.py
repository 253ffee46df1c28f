"""Checks of picture files, and of the transforms that they run through."""

import inspect
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mmcv
import numpy as np
from PIL import Image

from mmplugins.utils import few, type_name

from .findings import DataError, Finding

MIN_SIDE = 32  # the largest stride of a four-stage backbone
_SAMPLE = 32  # pictures decoded when not all are


def walk_transforms(pipeline: Any) -> Iterator[Mapping]:
    """Transform configs of a pipeline, those inside `RandomChoice`, `TestTimeAug`, ... included."""
    if isinstance(pipeline, Mapping):
        if "type" in pipeline:
            yield pipeline
        for value in pipeline.values():
            yield from walk_transforms(value)
    elif isinstance(pipeline, list | tuple):
        for item in pipeline:
            yield from walk_transforms(item)


def step_named(pipeline: Any, name: str) -> Mapping | None:
    """The first transform of a pipeline whose type ends in a name."""
    steps = walk_transforms(pipeline)
    return next((step for step in steps if type_name(step).endswith(name)), None)


def default_of(cls: Any, argument: str) -> Any:
    """Default of a constructor's argument, looked up through `**kwargs` along the base classes."""
    for base in inspect.getmro(cls) if inspect.isclass(cls) else ():
        parameter = inspect.signature(base.__init__).parameters.get(argument)
        if parameter is not None:
            return None if parameter.default is parameter.empty else parameter.default
    return None


def check_prefix(where: str, prefix: Mapping, known: Sequence[str]) -> None:
    """Raises for a name in `data_prefix` that the type of data set does not read."""
    unknown = [name for name in prefix if name not in known]
    if unknown:
        raise DataError(
            f"{where}.data_prefix",
            f"is {dict(prefix)}, and nobody reads {few(unknown)}: expected "
            f"{' and '.join(known)}, with the folders below data_root",
        )


def check_present(where: str, paths: Sequence[str], what: str, remedy: str) -> None:
    """Raises when files are absent; lists each folder once instead of asking for every file."""
    folders = defaultdict(list)
    for path in paths:
        folders[os.path.dirname(path)].append(path)
    missing, links = [], 0
    for folder, inside in folders.items():
        found = {e.name: e for e in os.scandir(folder)} if os.path.isdir(folder) else {}
        gone = [p for p in inside if not _is_file(found.get(os.path.basename(p)))]
        missing += gone
        links += sum(os.path.islink(path) for path in gone)
    if missing:
        dangling = f" ({links} are links that lead nowhere)" if links else ""
        raise DataError(
            where,
            f"{len(missing)} of {len(paths)} {what} do not exist{dangling}: {few(missing, 3)}: "
            f"{remedy}",
        )


def _is_file(entry: os.DirEntry | None) -> bool:
    return entry is not None and entry.is_file()


def sample(items: Sequence, full: bool) -> Sequence:
    """All items, or an even choice that holds the first and the last."""
    if full or len(items) <= _SAMPLE:
        return items
    return [items[k] for k in np.linspace(0, len(items) - 1, _SAMPLE).round().astype(int)]


def decoder(step: Mapping | None, flag: str, backend: str) -> Callable[[str], np.ndarray]:
    """What reads a file as a loading step of a pipeline will.

    Args:
        step: Its config, or None for mmcv's own settings.
        flag: How colours are read if the step does not say it.
        backend: Which library decodes if the step does not say it.
    """
    step = step or {}
    flag, backend = step.get("color_type", flag), step.get("imdecode_backend", backend)

    def read(path: str) -> np.ndarray:
        with open(path, "rb") as file:
            pixels = mmcv.imfrombytes(file.read(), flag=flag, backend=backend)
        if pixels is None:
            raise ValueError(f"{backend} makes nothing of it")
        return pixels

    return read


def read_all(
    where: str,
    paths: Sequence[str],
    decode: Callable[[str], np.ndarray],
    read: Callable[[np.ndarray], Any],
) -> Iterator[tuple[str, Any]]:
    """Decodes pictures on threads, and yields each path with what `read` makes of its pixels.

    Raises:
        DataError: A file is no picture, is cut off, or of a format that the pipeline cannot read.
    """
    from rich.progress import track

    def one(path: str) -> Any:
        try:
            return read(decode(path))
        except Exception as error:  # decoders raise what they like
            size = os.path.getsize(path)
            raise DataError(
                where,
                f"{path} ({size} bytes) cannot be decoded as the pipeline does it, {error}: copy "
                "it again from its source, save it as PNG or JPEG, or take it out of the "
                "annotations",
            ) from error

    with ThreadPoolExecutor() as threads:
        results = zip(paths, threads.map(one, paths), strict=True)
        shown = len(paths) > _SAMPLE  # a sample takes no time worth a bar
        yield from track(results, "Reading pictures", total=len(paths)) if shown else results


def check_depth(where: str, paths: Sequence[str], step: Mapping | None) -> list[Finding]:
    """Pictures of 16 bits: OpenCV keeps the upper 8, of which 12-bit cameras fill the lower half.

    Args:
        where: Config entry.
        paths: The pictures looked at.
        step: The loading step of their pipeline.
    """
    if (step or {}).get("color_type", "color") not in ("color", "grayscale"):
        return []
    deep = [path for path in paths if _is_deep(path)]
    if not deep:
        return []
    return [
        Finding(
            where,
            f"{len(deep)} of {len(paths)} pictures have 16 bits per channel, of which "
            f"LoadImageFromFile keeps the upper 8, often nearly black: {few(deep, 3)}: scale them "
            "to 8 bits",
        )
    ]


def _is_deep(path: str) -> bool:
    try:
        with Image.open(path) as picture:
            return any(";16" in str(tile[-1]) for tile in picture.tile)
    except Exception:  # Pillow knows other formats than the decoder, and other limits
        return False


def check_sides(where: str, small: Sequence[str], total: int) -> list[Finding]:
    """Pictures below `MIN_SIDE` pixels; padding may help them, or a step that resizes.

    Args:
        where: Config entry.
        small: The small pictures, as they should be named in the message.
        total: Number of pictures looked at.
    """
    if not small:
        return []
    return [
        Finding(
            where,
            f"{len(small)} of {total} pictures have a side below {MIN_SIDE} pixels, the largest "
            f"stride of the backbones: {few(small, 3)}: resize or pad them in the pipeline",
        )
    ]


def is_turned(path: str) -> bool:
    """Whether a camera's flag says that a picture is to be shown turned by 90 or 270 degrees."""
    try:
        with Image.open(path) as picture:
            return picture.getexif().get(0x0112, 1) >= 5
    except Exception:  # as above
        return False
