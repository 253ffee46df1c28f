"""Checks of mmseg's data: folders of pictures and of label maps with the same names."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmengine.fileio import list_dir_or_file

from mmplugins.utils import few, type_name

from .findings import DataError, Finding
from .picture_files import (
    MIN_SIDE,
    check_depth,
    check_prefix,
    check_present,
    check_sides,
    decoder,
    default_of,
    is_turned,
    read_all,
    sample,
    step_named,
    walk_transforms,
)

_FEW_CLASSES = 20  # as many are all seen in a sample, if the data are sound


def is_segmentation(cls: Any) -> bool:
    """Whether a data set type lists its files the way mmseg's `BaseSegDataset` does."""
    return cls.load_data_list.__qualname__ == "BaseSegDataset.load_data_list"


def check_segmentation(
    where: str,
    dataset: Mapping,
    cls: type,
    classes: Sequence[str],
    pipeline: list,
    full: bool,
    read: dict[str, tuple[int, int]],
) -> list[Finding]:
    """Checks one `BaseSegDataset` config.

    Args:
        where: Config entry.
        dataset: The config.
        cls: Its data set type.
        classes: Names of the classes that the model is to learn.
        pipeline: Transforms that the pictures run through.
        full: Whether to decode every picture and map.
        read: Takes, by config entry, how many pictures were decoded, and of how many.

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
    step = step_named(pipeline, "LoadImageFromFile")
    decode = decoder(step, "color", "cv2")
    sizes = dict(read_all(where, chosen, decode, lambda pixels: pixels.shape[1::-1]))
    read[where] = (len(chosen), len(pictures))
    findings = []
    if not any("Resize" in type_name(t) for t in walk_transforms(pipeline)):
        small = [path for path, size in sizes.items() if min(size) < MIN_SIDE]
        findings += check_sides(where, small, len(chosen))
    findings += check_depth(where, chosen, step)
    if not prefix.get("seg_map_path"):
        return [*findings, Finding(where, "no seg_map_path: predictions only, no figures")]

    map_folder = os.path.join(root, prefix["seg_map_path"])
    maps = [os.path.join(map_folder, name + setting("seg_map_suffix")) for name in names]
    check_present(where, maps, "label maps", "check data_prefix.seg_map_path and seg_map_suffix")
    if not dataset.get("ann_file"):
        findings += _check_alone(where, map_folder, names, setting("seg_map_suffix"))
    # With a choice of the type's own classes, the files still hold the numbers of all of them.
    raw = list(own or classes)
    zero, ignored = bool(setting("reduce_zero_label")), setting("ignore_index")
    allowed = {*range(len(raw) + 1), 255} if zero else {*range(len(raw)), ignored}
    # `sample` depends on the length alone, so pictures and maps are chosen alike.
    labels = sample(maps, full)
    decode = decoder(step_named(pipeline, "LoadAnnotations"), "unchanged", "pillow")
    values: Counter = Counter()
    for (path, described), (picture, size) in zip(
        read_all(where, labels, decode, _describe), sizes.items(), strict=True
    ):
        _check_map(where, path, described, picture, size, allowed, len(raw), zero)
        values.update(described[1])
    return [*findings, *_check_classes(where, values, raw, zero, ignored, len(labels), len(maps))]


def _check_classes(
    where: str, values: Counter, raw: Sequence, zero: bool, ignored: int, looked: int, total: int
) -> list[Finding]:
    """Classes that no map holds, with the likely cause; a sample may miss some of many."""
    absent = [name for k, name in enumerate(raw) if k + zero not in values]
    if not absent or (looked < total and len(raw) > _FEW_CLASSES):
        return []
    cause = "take the class out of metainfo.classes, or label some"
    if not zero and set(values) == {0, 255}:
        cause = "the maps hold 0 and 255 only, and 255 is not learnt: write 1 in place of 255"
    elif zero and raw[-1] in absent and 0 in values:
        cause = (
            "reduce_zero_label=True takes 0 for unlabelled; where classes count from 0, give "
            "reduce_zero_label=False"
        )
    elif not zero and raw[0] in absent:
        cause = "where 0 is unlabelled and classes count from 1, give reduce_zero_label=True"
    return [
        Finding(
            where,
            f"no pixel of {few([str(name) for name in absent])} in {looked} of {total} label maps, "
            f"which hold {few(sorted(values), 12)}: {cause}",
        )
    ]


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
            lines = [line.strip() for line in file]
        empty = [k for k, line in enumerate(lines, 1) if not line]
        if empty:
            raise DataError(
                where,
                f"lines {few(empty)} of {listing} are empty, which mmseg takes for the names of "
                "pictures: remove them",
            )
        return lines
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
    """All files below a folder, relative to it, as mmseg lists them: hidden ones are left out."""
    return list(list_dir_or_file(folder, list_dir=False, recursive=True))


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


def _describe(pixels: np.ndarray) -> tuple[tuple[int, ...], list[int]]:
    """Shape and the values that occur, none of a map with several channels."""
    pixels = pixels.squeeze()
    return pixels.shape, np.unique(pixels).tolist() if pixels.ndim == 2 else []


def _check_map(
    where: str,
    path: str,
    found: tuple,
    picture: str,
    size: tuple,
    allowed: set,
    raw: int,
    zero: bool,
) -> None:
    shape, values = found
    if len(shape) != 2:
        raise DataError(
            where,
            f"label map {path} has {shape[-1]} channels, expected one of class numbers: convert "
            "colours to numbers",
        )
    if shape[::-1] != size:
        turned = shape == size and is_turned(picture)
        remedy = (
            "the picture has a camera's turn flag, and the map is that of the unturned one: give "
            "LoadImageFromFile color_type='color_ignore_orientation', or export both turned"
            if turned
            else "they must be equal, resize the map without interpolation"
        )
        raise DataError(
            where,
            f"label map {path} is {shape[1]}x{shape[0]}, its picture {size[0]}x{size[1]}: {remedy}",
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
