"""Changing one thing in a config or its data, and saying what preflight made of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmplugins.checks import CheckResult, preflight
from mmplugins.datasets import METAINFO

SPEC = dict(image_size=64, num_train=12, num_val=4, seed=1)
LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")

GONE = object()
"""As a value: take the entry out."""

JSON = "annotations/instances_train.json"
PICTURES, MAPS = "images/training", "annotations/training"
LOAD = dict(type="LoadImageFromFile")


def changed(cfg: Config, changes: dict[str, Any]) -> Config:
    """A copy with other values at dotted paths: ``{"model.bbox_head.strides[0]": 4}``."""
    cfg = Config({key: value for key, value in cfg.to_dict().items()})
    for path, value in changes.items():
        *parents, last = re.findall(r"[^.\[\]]+", path)
        place = cfg
        for part in parents:
            place = place[int(part) if part.isdigit() else part]
        last = int(last) if last.isdigit() else last
        if value is GONE:
            place.pop(last)
        else:
            place[last] = value
    return cfg


def faults(cfg: Config, **options: Any) -> list[CheckResult]:
    """What preflight does not like."""
    return [r for r in preflight(cfg, **options) if r.status in ("warning", "failure")]


def point_at(cfg: Config, root: Path) -> None:
    """Read the data in ``root``, with small batches and no workers."""
    for name in LOADERS:
        cfg[name] = deepcopy(cfg[name])
        cfg[name].update(batch_size=2, num_workers=0, persistent_workers=False)
        cfg[name].dataset.update(data_root=f"{root}/", generate=dict(SPEC))
    for name in ("val_evaluator", "test_evaluator"):
        cfg[name] = deepcopy(cfg[name])
        if "ann_file" in cfg[name]:
            cfg[name].ann_file = f"{root}/annotations/instances_val.json"


def coco(root: Path, load: dict = LOAD, **changes: Any) -> dict[str, Any]:
    """A config without a model: the shapes in ``root`` as COCO boxes."""
    dataset = dict(
        type="CocoDataset",
        data_root=str(root),
        ann_file=JSON,
        data_prefix=dict(img=f"{PICTURES}/"),
        metainfo=dict(classes=METAINFO["classes"]),
        pipeline=[load, dict(type="LoadAnnotations", with_bbox=True)],
    )
    return dict(default_scope="mmdet", train_dataloader=dict(dataset={**dataset, **changes}))


def maps(root: Path, load: dict = LOAD, **changes: Any) -> dict[str, Any]:
    """A config without a model: the shapes in ``root`` as label maps."""
    dataset = dict(
        type="BaseSegDataset",
        data_root=str(root),
        data_prefix=dict(img_path=PICTURES, seg_map_path=MAPS),
        metainfo=dict(classes=METAINFO["classes"]),
        reduce_zero_label=True,
        pipeline=[load, dict(type="LoadAnnotations")],
    )
    return dict(default_scope="mmseg", train_dataloader=dict(dataset={**dataset, **changes}))


def edit(root: Path, change: Callable[[dict], Any]) -> None:
    """Apply a change to the content of the training's annotation file."""
    path = root / JSON
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
