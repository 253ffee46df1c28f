"""Checks of the entries of a COCO instances file, one by one: what mmdet reads, and its types."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmplugins.utils import few

from .data_set import DataSet
from .explain import shown

_CORNERS = 6  # numbers of the smallest polygon, a triangle
_SLACK = 1.0  # pixels that a polygon may reach over the border, from rounding


def _is_id(value: Any) -> bool:
    return isinstance(value, int | float | str) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_side(value: Any) -> bool:
    return _is_number(value) and value > 0


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value))


_ID = (_is_id, "a number or a text")
_SIDE = (_is_side, "pixels, a number above 0")
_REQUIRED: dict[str, dict[str, tuple[Callable[[Any], Any], str]]] = {
    "images": dict(
        id=_ID,
        file_name=(lambda v: isinstance(v, str) and v, "the name of a file"),
        width=_SIDE,
        height=_SIDE,
    ),
    "categories": dict(id=_ID, name=(lambda v: isinstance(v, str), "a text")),
    "annotations": dict(
        id=_ID,
        image_id=_ID,
        category_id=_ID,
        bbox=(_is_box, "[x, y, width, height] in pixels"),
        area=(_is_number, "a number of pixels"),
    ),
}
"""What mmdet reads of each entry, whether a value is right, and what is expected."""

_OPTIONAL = dict(iscrowd=(lambda v: v in (0, 1), "0 or 1 (else it would be left out in silence)"))


def check_entries(data: DataSet, path: str, content: dict) -> None:
    """Every entry has what mmdet reads, ids are unique, and references lead somewhere.

    Annotations of pictures or categories that are not there, which nobody reads, are taken out.
    """
    for part, keys in _REQUIRED.items():
        entries = content.get(part)
        if not isinstance(entries, list):
            data.fail(
                f"{path} has no list {part!r}, but training needs it: is this the file of a test "
                "set?"
            )
        for k, entry in enumerate(entries):
            _check_entry(data, f"{path}: {part}[{k}]", entry, keys)
        counts = Counter(entry["id"] for entry in entries)
        if twice := [key for key, count in counts.items() if count > 1]:
            data.fail(f"{path}: ids occur twice in {part}: {few(twice)}: number them anew")
    if not content["images"]:
        data.fail(f"{path} lists no images: export it again")
    for key, part in (("image_id", "images"), ("category_id", "categories")):
        known = {str(entry["id"]): entry["id"] for entry in content[part]}
        ids = {*known.values()}
        lost = [ann for ann in content["annotations"] if ann[key] not in ids]
        for ann in lost:
            if (other := known.get(str(ann[key]))) is not None:
                data.fail(
                    f"{path}: annotation {ann['id']} has {key} {ann[key]!r}, which is not in "
                    f"{part}, where {other!r} is, a {type(other).__name__}: write both alike"
                )
        if lost:
            content["annotations"] = [ann for ann in content["annotations"] if ann[key] in ids]
            say = data.warn if content["annotations"] else data.fail
            say(
                f"{len(lost)} annotations of {path} are left out, as {part} lacks their {key}: "
                f"{few(list(dict.fromkeys(a[key] for a in lost)))}: remove them, or add the entries"
            )


def _check_entry(data: DataSet, place: str, entry: Any, keys: Mapping) -> None:
    if not isinstance(entry, dict):
        data.fail(
            f"{place} is {shown(entry)}: expected a dict with {', '.join(keys)}: remove it, or "
            "export the file again as COCO instances"
        )
    if absent := [key for key in keys if key not in entry]:
        data.fail(
            f"{place} has no {', '.join(absent)}; expected {', '.join(keys)}: export the file as "
            "COCO instances"
        )
    for key, (is_right, expected) in {**keys, **_OPTIONAL}.items():
        if key in entry and not is_right(entry[key]):
            name = f", annotation {entry['id']}," if "bbox" in keys else ""
            data.fail(
                f"{place}{name} has {key} {shown(entry[key])}, expected {expected}: correct it, "
                "or export the file again as COCO instances"
            )


def check_masks(
    data: DataSet, path: str, annotations: Sequence[Mapping], sizes: Mapping[Any, tuple[int, int]]
) -> None:
    """Polygons and run-length codes are of a form that can be read, and of the picture's size.

    Args:
        data: Whose file it is; it warns of polygons that mmdet leaves out in silence.
        path: The annotation file, for messages.
        annotations: Those that mmdet loads.
        sizes: Width and height of each picture by its id.
    """
    bare = [ann["id"] for ann in annotations if not ann.get("segmentation")]
    if bare and len(bare) == len(annotations):
        data.fail(
            f"the pipeline loads masks (with_mask=True), but no annotation of {path} has a "
            "segmentation: use a detection config, or annotate masks"
        )
    if bare:
        data.fail(
            f"{len(bare)} annotations of {path} have no mask, at which loading them ends "
            f"(KeyError: 'mask'): ids {few(bare)}: annotate them, or remove the annotations"
        )
    bad, outside = {}, []
    for ann in annotations:
        form, place = ann.get("segmentation"), f"{path}: annotation {ann['id']}"
        width, height = sizes[ann["image_id"]]
        if isinstance(form, Mapping):
            _check_code(data, place, form, width, height)
        elif not form:
            continue
        elif not isinstance(form, list) or not all(isinstance(part, list) for part in form):
            data.fail(
                f"{place} has segmentation {shown(form)}, expected a list of polygons "
                "[[x1, y1, x2, y2, ...], ...], or a run-length code "
                "dict(size=[height, width], counts=...): export the file as COCO instances"
            )
        elif wrong := [part for part in form if not _is_polygon(part)]:
            bad[ann["id"]] = wrong[0]
        elif any(
            not -_SLACK <= value <= (height if k % 2 else width) + _SLACK
            for part in form
            for k, value in enumerate(part)
        ):
            outside.append(ann["id"])
    if bad:
        first, polygon = next(iter(bad.items()))
        data.warn(
            f"{len(bad)} annotations of {path} have bad polygons and are left out in silence: "
            f"ids {few(list(bad))}; {first} has {shown(polygon)}, expected x and y of three "
            "or more corners: correct them, or remove the annotations"
        )
    if outside:
        data.warn(
            f"{len(outside)} polygons of {path} reach over the border of their picture: ids "
            f"{few(outside)}: clip them, and check that they belong to this size of picture"
        )


def _is_polygon(part: list) -> bool:
    numbers = all(isinstance(v, int | float) and math.isfinite(v) for v in part)
    return len(part) >= _CORNERS and len(part) % 2 == 0 and numbers


def _check_code(data: DataSet, place: str, code: Mapping, width: int, height: int) -> None:
    if "counts" not in code or code.get("size") != [height, width]:
        data.fail(
            f"{place} has a run-length code of size {code.get('size')!r}, expected "
            f"{[height, width]!r} (height, width) and counts: make it anew for this picture"
        )
    counts = code["counts"]
    if isinstance(counts, list) and sum(counts) != width * height:
        data.fail(
            f"{place} has run lengths of {sum(counts)} pixels together, expected "
            f"{width * height}, {width} x {height}: make the code anew"
        )
