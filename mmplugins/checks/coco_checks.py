"""Checks of a COCO instances file and its pictures."""

import difflib
import json
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from mmplugins.utils import few

from .coco_mask_checks import check_masks
from .findings import DataError, Finding
from .picture_files import (
    MIN_SIDE,
    check_depth,
    check_prefix,
    check_present,
    check_sides,
    read_all,
    sample,
    walk_transforms,
)

_REQUIRED = {
    "images": ("id", "file_name", "width", "height"),
    "categories": ("id", "name"),
    "annotations": ("id", "image_id", "category_id", "bbox", "area"),
}


def is_coco(cls: Any) -> bool:
    """Whether a data set type reads its annotations the way mmdet's `CocoDataset` does."""
    return cls.load_data_list.__qualname__ == "CocoDataset.load_data_list"


def check_coco(
    where: str, dataset: Mapping, classes: Sequence[str], pipeline: list, train: bool, full: bool
) -> list[Finding]:
    """Checks one `CocoDataset` config.

    Args:
        where: Config entry.
        dataset: The config.
        classes: Names of the classes that the model is to learn.
        pipeline: Transforms that the pictures run through.
        train: Whether it is trained on, so that annotations are needed.
        full: Whether to decode every picture.

    Returns:
        What is suspicious but usable.

    Raises:
        DataError: The first thing that cannot work.
    """
    root = dataset.get("data_root") or ""
    path = os.path.join(root, dataset.get("ann_file") or "")
    data = _load(where, path)
    if "annotations" not in data and not train:
        findings = [Finding(where, f"{path} has no annotations: predictions only, no figures")]
        data["annotations"] = []
    else:
        findings = []
    _check_entries(where, path, data)
    findings += _check_categories(where, path, data, classes, "classes" in _metainfo(dataset))
    with_mask = any(t.get("with_mask") for t in walk_transforms(pipeline))
    findings += _check_annotations(where, path, data, classes, train, with_mask)

    prefix = dataset.get("data_prefix") or {}
    check_prefix(where, prefix, ("img", "seg"))
    if "img" not in prefix:
        raise DataError(
            f"{where}.data_prefix",
            f"is {dict(prefix)}: expected dict(img='...'), the folder of the pictures below "
            "data_root, '' for data_root itself",
        )
    folder = os.path.join(root, prefix["img"])
    images = data["images"]
    files = [os.path.join(folder, image["file_name"]) for image in images]
    check_present(
        where, files, "pictures", f"check data_prefix and the file_name entries of {path}"
    )
    small = [i["file_name"] for i in images if min(i["width"], i["height"]) < MIN_SIDE]
    findings += check_sides(where, small, len(images), pipeline)
    if any(str(t["type"]).endswith("LoadImageFromFile") for t in walk_transforms(pipeline)):
        findings += _check_pictures(where, sample(files, full), sample(images, full))
    return findings


def _metainfo(dataset: Mapping) -> Mapping:
    return dataset.get("metainfo") or {}


def _load(where: str, path: str) -> dict:
    if not os.path.isfile(path):
        folder = os.path.dirname(path) or "."
        present = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        near = [name for name in present if name.endswith(".json")]
        hint = f"{folder} holds {few(near)}" if near else f"there is no .json file in {folder}"
        raise DataError(where, f"ann_file {path!r} does not exist; {hint}: correct ann_file")
    try:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
    except ValueError as error:
        raise DataError(
            where,
            f"ann_file {path} ({os.path.getsize(path)} bytes) is not valid JSON, {error}: it is "
            "corrupt or cut off, copy or export it again",
        ) from error
    needed = ("images", "categories")
    if not isinstance(data, dict) or any(not isinstance(data.get(k), list) for k in needed):
        found = ", ".join(data) if isinstance(data, dict) else f"a {type(data).__name__}"
        raise DataError(
            where,
            f"ann_file {path} is not in COCO instances form: expected the lists images, "
            f"annotations and categories, found {found or 'nothing'}: export it as COCO",
        )
    return data


