"""Checks of a config's data before training starts: what is wrong, what was expected, what to do.

OpenMMLab meets most mistakes in a data set late or never: categories whose names it does not know
are dropped in silence, a head with another number of classes trains on, a truncated picture stops
a run after hours. `check_data` reads the files that a config names and reports them at once.
Annotation formats are checked in `coco_checks.py` and `segmentation_checks.py`.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmplugins.datasets.shapes import make_shapes
from mmplugins.utils import few, type_name

from .coco_checks import check_coco, is_coco
from .findings import DataError, Finding
from .picture_files import MIN_SIDE, default_of, walk_transforms
from .pictures import leaves
from .segmentation_checks import check_segmentation, is_segmentation

# Heads whose classes are not those of the data: foreground or not, and COCO-stuff's own list.
_FREE_HEADS = {"rpn_head", "semantic_head"}


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
    read = {} if read is None else read
    seen: list[Any] = []
    for split in splits:
        loader = cfg.get(f"{split}_dataloader")
        if not loader:
            continue
        ann_files = []
        for where, dataset, pipeline in leaves(loader["dataset"], f"{split}_dataloader.dataset"):
            check_kinds(where, dataset)
            if "ann_file" in dataset:
                root = dataset.get("data_root") or ""
                ann_files.append(os.path.join(root, dataset["ann_file"]))
            if dataset not in seen:
                seen.append(dataset)
                findings += _check_dataset(
                    where, dataset, pipeline, scope, split == "train", full, read
                )
                cls, model = _registered("DATASETS", dataset, scope, where), cfg.get("model") or {}
                # Heads that read texts have as many outputs as a text may have words.
                if _is_known(cls) and "language_model" not in model:
                    classes = _classes(where, dataset, cls)
                    _check_heads(model, "model", classes, where, scope)
        findings += _check_evaluator(cfg.get(f"{split}_evaluator"), split, ann_files)
    if "train" in splits:
        check_alike(cfg, [split for split in splits if split != "train"])
    return list(dict.fromkeys(findings))


def _check_dataset(
    where: str, dataset: Any, pipeline: list, scope: str, train: bool, full: bool, read: dict
) -> list[Finding]:
    cls = _registered("DATASETS", dataset, scope, where)
    findings = _check_scales(where, pipeline)
    root = dataset.get("data_root")
    if "generate" in dataset:
        try:
            make_shapes(root, **(dataset["generate"] or {}))
        except (FileExistsError, TypeError, ValueError) as error:
            raise DataError(where, f"{error}") from error
    backend = (dataset.get("backend_args") or {}).get("backend", "local")
    if "://" in (root or "") or backend != "local":
        return [
            *findings,
            Finding(where, f"data_root {root!r} is not a local folder, so nothing was read"),
        ]
    if root and not os.path.isdir(root):
        raise DataError(
            where,
            f"data_root {root!r} does not exist (looked for {os.path.abspath(root)}): give the "
            "folder that holds the pictures and annotations, or start from the folder it is "
            "relative to",
        )
    if not _is_known(cls):
        return [*findings, Finding(where, f"the annotations of a {cls.__name__} were not checked")]
    classes = _classes(where, dataset, cls)
    if is_coco(cls):
        return findings + check_coco(where, dataset, classes, pipeline, train, full, read)
    return findings + check_segmentation(where, dataset, cls, classes, pipeline, full, read)


def check_kinds(where: str, dataset: Mapping) -> None:
    """Paths are texts; what has names inside is a dict."""
    for name, kind, wanted in (
        ("data_root", str, "the path of a folder"),
        ("ann_file", str, "the path of a file below data_root"),
        ("data_prefix", Mapping, "a dict, such as dict(img='images/') or dict(img_path='images/')"),
        ("metainfo", Mapping, "a dict, metainfo=dict(classes=('first', 'second', ...))"),
        ("generate", Mapping, "a dict, such as dict(image_size=128)"),
    ):
        value = dataset.get(name)
        unset = value is None and (name != "ann_file" or name not in dataset)
        if not unset and not isinstance(value, kind):
            raise DataError(f"{where}.{name}", f"is {value!r}: expected {wanted}")


def _registered(registry: str, cfg: Any, scope: str, where: str) -> Any:
    """The class that a config's `type` means in this scope."""
    import mmengine.registry

    name = cfg.get("type")
    if not isinstance(name, str):
        return name
    root = getattr(mmengine.registry, registry)
    with root.switch_scope_and_registry(scope) as scoped:
        try:
            found = scoped.get(name)
        except (RuntimeError, ImportError) as error:
            found, reason = None, error
        else:
            reason = None
    if found is None:
        raise DataError(
            where,
            f"type {name!r} is not registered in {scope}: check its spelling, and that "
            "custom_imports names the module that defines it",
        ) from reason
    return found


def _is_known(cls: Any) -> bool:
    """Whether a type of data set reads its annotations in a way that is known here."""
    return is_coco(cls) or is_segmentation(cls)


