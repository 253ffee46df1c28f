"""Checks of mmseg's data: folders of pictures and of label maps with the same names."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from io import StringIO

import numpy as np
from mmengine.fileio import list_dir_or_file

from mmplugins.utils import few

from .data_set import MIN_SIDE, DataSet
from .picture_files import (
    as_saved,
    check_depth,
    check_ends,
    check_flags,
    check_prefix,
    check_present,
    check_sides,
    is_turned,
    read_all,
)

_FEW_CLASSES = 20  # as many are all seen in a sample, if the data are sound


def check_segmentation(data: DataSet) -> None:
    """Names, pictures and label maps, and what numbers the maps hold."""
    own = data.cls.METAINFO.get("classes")
    unknown = [name for name in data.classes if own and name not in own]
    if unknown:
        data.fail(
            f"metainfo.classes has {few(unknown)}, which are no classes of {data.cls.__name__}: "
            "for classes of your own use type='BaseSegDataset' (and reduce_zero_label as you need "
            "it)"
        )
    prefix = data.setting("data_prefix")
    check_prefix(data, prefix, ("img_path", "seg_map_path"))
    folder, suffix = os.path.join(data.root, prefix.get("img_path") or ""), "img_suffix"
    names = _names(data, folder, data.setting(suffix))
    pictures = [os.path.join(folder, name + data.setting(suffix)) for name in names]
    check_present(data, pictures, "pictures", "check data_prefix.img_path and img_suffix")
    chosen, step = data.sample(pictures), data.step("LoadImageFromFile")
    sizes = list(read_all(data, chosen, step, "color", "cv2", lambda pixels: pixels.shape[1::-1]))
    data.read = (len(chosen), len(pictures))
    small = [path for path, size in sizes if min(size) < MIN_SIDE]
    check_sides(data, small, len(chosen))
    check_flags(data, sizes, step)
    check_ends(data, chosen)
    check_depth(data, chosen, step)
    if not prefix.get("seg_map_path"):
        data.warn("no seg_map_path: predictions only, no figures")
        return
    folder, suffix = os.path.join(data.root, prefix["seg_map_path"]), data.setting("seg_map_suffix")
    maps = [os.path.join(folder, name + suffix) for name in names]
    check_present(data, maps, "label maps", "check data_prefix.seg_map_path and seg_map_suffix")
    if not data.config.get("ann_file"):
        _check_alone(data, folder, names, suffix)
    # With a choice of the type's own classes, the files still hold the numbers of all of them.
    _check_labels(data, list(own or data.classes), maps, sizes)


def _names(data: DataSet, folder: str, suffix: str) -> list[str]:
    """Names without suffix: the lines of `ann_file`, else the pictures in the folder."""
    listing = data.ann_file
    if data.config.get("ann_file") and not os.path.isdir(listing):
        if not os.path.isfile(listing):
            data.fail(
                f"ann_file {listing!r} does not exist: give the text file that lists the picture "
                "names, or leave ann_file out to take all pictures of the folder"
            )
        lines = [line.strip() for line in StringIO(data.text_of(listing))]
        if empty := [k for k, line in enumerate(lines, 1) if not line]:
            data.fail(
                f"lines {few(empty)} of {listing} are empty, which mmseg takes for the names of "
                "pictures: remove them"
            )
        return lines
    if not os.path.isdir(folder):
        data.fail(f"data_prefix.img_path leads to {folder!r}, which does not exist: correct it")
    found = _files(folder)
    names = _stems(found, suffix)
    if not names:
        data.fail(
            f"no file in {folder} ends in img_suffix {suffix!r}; it holds "
            f"{few(sorted(found), 3) or 'nothing'}: correct img_suffix or data_prefix.img_path"
        )
    return names


def _files(folder: str) -> list[str]:
    """All files below a folder, relative to it, as mmseg lists them: hidden ones are left out."""
    return list(list_dir_or_file(folder, list_dir=False, recursive=True))


def _stems(files: Sequence[str], suffix: str) -> list[str]:
    return sorted(name[: len(name) - len(suffix)] for name in files if name.endswith(suffix))


def _check_alone(data: DataSet, folder: str, names: Sequence[str], suffix: str) -> None:
    """Label maps without a picture: mmseg goes by the pictures, and never misses one."""
    alone = sorted({*_stems(_files(folder), suffix)} - {*names})
    if alone:
        data.warn(
            f"{len(alone)} label maps in {folder} have no picture and are not used: "
            f"{few([name + suffix for name in alone], 3)}: copy the pictures, or remove the maps"
        )


def _check_labels(data: DataSet, raw: Sequence, maps: Sequence[str], sizes: list) -> None:
    """Label maps are of their pictures' sizes and hold the numbers of the classes, of each one."""
    zero, ignored = bool(data.setting("reduce_zero_label")), data.setting("ignore_index")
    allowed = {*range(len(raw) + 1), 255} if zero else {*range(len(raw)), ignored}
    labels, step = data.sample(maps), data.step("LoadAnnotations")
    values: Counter = Counter()
    read = read_all(data, labels, step, "unchanged", "pillow", _describe)
    # The choice depends on the length alone, so pictures and maps are chosen alike.
    for (path, (shape, held)), (picture, size) in zip(read, sizes, strict=True):
        if len(shape) != 2:
            data.fail(
                f"label map {path} has {shape[-1]} channels, expected one of class numbers: "
                "convert colours to numbers"
            )
        if shape[::-1] != size:
            turned = shape == size and is_turned(picture)
            remedy = (
                "the picture has a camera's turn flag, and the map is that of the unturned one: "
                f"{as_saved(picture, size[::-1])}"
                if turned
                else "they must be equal, resize the map without interpolation"
            )
            data.fail(
                f"label map {path} is {shape[1]}x{shape[0]}, its picture {size[0]}x{size[1]}: "
                f"{remedy}"
            )
        if wrong := [value for value in held if value not in allowed]:
            n = len(raw)
            expected = f"0..{n - 1} for the {n} classes, or the ignore_index"
            if zero:
                expected = f"0 for unlabelled, 1..{n} for the {n} classes, or 255"
            hint = "; if 0 means unlabelled in your maps, set reduce_zero_label=True"
            data.fail(
                f"label map {path} holds {few(wrong)}, expected {expected}: correct the classes or "
                f"the map{hint if not zero and wrong == [n] else ''}"
            )
        values.update(held)
    absent = [name for k, name in enumerate(raw) if k + zero not in values]
    # A sample may miss some of many.
    if labels and absent and (len(labels) == len(maps) or len(raw) <= _FEW_CLASSES):
        data.warn(
            f"no pixel of {few([str(name) for name in absent])} in {len(labels)} of {len(maps)} "
            f"label maps, which hold {few(sorted(values), 12)}: "
            f"{_cause(set(values), raw, absent, zero)}"
        )


def _cause(values: set, raw: Sequence, absent: Sequence, zero: bool) -> str:
    """Why no map holds a class."""
    if not zero and values == {0, 255}:
        return "the maps hold 0 and 255 only, and 255 is not learnt: write 1 in place of 255"
    if zero and raw[-1] in absent and 0 in values:
        return (
            "reduce_zero_label=True takes 0 for unlabelled; where classes count from 0, give "
            "reduce_zero_label=False"
        )
    if not zero and raw[0] in absent:
        return "where 0 is unlabelled and classes count from 1, give reduce_zero_label=True"
    return "take the class out of metainfo.classes, or label some"


def _describe(pixels: np.ndarray) -> tuple[tuple[int, ...], list[int]]:
    """Shape and the values that occur, none of a map with several channels."""
    pixels = pixels.squeeze()
    return pixels.shape, np.unique(pixels).tolist() if pixels.ndim == 2 else []
