"""Checks of a COCO instances file and its pictures."""

import difflib
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from mmplugins.utils import few, type_name

from .coco_entries import check_entries
from .coco_mask_checks import check_masks
from .findings import DataError, Finding
from .picture_files import (
    MIN_SIDE,
    check_depth,
    check_prefix,
    check_present,
    check_sides,
    decoder,
    is_turned,
    read_all,
    sample,
    step_named,
    walk_transforms,
)


def is_coco(cls: Any) -> bool:
    """Whether a data set type reads its annotations the way mmdet's `CocoDataset` does."""
    return cls.load_data_list.__qualname__ == "CocoDataset.load_data_list"


def check_coco(
    where: str,
    dataset: Mapping,
    classes: Sequence[str],
    pipeline: list,
    train: bool,
    full: bool,
    read: dict[str, tuple[int, int]],
) -> list[Finding]:
    """Checks one `CocoDataset` config.

    Args:
        where: Config entry.
        dataset: The config.
        classes: Names of the classes that the model is to learn.
        pipeline: Transforms that the pictures run through.
        train: Whether it is trained on, so that annotations are needed.
        full: Whether to decode every picture.
        read: Takes, by config entry, how many pictures were decoded, and of how many.

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
    check_entries(where, path, data)
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
    if not any("Resize" in type_name(step) for step in walk_transforms(pipeline)):
        small = [i["file_name"] for i in images if min(i["width"], i["height"]) < MIN_SIDE]
        findings += check_sides(where, small, len(images))
    if step := step_named(pipeline, "LoadImageFromFile"):
        chosen = sample(files, full)
        findings += _check_pictures(where, chosen, sample(images, full), step)
        read[where] = (len(chosen), len(files))
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


def _check_categories(
    where: str, path: str, data: dict, classes: Sequence[str], classes_given: bool
) -> list[Finding]:
    """mmdet drops unknown names in silence and numbers labels in the order of the file."""
    in_file = [category["name"] for category in data["categories"]]
    own = repr(tuple(in_file))
    twice = [name for name, count in Counter(in_file).items() if count > 1 and name in classes]
    if twice:
        ids = [category["id"] for category in data["categories"] if category["name"] == twice[0]]
        raise DataError(
            where,
            f"{path} has {len(ids)} categories of one name, {twice[0]!r} (ids {few(ids)}), which "
            "mmdet would make classes of their own: merge them, one id in categories and in all "
            "annotations, or name them apart",
        )
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


def _check_pictures(
    where: str, files: Sequence[str], images: Sequence[Mapping], step: Mapping
) -> list[Finding]:
    """Decodes pictures and compares their sizes with the annotation file's."""
    turned, other = [], []
    found = read_all(
        where, files, decoder(step, "color", "cv2"), lambda pixels: pixels.shape[1::-1]
    )
    for (path, size), image in zip(found, images, strict=True):
        wanted = (image["width"], image["height"])
        if size == wanted:
            continue
        text = f"{path} is loaded as {size[0]}x{size[1]}, not {wanted[0]}x{wanted[1]}"
        (turned if size == wanted[::-1] and is_turned(path) else other).append(text)
    if turned:
        raise DataError(
            where,
            f"{len(turned)} of {len(files)} pictures have a camera's turn flag, and the boxes are "
            f"those of the unturned ones, so that they lie elsewhere: {few(turned, 2)}: give "
            "LoadImageFromFile color_type='color_ignore_orientation', or export both turned",
        )
    findings = check_depth(where, files, step)
    if other:
        text = f"{len(other)} of {len(files)} pictures differ in size from the annotation file"
        findings.append(Finding(where, f"{text}: {few(other, 2)}"))
    return findings
