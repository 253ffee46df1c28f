"""Checks of a COCO instances file and its pictures."""

from __future__ import annotations

import difflib
import json
import os
from collections import Counter
from collections.abc import Sequence

from mmplugins.utils import few

from .coco_entries import check_entries, check_masks
from .data_set import MIN_SIDE, DataSet, walk_transforms
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


def check_coco(data: DataSet) -> None:
    """Entries, categories and boxes of the annotation file, and the pictures that it lists."""
    path = data.ann_file
    content = _load(data, path)
    if "annotations" not in content and not data.train:
        data.warn(f"{path} has no annotations: predictions only, no figures")
        content["annotations"] = []
    check_entries(data, path, content)
    _check_categories(data, path, content)
    _check_annotations(data, path, content)

    prefix = data.config.get("data_prefix") or {}
    check_prefix(data, prefix, ("img", "seg"))
    if "img" not in prefix:
        data.fail(
            f"is {dict(prefix)}: expected dict(img='...'), the folder of the pictures below "
            "data_root, '' for data_root itself",
            "data_prefix",
        )
    images = content["images"]
    files = [os.path.join(data.root, prefix["img"], image["file_name"]) for image in images]
    remedy = f"check data_prefix and the file_name entries of {path}"
    check_present(data, files, "pictures", remedy)
    small = [i["file_name"] for i in images if min(i["width"], i["height"]) < MIN_SIDE]
    check_sides(data, small, len(images))
    _check_pictures(data, files, images)


def _load(data: DataSet, path: str) -> dict:
    if not os.path.isfile(path):
        folder = os.path.dirname(path) or "."
        present = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        near = [name for name in present if name.endswith(".json")]
        hint = f"{folder} holds {few(near)}" if near else f"there is no .json file in {folder}"
        data.fail(f"ann_file {path!r} does not exist; {hint}: correct ann_file")
    try:
        content = json.loads(data.text_of(path))
    except json.JSONDecodeError as error:
        remedy = "it is corrupt or cut off, copy or export it again"
        if error.msg == "Extra data":
            remedy = "expected one object and nothing behind it, export it as COCO instances"
        data.fail(
            f"ann_file {path} ({os.path.getsize(path)} bytes) is not valid JSON, {error}: {remedy}"
        )
    needed = ("images", "categories")
    if not isinstance(content, dict) or any(not isinstance(content.get(k), list) for k in needed):
        kind = f"a {type(content).__name__}"
        found = ", ".join(content) or "nothing" if isinstance(content, dict) else kind
        data.fail(
            f"ann_file {path} is not in COCO instances form: expected the lists images, "
            f"annotations and categories, found {found}: export it as COCO"
        )
    return content


def _check_categories(data: DataSet, path: str, content: dict) -> None:
    """mmdet drops unknown names in silence and numbers labels in the order of the file."""
    classes = data.classes
    in_file = [category["name"] for category in content["categories"]]
    own = repr(tuple(in_file))
    twice = [name for name, count in Counter(in_file).items() if count > 1 and name in classes]
    if twice:
        ids = [c["id"] for c in content["categories"] if c["name"] == twice[0]]
        data.fail(
            f"{path} has {len(ids)} categories of one name, {twice[0]!r} (ids {few(ids)}), which "
            "mmdet would make classes of their own: merge them, one id in categories and in all "
            "annotations, or name them apart"
        )
    if "classes" not in (data.config.get("metainfo") or {}) and set(classes) != set(in_file):
        data.fail(
            f"the {len(in_file)} categories of {path} ({few(in_file)}) are not the "
            f"{len(classes)} built-in classes of {few(classes, 2)}: give "
            f"metainfo=dict(classes={own}) in every data loader"
        )
    if missing := [name for name in classes if name not in in_file]:
        near = {name: difflib.get_close_matches(str(name), in_file, 1, 0.5) for name in missing}
        hints = [f"{n!r} (near: {near[n][0]!r})" if near[n] else repr(n) for n in missing]
        data.fail(
            f"metainfo.classes names {few(hints)}, which {path} does not have; its categories are "
            f"{few(in_file, 20)}: write the names as in the file, classes={own}"
        )
    order = [name for name in in_file if name in classes]
    if order != list(classes):
        data.fail(
            f"metainfo.classes is in the order {few(classes)}, but {path} has {few(order)}, and "
            f"labels are numbered by the file, so names would be swapped: write "
            f"classes={tuple(order)!r}"
        )
    dropped = {c["id"]: c["name"] for c in content["categories"] if c["name"] not in classes}
    if dropped:
        lost = sum(ann["category_id"] in dropped for ann in content["annotations"])
        data.warn(
            f"{lost} annotations of {path} are left out, their categories are not in "
            f"metainfo.classes: {few(list(dropped.values()))}"
        )


