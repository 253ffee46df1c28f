"""Checks of mmseg's data: folders of pictures and of label maps with the same names."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from mmplugins.utils import few

from .findings import DataError, Finding
from .picture_files import (
    MIN_SIDE,
    check_depth,
    check_prefix,
    check_present,
    check_sides,
    default_of,
    read_all,
    sample,
)

_ONE_CHANNEL = {"1", "L", "P", "I", "I;16"}


def is_segmentation(cls: Any) -> bool:
    """Whether a data set type lists its files the way mmseg's `BaseSegDataset` does."""
    return cls.load_data_list.__qualname__ == "BaseSegDataset.load_data_list"


def check_segmentation(
    where: str, dataset: Mapping, cls: type, classes: Sequence[str], pipeline: list, full: bool
) -> list[Finding]:
    """Checks one `BaseSegDataset` config.

    Args:
        where: Config entry.
        dataset: The config.
        cls: Its data set type.
        classes: Names of the classes that the model is to learn.
        pipeline: Transforms that the pictures run through.
        full: Whether to decode every picture and map.

    Returns:
        What is suspicious but usable.

    Raises:
        DataError: The first thing that cannot work.
    """

    def setting(name: str) -> Any:
        return dataset[name] if name in dataset else default_of(cls, name)

    own = cls.METAINFO.get("classes")
    unknown = [name for name in classes if own and name not in own]
    if unknown:
        raise DataError(
            where,
            f"metainfo.classes has {few(unknown)}, which are no classes of {cls.__name__}: for "
            "classes of your own use type='BaseSegDataset' (and reduce_zero_label as you need it)",
        )
    root = dataset.get("data_root") or ""
    prefix = setting("data_prefix")
    check_prefix(where, prefix, ("img_path", "seg_map_path"))
    picture_folder = os.path.join(root, prefix.get("img_path") or "")
    names = _names(where, dataset, root, picture_folder, setting("img_suffix"))
    pictures = [os.path.join(picture_folder, name + setting("img_suffix")) for name in names]
    check_present(where, pictures, "pictures", "check data_prefix.img_path and img_suffix")
    chosen = sample(pictures, full)
    found = dict(read_all(where, chosen, lambda picture: (picture.size, picture.info["deep"])))
    sizes = {path: size for path, (size, _) in found.items()}
    small = [path for path, size in sizes.items() if min(size) < MIN_SIDE]
    findings = check_sides(where, small, len(chosen), pipeline)
    findings += check_depth(where, [path for path in found if found[path][1]], len(chosen))
    if not prefix.get("seg_map_path"):
        return [*findings, Finding(where, "no seg_map_path: predictions only, no figures")]

    map_folder = os.path.join(root, prefix["seg_map_path"])
    maps = [os.path.join(map_folder, name + setting("seg_map_suffix")) for name in names]
    check_present(where, maps, "label maps", "check data_prefix.seg_map_path and seg_map_suffix")
    if not dataset.get("ann_file"):
        findings += _check_alone(where, map_folder, names, setting("seg_map_suffix"))
    # With a choice of the type's own classes, the files still hold the numbers of all of them.
    raw = len(own or classes)
    zero, ignored = bool(setting("reduce_zero_label")), setting("ignore_index")
    allowed = {*range(raw + 1), 255} if zero else {*range(raw), ignored}
    # `sample` depends on the length alone, so pictures and maps are chosen alike.
    for (path, described), size in zip(
        read_all(where, sample(maps, full), _describe), sizes.values(), strict=True
    ):
        _check_map(where, path, described, size, allowed, raw, zero)
    return findings


def _names(where: str, dataset: Mapping, root: str, folder: str, suffix: str) -> list[str]:
    """Names without suffix: the lines of `ann_file`, else the pictures in the folder."""
    listing = os.path.join(root, dataset.get("ann_file") or "")
    if dataset.get("ann_file") and not os.path.isdir(listing):
        if not os.path.isfile(listing):
            raise DataError(
                where,
                f"ann_file {listing!r} does not exist: give the text file that lists the picture "
                "names, or leave ann_file out to take all pictures of the folder",
            )
        with open(listing, encoding="utf-8") as file:
            return [line.strip() for line in file if line.strip()]
    if not os.path.isdir(folder):
        raise DataError(
            where, f"data_prefix.img_path leads to {folder!r}, which does not exist: correct it"
        )
    found = _files(folder)
    names = _stems(found, suffix)
    if not names:
        raise DataError(
            where,
            f"no file in {folder} ends in img_suffix {suffix!r}; it holds "
            f"{few(sorted(found), 3) or 'nothing'}: correct img_suffix or data_prefix.img_path",
        )
    return names


def _files(folder: str) -> list[str]:
    """All files below a folder, relative to it."""
    return [
        os.path.relpath(os.path.join(parent, name), folder)
        for parent, _, files in os.walk(folder)
        for name in files
    ]


def _stems(files: Sequence[str], suffix: str) -> list[str]:
    return sorted(name[: len(name) - len(suffix)] for name in files if name.endswith(suffix))


def _check_alone(where: str, folder: str, names: Sequence[str], suffix: str) -> list[Finding]:
    """Label maps without a picture: mmseg goes by the pictures, and never misses one."""
    alone = sorted({*_stems(_files(folder), suffix)} - {*names})
    if not alone:
        return []
    return [
        Finding(
            where,
            f"{len(alone)} label maps in {folder} have no picture and are not used: "
            f"{few([name + suffix for name in alone], 3)}: copy the pictures, or remove the maps",
        )
    ]


def _describe(picture: Image.Image) -> tuple[str, tuple[int, int], list[int]]:
    """Mode, size (width, height) and the values that occur."""
    if picture.mode not in _ONE_CHANNEL:
        return picture.mode, picture.size, []
    return picture.mode, picture.size, np.unique(np.asarray(picture)).tolist()


def _check_map(
    where: str, path: str, found: tuple, size: tuple, allowed: set, raw: int, zero: bool
) -> None:
    mode, own_size, values = found
    if mode not in _ONE_CHANNEL:
        raise DataError(
            where,
            f"label map {path} has mode {mode}, expected one channel of class numbers: convert "
            "colours to numbers",
        )
    if own_size != size:
        raise DataError(
            where,
            f"label map {path} is {own_size[0]}x{own_size[1]}, its picture {size[0]}x{size[1]}: "
            "they must be equal, resize the map without interpolation",
        )
    wrong = [value for value in values if value not in allowed]
    if not wrong:
        return
    if zero:
        expected = f"0 for unlabelled, 1..{raw} for the {raw} classes, or 255"
    else:
        expected = f"0..{raw - 1} for the {raw} classes, or the ignore_index"
    hint = ""
    if not zero and wrong == [raw]:
        hint = "; if 0 means unlabelled in your maps, set reduce_zero_label=True"
    raise DataError(
        where,
        f"label map {path} holds {few(wrong)}, expected {expected}: correct the classes or the "
        f"map{hint}",
    )
