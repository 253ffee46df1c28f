"""Checks of the entries of a COCO instances file, one by one: what mmdet reads, and its types."""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from mmplugins.utils import few

from .findings import DataError


def _is_id(value: Any) -> bool:
    return isinstance(value, int | float | str) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_side(value: Any) -> bool:
    return _is_number(value) and value > 0


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value))


_ID = (_is_id, "a number or a text")
_REQUIRED = {
    "images": dict(
        id=_ID,
        file_name=(lambda v: isinstance(v, str) and v, "the name of a file"),
        width=(_is_side, "pixels, a number above 0"),
        height=(_is_side, "pixels, a number above 0"),
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


def check_entries(where: str, path: str, data: dict) -> None:
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
            _check_entry(where, f"{path}: {part}[{k}]", entry, keys)
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
                    f"{part}{_other_kind(ann[key], known)}: remove the annotation, or add the "
                    "entry",
                )


def _other_kind(value: Any, known: set) -> str:
    other = next((k for k in known if str(k) == str(value)), None)
    return f", where {other!r} is, a {type(other).__name__}" if other is not None else ""


def _check_entry(where: str, place: str, entry: Any, keys: Mapping) -> None:
    if not isinstance(entry, dict):
        raise DataError(
            where, f"{place} is {_short(entry)}: expected a dict with {', '.join(keys)}"
        )
    absent = [key for key in keys if key not in entry]
    if absent:
        raise DataError(
            where,
            f"{place} has no {', '.join(absent)}; expected {', '.join(keys)}: export the file as "
            "COCO instances",
        )
    for key, (is_right, expected) in {**keys, **_OPTIONAL}.items():
        if key in entry and not is_right(entry[key]):
            name = f", annotation {entry['id']}," if "bbox" in keys else ""
            raise DataError(
                where,
                f"{place}{name} has {key} {_short(entry[key])}, expected {expected}: correct it, "
                "or export the file again as COCO instances",
            )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