def _check_annotations(data: DataSet, path: str, content: dict) -> None:
    """Boxes lie in their pictures, every class has some, and something is left to learn."""
    wanted = {c["id"]: c["name"] for c in content["categories"] if c["name"] in data.classes}
    annotations = [ann for ann in content["annotations"] if ann["category_id"] in wanted]
    if data.train and not annotations:
        data.fail(
            f"{path} has no annotation of {few(data.classes)}, so there is nothing to train on: "
            "give the file of the training, or export it again"
        )
    sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    empty, outside, corners = [], [], 0
    for ann in annotations:
        x, y, w, h = ann["bbox"]
        width, height = sizes[ann["image_id"]]
        corners += x < w <= width and y < h <= height
        # As mmdet decides.
        inside = min(x + w, width) > max(x, 0) and min(y + h, height) > max(y, 0)
        if w < 1 or h < 1 or ann["area"] <= 0 or not inside:
            empty.append(ann["id"])
        elif max(-x, -y, x + w - width, y + h - height) > 1:
            outside.append(ann["id"])
    last = f"(annotation {ann['id']}: {ann['bbox']})" if annotations else ""
    if annotations and max(max(ann["bbox"]) for ann in annotations) <= 1:
        data.fail(
            f"the boxes of {path} are in 0..1 {last}, but COCO's are in pixels, and these would "
            "all be left out: multiply them by width and height"
        )
    left_out = {
        "have no area in their picture": set(empty),
        "are crowds (iscrowd=1), which are ignored": {
            a["id"] for a in annotations if a.get("iscrowd")
        },
        "are marked to be ignored": {a["id"] for a in annotations if a.get("ignore")},
    }
    if data.train and {ann["id"] for ann in annotations} <= set().union(*left_out.values()):
        counts = [f"{len(ids)} {why}" for why, ids in left_out.items() if ids]
        data.fail(
            f"{path} leaves nothing to learn: of its {len(annotations)} annotations "
            f"{' and '.join(counts)}; correct them, or export the file again"
        )
    if corners == len(annotations) and len(empty) + len(outside) > corners / 4:
        data.warn(
            f"the boxes of {path} look like x1, y1, x2, y2 {last}, but COCO's are x, y, width, "
            "height: convert them"
        )
    else:
        if empty:
            data.warn(
                f"{len(empty)} annotations of {path} have no area in their picture and are left "
                f"out: ids {few(empty)}"
            )
        if outside:
            data.warn(
                f"{len(outside)} boxes of {path} reach over the border of their picture: ids "
                f"{few(outside)}"
            )
    used = {ann["category_id"] for ann in annotations}
    idle = [name for key, name in wanted.items() if key not in used]
    if data.train and idle:
        data.warn(
            f"{path} has no annotation of {few(idle)}, which so cannot be learnt: take the "
            "class out of metainfo.classes, or annotate some"
        )
    if any(step.get("with_mask") for step in walk_transforms(data.pipeline)):
        gone = left_out["have no area in their picture"] | left_out["are marked to be ignored"]
        check_masks(data, path, [a for a in annotations if a["id"] not in gone], sizes)


def _check_pictures(data: DataSet, files: Sequence[str], images: Sequence[dict]) -> None:
    """Decode pictures and compare their sizes with the annotation file's."""
    step = data.step("LoadImageFromFile")
    if step is None:
        return
    chosen = data.sample(files)
    data.read = (len(chosen), len(files))
    turned: list[str] = []
    remedies: set[str] = set()
    other: list[str] = []
    sizes = list(read_all(data, chosen, step, "color", "cv2", lambda pixels: pixels.shape[1::-1]))
    for (path, size), image in zip(sizes, data.sample(images), strict=True):
        wanted = (image["width"], image["height"])
        if size != wanted:
            text = f"{path} is loaded as {size[0]}x{size[1]}, not {wanted[0]}x{wanted[1]}"
            if size == wanted[::-1] and is_turned(path):
                turned.append(text)
                remedies.add(as_saved(path, wanted))
            else:
                other.append(text)
    if turned:
        data.fail(
            f"{len(turned)} of {len(chosen)} pictures have a camera's turn flag, and the boxes are "
            f"those of the unturned ones, so that they lie elsewhere: {few(turned, 2)}: "
            f"{min(remedies, key=len)}"
        )
    check_flags(data, sizes, step)
    check_ends(data, chosen)
    check_depth(data, chosen, step)
    if other:
        text = f"{len(other)} of {len(chosen)} pictures differ in size from the annotation file"
        data.warn(f"{text}: {few(other, 2)}")