def _check_entries(where: str, path: str, data: dict) -> None:
    """Every entry has what mmdet reads, ids are unique, and references lead somewhere."""
    for part, keys in _REQUIRED.items():
        entries = data.get(part)
        if not isinstance(entries, list):
            raise DataError(
                where,
                f"{path} has no list {part!r}, but training needs it: is this the file of a test "
                "set?",
            )
        for k, entry in enumerate(entries):
            absent = [key for key in keys if key not in entry]
            if absent:
                raise DataError(
                    where,
                    f"{path}: {part}[{k}] has no {', '.join(absent)}; expected {', '.join(keys)}: "
                    "export the file as COCO instances",
                )
        counts = Counter(entry["id"] for entry in entries)
        twice = [key for key, count in counts.items() if count > 1]
        if twice:
            raise DataError(
                where, f"{path}: ids occur twice in {part}: {few(twice)}: number them anew"
            )
    if not data["images"]:
        raise DataError(where, f"{path} lists no images: export it again")
    for key, part in (("image_id", "images"), ("category_id", "categories")):
        known = {entry["id"] for entry in data[part]}
        for ann in data["annotations"]:
            if ann[key] not in known:
                raise DataError(
                    where,
                    f"{path}: annotation {ann['id']} has {key} {ann[key]!r}, which is not in "
                    f"{part}: remove the annotation, or add the entry",
                )


def _check_categories(
    where: str, path: str, data: dict, classes: Sequence[str], classes_given: bool
) -> list[Finding]:
    """mmdet drops unknown names in silence and numbers labels in the order of the file."""
    in_file = [category["name"] for category in data["categories"]]
    own = repr(tuple(in_file))
    if not classes_given and set(classes) != set(in_file):
        raise DataError(
            where,
            f"the {len(in_file)} categories of {path} ({few(in_file)}) are not the "
            f"{len(classes)} built-in classes of {few(classes, 2)}: give "
            f"metainfo=dict(classes={own}) in every data loader",
        )
    missing = [name for name in classes if name not in in_file]
    if missing:
        near = {name: difflib.get_close_matches(str(name), in_file, 1, 0.5) for name in missing}
        hints = [
            f"{name!r} (near: {near[name][0]!r})" if near[name] else repr(name) for name in missing
        ]
        raise DataError(
            where,
            f"metainfo.classes names {few(hints)}, which {path} does not have; its categories are "
            f"{few(in_file, 20)}: write the names as in the file, classes={own}",
        )
    order = [name for name in in_file if name in classes]
    if order != list(classes):
        raise DataError(
            where,
            f"metainfo.classes is in the order {few(classes)}, but {path} has {few(order)}, and "
            f"labels are numbered by the file, so names would be swapped: write "
            f"classes={tuple(order)!r}",
        )
    dropped = {c["id"]: c["name"] for c in data["categories"] if c["name"] not in classes}
    lost = sum(ann["category_id"] in dropped for ann in data["annotations"])
    if not dropped:
        return []
    return [
        Finding(
            where,
            f"{lost} annotations of {path} are left out, their categories are not in "
            f"metainfo.classes: {few(list(dropped.values()))}",
        )
    ]