def _classes(where: str, dataset: Any, cls: Any) -> tuple[str, ...]:
    """Names of the classes: the config's own, else those of the data set's type."""
    # `_load_metainfo` also reads classes from a file, as the data set itself will do.
    classes = cls._load_metainfo(dataset.get("metainfo")).get("classes")
    if isinstance(classes, str):
        raise DataError(
            where,
            f"metainfo.classes is the string {classes!r}, expected a tuple of names: for one class "
            f"write classes=({classes!r},) with the comma",
        )
    if not classes:
        raise DataError(
            where, "no class names: give metainfo=dict(classes=('first', 'second', ...))"
        )
    return tuple(classes)


def check_alike(cfg: Mapping[str, Any], splits: Sequence[str] = ("val", "test")) -> None:
    """Checks that other splits number their classes as training does.

    Args:
        cfg: A whole config.
        splits: Which splits to compare with training; absent ones are passed over.

    Raises:
        DataError: Class names or their order differ, or how label maps are to be read.
    """
    scope = cfg.get("default_scope") or "mmengine"
    loaders = {split: cfg.get(f"{split}_dataloader") for split in ("train", *splits)}
    entries = [
        (where, dataset, _registered("DATASETS", dataset, scope, where))
        for split, loader in loaders.items()
        if loader
        for where, dataset, _ in leaves(loader["dataset"], f"{split}_dataloader.dataset")
    ]
    if not loaders["train"]:
        return
    (where, dataset, cls), *others = entries
    own = _classes(where, dataset, cls) if _is_known(cls) else ()
    for place, other, kind in others:
        if not (_is_known(cls) and _is_known(kind)):
            continue
        its = _classes(place, other, kind)
        if its != own:
            raise DataError(
                place,
                f"has the classes {few(its)}, but {where} has {few(own)}: give both the same "
                f"metainfo=dict(classes={own!r})",
            )
        if not (is_segmentation(cls) and is_segmentation(kind)):
            continue
        for name in ("reduce_zero_label", "ignore_index"):
            mine = dataset.get(name, default_of(cls, name))
            value = other.get(name, default_of(kind, name))
            if mine != value:
                raise DataError(
                    place,
                    f"has {name}={value}, but {where} has {name}={mine}, so one value in the maps "
                    "means two things: give both the same",
                )


def _check_scales(where: str, pipeline: list) -> list[Finding]:
    findings = []
    for transform in walk_transforms(pipeline):
        for key in ("scale", "scales", "crop_size"):
            sides = [side for side in _flat(transform.get(key)) if isinstance(side, int)]
            if any(0 < side < MIN_SIDE for side in sides):
                text = (
                    f"{type_name(transform)}({key}={transform[key]}) makes pictures below "
                    f"{MIN_SIDE} pixels, the largest stride of the backbones: give at least "
                    f"{MIN_SIDE}"
                )
                findings.append(Finding(where, text))
    return findings


def _flat(value: Any) -> Iterator:
    if isinstance(value, list | tuple):
        for item in value:
            yield from _flat(item)
    else:
        yield value


def _check_heads(cfg: Any, path: str, classes: Sequence, where: str, scope: str) -> None:
    """Compares `num_classes` of every head below `cfg`, given or default, with the data's."""
    if isinstance(cfg, list | tuple):
        for k, item in enumerate(cfg):
            _check_heads(item, f"{path}[{k}]", classes, where, scope)
    if not isinstance(cfg, Mapping):
        return
    name = path.rsplit(".", 1)[-1].split("[")[0]
    if name in _FREE_HEADS:
        return
    if name.endswith("head") and "type" in cfg and not cfg.get("class_agnostic"):
        count, source = cfg.get("num_classes"), ""
        if count is None:
            head = _registered("MODELS", cfg, scope, path)
            count, source = default_of(head, "num_classes"), f" (the default of {cfg['type']})"
        if isinstance(count, int) and count != len(classes):
            raise DataError(
                f"{path}.num_classes",
                f"is {count}{source}, but {where} has {len(classes)} classes "
                f"({few(classes)}): set num_classes={len(classes)}, or correct the classes",
            )
    for key, value in cfg.items():
        _check_heads(value, f"{path}.{key}", classes, where, scope)


def _check_evaluator(evaluators: Any, split: str, ann_files: list[str]) -> list[Finding]:
    """An evaluator names its annotation file again; the two names must mean one file."""
    findings = []
    if isinstance(evaluators, Mapping) and not isinstance(evaluators.get("metrics", ""), str):
        evaluators = evaluators["metrics"] or []  # of an Evaluator, which holds them inside
    if isinstance(evaluators, Mapping):
        evaluators = [evaluators]
    for evaluator in evaluators or []:
        if not isinstance(evaluator, Mapping):
            continue
        path = evaluator.get("ann_file")
        if not path or "://" in path or evaluator.get("backend_args"):
            continue
        where = f"{split}_evaluator.ann_file"
        if not os.path.isfile(path):
            raise DataError(
                where,
                f"{path!r} does not exist; the data loader reads {few(ann_files) or 'none'}: give "
                "the evaluator the same file, its path with data_root in front",
            )
        if ann_files and os.path.realpath(path) not in map(os.path.realpath, ann_files):
            findings.append(
                Finding(where, f"{path} is not the file of the data loader ({few(ann_files)})")
            )
    return findings
