"""Checks of picture files, and of the transforms that they run through."""

import inspect
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from PIL import Image

from mmplugins.utils import few

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
    missing = []
    for folder, inside in folders.items():
        listed = set(os.listdir(folder)) if os.path.isdir(folder) else set()
        missing += [path for path in inside if os.path.basename(path) not in listed]
    if missing:
        raise DataError(
            where,
            f"{len(missing)} of {len(paths)} {what} do not exist: {few(missing, 3)}: {remedy}",
        )


def sample(items: Sequence, full: bool) -> Sequence:
    """All items, or an even choice that holds the first and the last."""
    if full or len(items) <= _SAMPLE:
        return items
    return [items[k] for k in np.linspace(0, len(items) - 1, _SAMPLE).round().astype(int)]


def read_all(
    where: str, paths: Sequence[str], read: Callable[[Image.Image], Any]
) -> Iterator[tuple[str, Any]]:
    """Decodes pictures on threads, and yields each path with what `read` makes of its picture.

    `picture.info["deep"]` tells whether the file has 16 bits per channel, which Pillow forgets.

    Raises:
        DataError: A file is no picture or is cut off.
    """
    from rich.progress import track

    def one(path: str) -> Any:
        try:
            with Image.open(path) as picture:
                form = [str(tile[-1]) for tile in picture.tile]  # gone once it is decoded
                picture.load()
                picture.info["deep"] = any(";16" in one for one in form)
                return read(picture)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            size = os.path.getsize(path)
            raise DataError(
                where,
                f"{path} ({size} bytes) cannot be decoded, {error}: copy it again from its source, "
                "or take it out of the annotations",
            ) from error

    with ThreadPoolExecutor() as threads:
        results = zip(paths, threads.map(one, paths), strict=True)
        shown = len(paths) > _SAMPLE  # a sample takes no time worth a bar
        yield from track(results, "Reading pictures", total=len(paths)) if shown else results


def check_depth(where: str, deep: Sequence[str], total: int) -> list[Finding]:
    """Pictures of 16 bits: OpenCV keeps the upper 8, of which 12-bit cameras fill the lower half.

    Args:
        where: Config entry.
        deep: Paths of the pictures with 16 bits per channel.
        total: Number of pictures looked at.
    """
    if not deep:
        return []
    return [
        Finding(
            where,
            f"{len(deep)} of {total} pictures have 16 bits per channel, of which LoadImageFromFile "
            f"keeps the upper 8, often nearly black: {few(deep, 3)}: scale them to 8 bits",
        )
    ]


def check_sides(where: str, small: Sequence[str], total: int, pipeline: Sequence) -> list[Finding]:
    """Pictures below `MIN_SIDE` pixels: an error, unless the pipeline resizes them.

    Args:
        where: Config entry.
        small: The small pictures, as they should be named in the message.
        total: Number of pictures looked at.
        pipeline: Transforms that the pictures run through.
    """
    if not small:
        return []
    text = f"{len(small)} of {total} pictures have a side below {MIN_SIDE} pixels: {few(small, 3)}"
    if any("Resize" in str(t["type"]) for t in walk_transforms(pipeline)):
        return [Finding(where, f"{text}; the pipeline resizes them")]
    raise DataError(
        where, f"{text}: backbones take {MIN_SIDE} or more, add a Resize to the pipeline"
    )
