"""Forms: where a dict, a list of dicts or a type must stand, and what stands there instead.

OpenMMLab builds nearly every part from ``dict(type=...)``. A bare name in its place, or a dict
without ``type``, ends in a TypeError or KeyError far away from the entry, and would do so in the
other checks, which rely on what this one has seen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from mmplugins.utils import did_you_mean

from .inspection import Inspection, listed, metrics_of, walk

_DICTS = {
    **{f"{split}_dataloader": "batch_size=2, dataset=dict(...)" for split in ("train", "val")},
    "test_dataloader": "batch_size=1, dataset=dict(...)",
    "train_cfg": "type='EpochBasedTrainLoop', max_epochs=12",
    "val_cfg": "type='ValLoop'",
    "test_cfg": "type='TestLoop'",
    "optim_wrapper": "type='OptimWrapper', optimizer=dict(...)",
    "auto_scale_lr": "enable=False, base_batch_size=16",
    "default_hooks": "checkpoint=dict(type='CheckpointHook', interval=1)",
    "env_cfg": "dist_cfg=dict(backend='nccl')",
    "randomness": "seed=0",
    "log_processor": "type='LogProcessor', window_size=50",
    "visualizer": "type='DetLocalVisualizer'",
}
"""Entries of a config that are dicts, and an example of what is in them."""

_PARTS = {
    "backbone": "PoolFormer",
    "neck": "FPN",
    "data_preprocessor": "DetDataPreprocessor",
    "rpn_head": "RPNHead",
    "roi_head": "StandardRoIHead",
    "bbox_head": "RetinaHead",
    "mask_head": "FCNMaskHead",
    "decode_head": "FPNHead",
    "auxiliary_head": "FCNHead",
    "bbox_roi_extractor": "SingleRoIExtractor",
    "mask_roi_extractor": "SingleRoIExtractor",
    "roi_layer": "RoIAlign",
    "anchor_generator": "AnchorGenerator",
    "bbox_coder": "DeltaXYWHBBoxCoder",
    "assigner": "MaxIoUAssigner",
    "sampler": "RandomSampler",
    "loss_cls": "FocalLoss",
    "loss_bbox": "L1Loss",
    "loss_mask": "CrossEntropyLoss",
    "loss_decode": "CrossEntropyLoss",
    "nms": "nms",
    "norm_cfg": "BN",
    "act_cfg": "ReLU",
    "init_cfg": "Pretrained",
}
"""Parts of a model that have a type, by their names in configs, and an example."""

_DEFAULT_HOOKS = dict(
    timer="IterTimerHook",
    logger="LoggerHook",
    param_scheduler="ParamSchedulerHook",
    checkpoint="CheckpointHook",
    exact_resume="ExactResumeHook",
    load_report="LoadReportHook",
    sampler_seed="DistSamplerSeedHook",
    progress="ProgressHook",
    results="ResultsHook",
    visualization="DetVisualizationHook",
)
"""Hooks of the recipes, by the names that change their arguments."""


def check_forms(inspection: Inspection) -> str:
    """Dicts, lists and types are where the runner looks for them."""
    cfg, count = inspection.cfg, 0
    for key, example in _DICTS.items():
        if cfg.get(key) is not None and _is_plain(cfg[key]):
            inspection.fail(f"is {cfg[key]!r}: expected a dict, {key}=dict({example})", key)
    if "model" in cfg and (_is_plain(cfg.model) or not _has_type(cfg.model)):
        inspection.fail("has no type: give model=dict(type='RetinaNet', ...)", "model")
    own = cfg.get("custom_hooks")
    if own is not None and not isinstance(own, list | tuple):
        found = "a dict" if isinstance(own, Mapping) else repr(own)
        inspection.fail(
            f"is {found}: expected a list, custom_hooks=[dict(type='EMAHook')]", "custom_hooks"
        )
    for where, value, example in _expected(inspection):
        _check_typed(inspection, where, value, example)
        count += 1
    _check_loop(inspection)
    return f"{count} parts have a type"


def _expected(inspection: Inspection) -> Iterator[tuple[str, Any, str]]:
    """Path, value and an example type of all that must be a dict with a type."""
    cfg, broken = inspection.cfg, inspection.broken
    if "default_hooks" not in broken:
        for name, hook in (cfg.get("default_hooks") or {}).items():
            if hook is not None:  # which switches a hook off
                example = _DEFAULT_HOOKS.get(name, "CheckpointHook")
                yield f"default_hooks.{name}", hook, example
    if "custom_hooks" not in broken:
        for k, hook in enumerate(listed(cfg.get("custom_hooks"))):
            yield _item("custom_hooks", k, cfg.custom_hooks), hook, "EMAHook"
    schedulers = cfg.get("param_scheduler")
    for where, some in _by_optimizer(schedulers):
        for k, scheduler in enumerate(listed(some)):
            yield _item(where, k, some), scheduler, "MultiStepLR"
    for split in ("train", "val", "test"):
        loader = cfg.get(f"{split}_dataloader")
        if isinstance(loader, Mapping):
            yield from _of_loader(inspection, loader, f"{split}_dataloader")
        for where, metric in metrics_of(cfg, split):
            task = "IoUMetric" if inspection.scope == "mmseg" else "CocoMetric"
            yield where, metric, task
    visualizer = cfg.get("visualizer")
    if isinstance(visualizer, Mapping):
        for k, backend in enumerate(listed(visualizer.get("vis_backends"))):
            where = _item("visualizer.vis_backends", k, visualizer.vis_backends)
            yield where, backend, "LocalVisBackend"
    optimizer = (
        cfg.optim_wrapper.get("optimizer")
        if isinstance(cfg.get("optim_wrapper"), Mapping)
        else None
    )
    if isinstance(optimizer, Mapping):  # what is none, the check of learning tells
        yield "optim_wrapper.optimizer", optimizer, "AdamW"
    if "model" not in broken:
        yield from _of_model(cfg.get("model"))


def _by_optimizer(schedulers: Any) -> Iterator[tuple[str, Any]]:
    """Schedulers with their path; several optimisers have a dict of them by name."""
    if isinstance(schedulers, Mapping) and "type" not in schedulers:
        parts = [part for value in schedulers.values() for part in listed(value)]
        if parts and all(isinstance(part, Mapping) for part in parts):
            for name, value in schedulers.items():
                yield f"param_scheduler.{name}", value
            return
    yield "param_scheduler", schedulers


def _of_loader(
    inspection: Inspection, loader: Mapping, where: str
) -> Iterator[tuple[str, Any, str]]:
    yield from _of_dataset(inspection, loader.get("dataset"), f"{where}.dataset")
    for key, example in (
        ("sampler", "DefaultSampler"),
        ("batch_sampler", "AspectRatioBatchSampler"),
        ("collate_fn", "pseudo_collate"),
    ):
        if loader.get(key) is not None:
            yield f"{where}.{key}", loader[key], example


def _of_dataset(inspection: Inspection, dataset: Any, where: str) -> Iterator[tuple[str, Any, str]]:
    """A data set, those that it wraps, and the steps of their pipelines."""
    yield where, dataset, "BaseSegDataset" if inspection.scope == "mmseg" else "CocoDataset"
    if not isinstance(dataset, Mapping):
        return
    for k, inner in enumerate(listed(dataset.get("datasets"))):
        yield from _of_dataset(inspection, inner, _item(f"{where}.datasets", k, dataset.datasets))
    if "dataset" in dataset:
        yield from _of_dataset(inspection, dataset["dataset"], f"{where}.dataset")
    pipeline = dataset.get("pipeline")
    if isinstance(pipeline, Mapping | str):
        shown = dict(pipeline) if isinstance(pipeline, Mapping) else pipeline
        inspection.fail(
            f"is {shown!r}: expected a list of steps, [dict(type=...), ...]", f"{where}.pipeline"
        )
        return
    yield from _of_steps(pipeline, f"{where}.pipeline")


def _of_steps(steps: Any, where: str) -> Iterator[tuple[str, Any, str]]:
    """The steps of a pipeline; those of a choice are a list of pipelines."""
    for k, step in enumerate(listed(steps)):
        place = _item(where, k, steps)
        if isinstance(step, list | tuple):
            yield from _of_steps(step, place)
            continue
        yield place, step, "RandomFlip"
        if isinstance(step, Mapping):
            yield from _of_steps(step.get("transforms"), f"{place}.transforms")


def _of_model(model: Any) -> Iterator[tuple[str, Any, str]]:
    alone = [  # mmdet's PVT reads the checkpoint out of its init_cfg by itself
        value["init_cfg"]
        for _, value in walk(model)
        if isinstance(value, Mapping)
        and str(value.get("type")).startswith("PyramidVisionTransformer")
        and "init_cfg" in value
    ]
    for where, value in walk(model, "model"):
        name = where.rpartition(".")[2]
        if name in ("train_cfg", "test_cfg") and isinstance(value, str | int | float):
            yield where, value, ""
        if name in _PARTS and value is not None and value not in alone:  # None: goes without
            for k, part in enumerate(listed(value)):
                yield _item(where, k, value), part, _PARTS[name]


def _item(where: str, k: int, whole: Any) -> str:
    return f"{where}[{k}]" if isinstance(whole, list | tuple) else where


def _check_typed(inspection: Inspection, where: str, value: Any, example: str) -> None:
    """Report what is no dict with a type; what is built already, or a class, passes."""
    name = where.rpartition(".")[2]
    if not example:
        inspection.fail(f"is {value!r}: expected a dict, {name}=dict(...)", where)
    elif isinstance(value, Mapping):
        if not _has_type(value):
            hook = where.startswith("default_hooks.") and name not in _DEFAULT_HOOKS
            near = did_you_mean(name, _DEFAULT_HOOKS) if hook else ""
            inspection.fail(
                f"has no type: {_short(dict(value))}; give for example type={example!r}.{near}",
                where,
            )
    elif isinstance(value, str) and re.fullmatch(r"[A-Za-z_][\w.]*", value) and name != "init_cfg":
        inspection.fail(f"is {value!r}, a text: expected a dict, dict(type={value!r}, ...)", where)
    elif _is_plain(value):
        inspection.fail(
            f"is {_short(value)}: expected a dict such as dict(type={example!r}, ...)", where
        )


def _check_loop(inspection: Inspection) -> None:
    """mmengine takes the training loop by its type or by by_epoch, never by both."""
    loop = inspection.cfg.get("train_cfg")
    if not isinstance(loop, Mapping) or ("type" in loop) != ("by_epoch" in loop):
        return
    found = "both type and by_epoch" if "type" in loop else "neither type nor by_epoch"
    inspection.fail(
        f"has {found}: expected one of them, type='EpochBasedTrainLoop' (with max_epochs) or "
        "type='IterBasedTrainLoop' (with max_iters)",
        "train_cfg",
    )


def _has_type(value: Any) -> bool:
    return not isinstance(value, Mapping) or value.get("type") is not None


def _is_plain(value: Any) -> bool:
    """Whether a value is none that could have been built from a dict."""
    return value is None or isinstance(value, str | int | float | list | tuple)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
