"""The data: files, annotations, classes, and how many pictures there are."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mmplugins.datasets.shapes import ShapesSpec, make_shapes
from mmplugins.utils import DataError, type_name

from .data_checks import check_alike, check_data
from .explain import walk
from .inspection import Inspection

_FEW = dict(num_train=8, num_val=4)


def check_files(inspection: Inspection) -> str:
    """Everything of :func:`check_data`, one loader after the other."""
    cfg = dict(inspection.cfg)
    if "model" in inspection.broken:
        cfg.pop("model", None)
    seen: list = []
    read: dict[str, tuple[int, int]] = {}
    for split in ("train", "val", "test"):
        parts = (cfg.get(f"{split}_dataloader"), cfg.get(f"{split}_evaluator"))
        if parts[0] is None or parts in seen:
            continue
        seen.append(parts)
        try:
            findings = check_data(cfg, inspection.full, (split,), read)
        except DataError as error:
            inspection.fail(str(error))
            if error.where.startswith("model"):
                break
            continue
        for finding in findings:
            inspection.warn(finding.message, finding.where)
    if "data" not in inspection.broken:
        check_alike(cfg)
    said = [f"{where}: {some} of {total} pictures read" for where, (some, total) in read.items()]
    return "; ".join(said) or "no picture was read"


@contextmanager
def sample_of_shapes(inspection: Inspection) -> Iterator[None]:
    """Stand in for embedded shapes data that is not made yet, by a few of it in a temp folder.

    Training makes the data itself; a check writes nothing. Points the inspection's config there.
    """
    cfg = inspection.cfg
    roots = {
        value["data_root"]: dict(value.get("generate") or {})
        for _, value in walk(cfg)
        if isinstance(value, Mapping)
        and isinstance(value.get("data_root"), str)
        and is_made(value)
        and isinstance(value.get("generate") or {}, Mapping)
    }
    absent = {
        root: spec
        for root, spec in roots.items()
        if not os.path.isdir(root) or not os.listdir(root)
    }
    with tempfile.TemporaryDirectory(prefix="mmplugins-check-") as folder:
        for k, (root, spec) in enumerate(absent.items()):
            fewer = {key: min(value, spec.get(key, value)) for key, value in _FEW.items()}
            stand_in = os.path.join(folder, f"shapes{k}", "")
            try:
                make_shapes(stand_in, **(spec | fewer))
            except (TypeError, ValueError):
                continue  # wrong parameters: check_data names them
            whole = spec.get("num_train", ShapesSpec.num_train)
            inspection.share = fewer["num_train"] / whole
            for _, value in list(walk(cfg)):
                if isinstance(value, Mapping):
                    _replace(value, root, stand_in, spec | fewer)
        yield


def is_made(dataset: Mapping) -> bool:
    """Whether a data set makes its pictures when they are not there."""
    return "generate" in dataset or type_name(dataset).startswith("Shapes")


def _replace(cfg: Any, root: str, stand_in: str, spec: dict) -> None:
    if cfg.get("data_root") == root and is_made(cfg):
        cfg["data_root"], cfg["generate"] = stand_in, spec
    ann_file = cfg.get("ann_file")
    if isinstance(ann_file, str) and "data_root" not in cfg and ann_file.startswith(root):
        cfg["ann_file"] = os.path.join(stand_in, ann_file[len(root) :].lstrip("/"))
