"""Checks of the masks in a COCO instances file: polygons and run-length codes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mmplugins.utils import few

from .findings import DataError, Finding

_CORNERS = 6  # numbers of the smallest polygon, a triangle
_SLACK = 1.0  # pixels that a polygon may reach over the border, from rounding


def check_masks(
    where: str, path: str, annotations: Sequence[Mapping], sizes: Mapping[Any, tuple[int, int]]
) -> list[Finding]:
    """Checks the segmentations of the annotations that have one.

    Args:
        where: Config entry.
        path: The annotation file, for messages.
        annotations: Those of the classes that the model is to learn.
        sizes: Width and height of each picture by its id.

    Returns:
        Polygons that mmdet leaves out in silence, and those beyond the border.

    Raises:
        DataError: A segmentation is in no form that can be read, or a code is for another size.
    """
    bad, outside = {}, []
    for ann in annotations:
        form = ann.get("segmentation")
        if not form:
            continue
        width, height = sizes[ann["image_id"]]
        if isinstance(form, Mapping):
            _check_code(where, path, ann, form, width, height)
            continue
        if not isinstance(form, list) or not all(isinstance(part, list) for part in form):
            raise DataError(
                where,
                f"{path}: annotation {ann['id']} has segmentation {_short(form)}, expected a list "
                "of polygons [[x1, y1, x2, y2, ...], ...], or a run-length code "
                "dict(size=[height, width], counts=...): export the file as COCO instances",
            )
        wrong = next((part for part in form if not _is_polygon(part)), None)
        if wrong is not None:
            bad[ann["id"]] = wrong
        elif any(
            not -_SLACK <= value <= (height if k % 2 else width) + _SLACK
            for part in form
            for k, value in enumerate(part)
        ):
            outside.append(ann["id"])
    findings = []
    if bad:
        first, polygon = next(iter(bad.items()))
        findings.append(
            Finding(
                where,
                f"{len(bad)} annotations of {path} have bad polygons and are left out in silence: "
                f"ids {few(list(bad))}; {first} has {_short(polygon)}, expected x and y of three "
                "or more corners: correct them, or remove the annotations",
            )
        )
    if outside:
        findings.append(
            Finding(
                where,
                f"{len(outside)} polygons of {path} reach over the border of their picture: ids "
                f"{few(outside)}: clip them, and check that they belong to this size of picture",
            )
        )
    return findings


def _is_polygon(part: list) -> bool:
    return (
        len(part) >= _CORNERS
        and len(part) % 2 == 0
        and all(isinstance(v, int | float) and math.isfinite(v) for v in part)
    )


def _check_code(
    where: str, path: str, ann: Mapping, code: Mapping, width: int, height: int
) -> None:
    size = code.get("size")
    if "counts" not in code or size != [height, width]:
        raise DataError(
            where,
            f"{path}: annotation {ann['id']} has a run-length code of size {size!r}, expected "
            f"{[height, width]!r} (height, width) and counts: make it anew for this picture",
        )
    counts = code["counts"]
    if isinstance(counts, list) and sum(counts) != width * height:
        raise DataError(
            where,
            f"{path}: annotation {ann['id']} has run lengths of {sum(counts)} pixels together, "
            f"expected {width * height}, {width} x {height}: make the code anew",
        )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
