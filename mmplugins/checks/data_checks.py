"""Checks of a config's data before training starts: what is wrong, what was expected, what to do.

OpenMMLab meets most mistakes in a data set late or never: categories whose names it does not know
are dropped in silence, a head with another number of classes trains on, a truncated picture stops
a run after hours. `check_data` reads the files that a config names and reports them at once.
Annotation formats are checked in `coco_checks.py` and `segmentation_checks.py`.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmengine.registry import MODELS

from mmplugins.datasets.shapes import make_shapes
from mmplugins.utils import DataError, few, type_name

from .coco_checks import check_coco
from .data_set import (
    MIN_SIDE,
    DataSet,
    Finding,
    data_sets,
    default_of,
    registered,
    walk_transforms,
)
from .explain import walk
from .inspection import metrics_of
from .rules import violations
from .segmentation_checks import check_segmentation

# Heads whose classes are not those of the data: foreground or not, and COCO-stuff's own list.
_FREE_HEADS = {"rpn_head", "semantic_head"}
_LEARNS = "loss_by_feat"
"""The method of mmseg's heads that takes the labels; auxiliary ones may make their own."""


def check_data(
    cfg: Mapping[str, Any],
    full: bool = False,
    splits: Sequence[str] = ("train", "val", "test"),
    read: dict[str, tuple[int, int]] | None = None,
) -> list[Finding]:
    """Checks data sets, evaluators and class counts of an mmdet or mmseg config.

    Wrappers (`RepeatDataset`, `ConcatDataset`, ...) are looked through. Formats other than COCO
    instances and mmseg's folders of maps get the checks that do not read annotations. The embedded
    shapes data is made first when it is not there yet. Needs mmengine and the packages that the
    config's own types come from.

    Args:
        cfg: A whole config, as `mmengine.Config.fromfile` gives it.
        full: Whether to decode every picture and map instead of an even sample.
        splits: Which of the `{split}_dataloader` entries to check; absent ones are passed over.
        read: Takes, by config entry, how many pictures were decoded, and of how many.

    Returns:
        What is suspicious but can be trained with, for example boxes that reach over the border.

    Raises:
        DataError: The first thing found that cannot work.
    """
    scope = cfg.get("default_scope") or "mmengine"
    findings: list[Finding] = []
    seen: list[Any] = []
    for split in splits:
        sets = data_sets(cfg.get(f"{split}_dataloader"), split, scope, full=full)
        for data in sets:
            if data.config in seen:
                continue
            for path, said in violations(data.config, data.where):
                raise DataError(path, said)
            seen.append(data.config)
            _check_files(data)
            findings += data.findings
            if read is not None and data.read:
                read[data.where] = data.read
            if data.is_known and not _reads_texts(cfg):
                findings += _check_heads(cfg.get("model") or {}, data)
        if cfg.get(f"{split}_dataloader"):
            ann_files = [data.ann_file for data in sets if "ann_file" in data.config]
            findings += _check_evaluator(cfg, split, ann_files)
    if "train" in splits:
        check_alike(cfg, [split for split in splits if split != "train"])
    return list(dict.fromkeys(findings))


def _check_files(data: DataSet) -> None:
    """Everything of one data set; those elsewhere and of unknown kinds are left to their types."""
    cls, root = data.cls, data.root
    for step in walk_transforms(data.pipeline):
        for key in ("scale", "scales", "crop_size"):
            sides = [side for _, side in walk(step.get(key)) if isinstance(side, int)]
            if any(0 < side < MIN_SIDE for side in sides):
                data.warn(
                    f"{type_name(step)}({key}={step[key]}) makes pictures below {MIN_SIDE} pixels, "
                    f"the largest stride of the backbones: give at least {MIN_SIDE}"
                )
    if "generate" in data.config:
        try:
            make_shapes(data.setting("data_root"), **(data.config["generate"] or {}))
        except (FileExistsError, TypeError, ValueError) as error:
            data.fail(f"{error}")
    backend = (data.config.get("backend_args") or {}).get("backend", "local")
    if "://" in root or backend != "local":
        data.warn(f"data_root {root!r} is not a local folder, so nothing was read")
    elif root and not os.path.isdir(root):
        data.fail(
            f"data_root {root!r} does not exist (looked for {os.path.abspath(root)}): give the "
            "folder that holds the pictures and annotations, or start from the folder it is "
            "relative to"
        )
    elif not data.is_known:
        data.warn(f"the annotations of a {cls.__name__} were not checked")
    else:
        (check_coco if data.is_coco else check_segmentation)(data)