def _check_annotations(
    where: str, path: str, data: dict, classes: Sequence[str], train: bool, with_mask: bool
) -> list[Finding]:
    wanted = {c["id"] for c in data["categories"] if c["name"] in classes}
    annotations = [ann for ann in data["annotations"] if ann["category_id"] in wanted]
    if train and not annotations:
        raise DataError(where, f"{path} has no annotation of {few(classes)}: nothing to train on")
    sizes = {image["id"]: (image["width"], image["height"]) for image in data["images"]}
    empty, outside, corners = [], [], 0
    for ann in annotations:
        box = ann["bbox"]
        if len(box) != 4 or not all(isinstance(v, int | float) and math.isfinite(v) for v in box):
            raise DataError(
                where,
                f"{path}: annotation {ann['id']} has bbox {box!r}, expected [x, y, width, height] "
                "in pixels: export the file as COCO instances",
            )
        if ann.get("iscrowd", 0) not in (0, 1):
            raise DataError(
                where,
                f"{path}: annotation {ann['id']} has iscrowd {ann['iscrowd']!r}, expected 0 or 1 "
                "(whatever else is not empty would be left out in silence): write 0 or 1",
            )
        x, y, w, h = box
        width, height = sizes[ann["image_id"]]
        corners += x < w <= width and y < h <= height
        # As mmdet decides.
        inside = min(x + w, width) > max(x, 0) and min(y + h, height) > max(y, 0)
        if w < 1 or h < 1 or ann["area"] <= 0 or not inside:
            empty.append(ann["id"])
        elif max(-x, -y, x + w - width, y + h - height) > 1:
            outside.append(ann["id"])
    if annotations and max(max(ann["bbox"]) for ann in annotations) <= 1:
        raise DataError(
            where,
            f"the boxes of {path} are in 0..1 (annotation {ann['id']}: {box}), but COCO's are in "
            "pixels, and these would all be left out: multiply them by width and height",
        )
    if train:
        _check_learnable(where, path, annotations, empty)
    findings = []
    if corners == len(annotations) and len(empty) + len(outside) > corners / 4:
        empty, outside = [], []
        findings.append(
            Finding(
                where,
                f"the boxes of {path} look like x1, y1, x2, y2 (annotation {ann['id']}: {box}), "
                "but COCO's are x, y, width, height: convert them",
            )
        )
    if empty:
        findings.append(
            Finding(
                where,
                f"{len(empty)} annotations of {path} have no area in their picture and are left "
                f"out: ids {few(empty)}",
            )
        )
    if outside:
        findings.append(
            Finding(
                where,
                f"{len(outside)} boxes of {path} reach over the border of their picture: ids "
                f"{few(outside)}",
            )
        )
    used = {ann["category_id"] for ann in annotations}
    idle = [c["name"] for c in data["categories"] if c["id"] in wanted - used]
    if train and idle:
        findings.append(
            Finding(
                where,
                f"{path} has no annotation of {few(idle)}, which so cannot be learnt: take the "
                "class out of metainfo.classes, or annotate some",
            )
        )
    bare = [ann["id"] for ann in annotations if not ann.get("segmentation")] if with_mask else []
    if bare and len(bare) == len(annotations):
        raise DataError(
            where,
            f"the pipeline loads masks (with_mask=True), but no annotation of {path} has a "
            "segmentation: use a detection config, or annotate masks",
        )
    if bare:
        findings.append(
            Finding(where, f"{len(bare)} annotations of {path} have no mask: ids {few(bare)}")
        )
    if with_mask:
        findings += check_masks(where, path, annotations, sizes)
    return findings


def _check_learnable(
    where: str, path: str, annotations: Sequence[Mapping], empty: Sequence
) -> None:
    """Something is left when mmdet has dropped what is empty, and ignored crowds."""
    left_out = {
        "have no area in their picture": set(empty),
        "are crowds (iscrowd=1), which are ignored": {
            a["id"] for a in annotations if a.get("iscrowd")
        },
        "are marked to be ignored": {a["id"] for a in annotations if a.get("ignore")},
    }
    if {ann["id"] for ann in annotations} <= set().union(*left_out.values()):
        counts = [f"{len(ids)} {why}" for why, ids in left_out.items() if ids]
        raise DataError(
            where,
            f"{path} leaves nothing to learn: of its {len(annotations)} annotations "
            f"{' and '.join(counts)}; correct them, or export the file again",
        )


def _check_pictures(where: str, files: Sequence[str], images: Sequence[Mapping]) -> list[Finding]:
    """Decodes pictures and compares their sizes with the annotation file's."""
    deep, other = [], []
    found = read_all(where, files, lambda picture: (picture.size, picture.info["deep"]))
    for (path, (size, is_deep)), image in zip(found, images, strict=True):
        deep += [path] * is_deep
        # A camera's turn flag swaps the sides, and annotation tools differ in which they write.
        if sorted(size) != sorted((image["width"], image["height"])):
            other.append(f"{path} is {size[0]}x{size[1]}, not {image['width']}x{image['height']}")
    findings = check_depth(where, deep, len(files))
    if other:
        text = f"{len(other)} of {len(files)} pictures differ in size from the annotation file"
        findings.append(Finding(where, f"{text}: {few(other, 2)}"))
    return findings