def check_alike(cfg: Mapping[str, Any], splits: Sequence[str] = ("val", "test")) -> None:
    """Checks that other splits number their classes as training does.

    Args:
        cfg: A whole config.
        splits: Which splits to compare with training; absent ones are passed over.

    Raises:
        DataError: Class names or their order differ, or how label maps are to be read.
    """
    scope = cfg.get("default_scope") or "mmengine"
    train = data_sets(cfg.get("train_dataloader"), "train", scope)
    if not train or not train[0].is_known or _reads_texts(cfg):
        return
    own, *others = train
    for split in splits:
        others += data_sets(cfg.get(f"{split}_dataloader"), split, scope)
    for other in others:
        if not other.is_known:
            continue
        if other.classes != own.classes:
            other.fail(
                f"has the classes {few(other.classes)}, but {own.where} has {few(own.classes)}: "
                f"give both the same metainfo=dict(classes={own.classes!r})"
            )
        for name in ("reduce_zero_label", "ignore_index"):
            both = own.is_segmentation and other.is_segmentation
            if both and own.setting(name) != other.setting(name):
                other.fail(
                    f"has {name}={other.setting(name)}, but {own.where} has "
                    f"{name}={own.setting(name)}, so one value in the maps means two things: give "
                    "both the same"
                )


def _reads_texts(cfg: Mapping[str, Any]) -> bool:
    """Whether classes are words of a text, so that heads and data sets have each their own."""
    return "language_model" in (cfg.get("model") or {})


def _check_heads(model: Any, data: DataSet) -> Iterator[Finding]:
    """Compares `num_classes` of every head of a model, given or default, with the data's."""
    for path, head in walk(model, "model"):
        names = re.findall(r"[^\W\d]\w*", path)
        told = isinstance(head, Mapping) and names[-1].endswith("head") and "type" in head
        if not told or head.get("class_agnostic") or _FREE_HEADS.intersection(names):
            continue
        cls = registered(MODELS, head, data.scope, path)
        count, source = head.get("num_classes"), ""
        if count is None:
            count, source = default_of(cls, "num_classes"), f" (the default of {type_name(head)})"
        if not isinstance(count, int) or count == len(data.classes):
            continue
        learns = getattr(getattr(cls, _LEARNS, None), "__qualname__", f"BaseDecodeHead.{_LEARNS}")
        if "auxiliary_head" in names and learns != f"BaseDecodeHead.{_LEARNS}":
            continue
        where = f"{path}.num_classes"
        said = (
            f"is {count}{source}, but {data.where} has {len(data.classes)} classes "
            f"({few(data.classes)}): set num_classes={len(data.classes)}, or correct the classes"
        )
        if any(base.__module__.startswith(("mmdet.", "mmseg.")) for base in inspect.getmro(cls)):
            raise DataError(where, said)
        yield Finding(where, said)  # a head of one's own may count something else


def _check_evaluator(cfg: Mapping, split: str, ann_files: list[str]) -> Iterator[Finding]:
    """An evaluator names its annotation file again; the two names must mean one file."""
    where = f"{split}_evaluator.ann_file"
    for _, metric in metrics_of(cfg, split):
        path = metric.get("ann_file") if isinstance(metric, Mapping) else None
        if not path or metric.get("backend_args"):
            continue
        if not isinstance(path, str):
            text = f"is {path!r}: expected the path of the data loader's annotation file"
            raise DataError(where, text)
        if "://" in path:
            continue
        if not os.path.isfile(path):
            raise DataError(
                where,
                f"{path!r} does not exist; the data loader reads {few(ann_files) or 'none'}: give "
                "the evaluator the same file, its path with data_root in front",
            )
        if ann_files and os.path.realpath(path) not in map(os.path.realpath, ann_files):
            text = f"{path} is not the file of the data loader ({few(ann_files)})"
            yield Finding(where, text)
