"""The learning set-up: optimiser, schedules and loop built, and compared with each other."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import partial
from typing import Any

from mmengine.registry import HOOKS

from mmplugins.engine.config.constructors import class_of
from mmplugins.utils import did_you_mean, listed, type_name

from .data_set import default_of
from .explain import walk
from .inspection import Inspection
from .parts import IdleRunner

_PARAMWISE = {
    *("custom_keys", "bias_lr_mult", "bias_decay_mult", "norm_decay_mult", "flat_decay_mult"),
    *("dwconv_decay_mult", "dcn_offset_lr_mult", "bypass_duplicate"),
    *("decay_rate", "decay_type", "num_layers"),  # of layer-wise decay
}
_RISES = re.compile(r"[ma]?(ap|ar|iou|dice|acc|fscore|precision|recall|pq)")
_FALLS = re.compile(r".*loss|.*error|[rm]*(ae|se)")
"""Whole words in the names of metrics that are better the higher, or the lower, they are."""

_LATE = {"begin_epoch": "epochs", "switch_epoch": "epochs", "begin_iter": "iters"}
"""Entries of hooks that wait for an epoch or an iteration."""


def length(cfg: Mapping) -> tuple[int | None, str]:
    """How long a config trains, and whether in ``'epochs'`` or ``'iters'``."""
    loop = cfg.get("train_cfg") or {}
    unit = "iters" if loop.get("max_iters") is not None else "epochs"
    return loop.get(f"max_{unit}"), unit


def check_learning(inspection: Inspection) -> str:
    """Build loop, optimiser and schedulers, and compare them with the length of the training."""
    cfg = inspection.cfg
    runner = IdleRunner(cfg, inspection.folder)
    if not {"type", "by_epoch"} & set(cfg.train_cfg) and "max_epochs" in cfg.train_cfg:
        inspection.fail(
            "has neither type nor by_epoch, and so counts iterations: give "
            "type='EpochBasedTrainLoop'",
            "train_cfg",
        )
        return ""
    # Loops of other packages may ask their runner for what an idle one has not.
    unsure = (AttributeError,)
    build = partial(runner.build_train_loop, cfg.train_cfg)
    loop = inspection.attempt(build, "train_cfg", cfg.train_cfg, unsure)
    runner._train_loop = loop
    _check_paramwise(inspection)
    if "optim_wrapper" in inspection.broken:
        return ""
    runner.model = inspection.model
    build = partial(runner.build_optim_wrapper, deepcopy(cfg.optim_wrapper))
    runner.optim_wrapper = inspection.attempt(build, "optim_wrapper", cfg.optim_wrapper)
    for where, scheduler in schedulers(cfg):
        if runner.optim_wrapper is not None and loop is not None:
            build = partial(runner.build_param_scheduler, [deepcopy(scheduler)])
            inspection.attempt(build, where, scheduler)
    total, unit = length(cfg)
    if not isinstance(total, int) or {"train_cfg", "param_scheduler"} & inspection.broken:
        return ""
    for where, scheduler in schedulers(cfg):
        if isinstance(scheduler, Mapping):
            _check_scheduler(inspection, where, scheduler, total, unit)
    _check_intervals(inspection, total, unit)
    _check_watching(inspection)
    _check_batch_size(inspection)
    said = " then ".join(type_name(s) for _, s in schedulers(cfg)) or "constant"
    rates = [v for where, v in walk(cfg.optim_wrapper) if where.endswith("optimizer.lr")]
    return f"{total} {unit}, learning rate {', '.join(map(str, rates)) or 'its default'}, {said}"


def schedulers(cfg: Mapping) -> Iterator[tuple[str, Any]]:
    """Schedulers with their path; several optimisers have a dict of them by name."""
    given = cfg.get("param_scheduler")
    groups = {"param_scheduler": given}
    if isinstance(given, Mapping) and "type" not in given:
        parts = [part for value in given.values() for part in listed(value)]
        if parts and all(isinstance(part, Mapping) for part in parts):
            groups = {f"param_scheduler.{name}": value for name, value in given.items()}
    for where, some in groups.items():
        for k, one in enumerate(listed(some)):
            yield (f"{where}[{k}]" if isinstance(some, list | tuple) else where), one


def _check_paramwise(inspection: Inspection) -> None:
    """Multipliers by kind and by name of parameters, of which unknown ones are not read."""
    wrapper = inspection.cfg.optim_wrapper
    if (
        not {"optimizer", "constructor"} & {k for k, v in wrapper.items() if v}
        and "type" in wrapper
    ):
        inspection.fail(
            "is absent: give optimizer=dict(type='AdamW', lr=1e-4, ...)", "optim_wrapper.optimizer"
        )
    where = "optim_wrapper.paramwise_cfg"
    rules = inspection.cfg.optim_wrapper.get("paramwise_cfg")
    if not isinstance(rules, Mapping):
        return
    for key in rules:
        near = did_you_mean(key, _PARAMWISE)
        if near and key not in _PARAMWISE:
            inspection.warn(f"is not read by anyone.{near}", f"{where}.{key}")


def _check_scheduler(
    inspection: Inspection, where: str, scheduler: Mapping, total: int, unit: str
) -> None:
    by_epoch = scheduler.get("by_epoch", True)
    begin, end = scheduler.get("begin", 0), scheduler.get("end")
    if by_epoch and unit == "iters" and not scheduler.get("convert_to_iter_based"):
        inspection.fail(
            f"{type_name(scheduler)} counts epochs (by_epoch=True, the default), but train_cfg "
            f"counts {total} iters, so it would never step: give by_epoch=False, and begin, end "
            "and milestones in iterations",
            where,
        )
    if by_epoch == (unit == "epochs"):  # else known only with the data, see the training step
        for said in _oddities(scheduler, begin, end, total, unit):
            inspection.warn(said, where)


def _oddities(
    scheduler: Mapping, begin: int, end: int | None, total: int, unit: str
) -> Iterator[str]:
    """What in a scheduler does not fit the length of the training."""
    if begin >= total:
        yield f"begins at {begin}, but training ends after {total} {unit}: give an earlier begin"
    elif end is not None and end > total:
        yield (
            f"ends at {end}, but training ends after {total} {unit}, so the decay is cut off: "
            f"give end={total}, or train longer"
        )
    milestones = listed(scheduler.get("milestones"))
    if late := [m for m in milestones if m >= total]:
        yield (
            f"milestones {late} are never reached in {total} {unit}: give smaller ones, for "
            f"example {[round(total * 2 / 3), round(total * 11 / 12)]}"
        )
    if milestones != sorted(milestones):
        yield f"milestones {milestones} do not ascend: sort them"
    period = scheduler.get("T_max")
    if period is not None and end is not None and period != end - begin:
        yield (
            f"T_max={period} is not its length, {begin} to {end}: give T_max={end - begin}, or "
            "leave it out"
        )


def _check_intervals(inspection: Inspection, total: int, unit: str) -> None:
    cfg = inspection.cfg
    # mmengine's own defaults of the loops.
    interval = cfg.train_cfg.get("val_interval", 1 if unit == "epochs" else 1000)
    first = cfg.train_cfg.get("val_begin", 1)
    validated = cfg.get("val_dataloader") is not None
    if validated and interval is None:
        inspection.fail("is None: expected a whole number, 1 or more", "train_cfg.val_interval")
    elif validated and max(interval, first) > total:
        never = first > total
        name, value = ("val_begin", first) if never else ("val_interval", interval)
        effect = "is never validated" if never else "is validated at its end only"
        inspection.warn(
            f"{name}={value} is more than the {total} {unit} of the training, which so {effect}: "
            f"give at most {total}",
            "train_cfg",
        )
    for where, value in walk(dict(custom_hooks=cfg.get("custom_hooks"))):
        name = where.rpartition(".")[2]
        if _LATE.get(name) == unit and isinstance(value, int) and value >= total:
            inspection.warn(
                f"is {value}, but training ends after {total} {unit}, so it never comes: give less",
                where,
            )
    saving = (cfg.get("default_hooks") or {}).get("checkpoint")
    if not isinstance(saving, Mapping):
        inspection.warn(
            "no checkpoint is saved: give checkpoint=dict(type='CheckpointHook', interval=1)",
            "default_hooks",
        )
    elif saving.get("by_epoch", True) and unit == "iters":
        inspection.warn(
            f"interval={saving.get('interval', -1)} counts epochs (by_epoch=True, the default), "
            f"but train_cfg counts {total} iters, so nothing is saved on the way: give "
            "by_epoch=False and an interval in iterations",
            "default_hooks.checkpoint",
        )
    elif saving.get("by_epoch", True) == (unit == "epochs"):
        check_saving(inspection, saving, total, unit)


def check_saving(inspection: Inspection, saving: Mapping, total: int, unit: str) -> None:
    """Compare the interval of checkpoints with a training of ``total`` epochs or iterations."""
    interval = saving.get("interval", default_of(class_of(HOOKS, saving), "interval"))
    if not isinstance(interval, int | float):
        inspection.fail(
            f"is {interval!r}: expected a whole number, 1 or more, or -1 to save at the end alone",
            "default_hooks.checkpoint.interval",
        )
        return
    if 0 < interval <= total:
        return
    found = f"interval={interval}" + (
        f" is more than the {total} {unit} of the training"
        if interval > 0
        else " saves none on the way"
    )
    kept = "its end" if saving.get("save_last", True) else saving.get("save_best") and "the best"
    effect = f"only {kept} is saved, and an interruption loses all" if kept else (
        "save_last=False, so nothing would ever be saved"
    )  # fmt: skip
    say = inspection.warn if kept else inspection.fail
    say(f"{found}: {effect}, give an interval of at most {total}", "default_hooks.checkpoint")


def watched_metrics(cfg: Mapping) -> Iterator[tuple[str, str, Any]]:
    """Path, metric and rule of what checkpoints are chosen by, and of what stops a training."""
    saving = (cfg.get("default_hooks") or {}).get("checkpoint")
    if isinstance(saving, Mapping):
        where, rules = "default_hooks.checkpoint.save_best", listed(saving.get("rule"))
        keys = listed(saving.get("save_best"))
        for k, key in enumerate(keys):
            yield where, str(key), rules[min(k, len(rules) - 1)] if rules else None
    for k, hook in enumerate(listed(cfg.get("custom_hooks"))):
        if isinstance(hook, Mapping) and type_name(hook) == "EarlyStoppingHook":
            yield f"custom_hooks[{k}].monitor", str(hook.get("monitor")), hook.get("rule")


def _check_watching(inspection: Inspection) -> None:
    for where, key, rule in watched_metrics(inspection.cfg):
        if inspection.cfg.get("val_dataloader") is None:
            inspection.warn(
                f"is {key!r}, which needs validation, and has no effect without: add "
                "val_dataloader, val_cfg and val_evaluator, or take it out",
                where,
            )
        words = re.findall("[a-z]+", key.rpartition("/")[2].lower())
        right = "less" if any(map(_FALLS.fullmatch, words)) else None
        if right is None and any(map(_RISES.fullmatch, words)):
            right = "greater"
        if right and rule in ("greater", "less") and rule != right:
            better = "more" if right == "greater" else "less"
            inspection.fail(
                f"is {key!r} with rule={rule!r}, which keeps the worst, as {better} of it is "
                f"better: give rule={right!r}",
                where,
            )


def _check_batch_size(inspection: Inspection) -> None:
    cfg = inspection.cfg
    scaling = cfg.get("auto_scale_lr") or {}
    base, loader = scaling.get("base_batch_size"), cfg.get("train_dataloader") or {}
    size = loader.get("batch_size")
    counts = cfg.optim_wrapper.get("accumulative_counts", 1)
    if not base or not isinstance(size, int) or scaling.get("enable"):
        return
    true = size * inspection.processes * counts
    if true != base:
        inspection.warn(
            f"the learning rate belongs to {base} pictures per step "
            f"(auto_scale_lr.base_batch_size), and {true} are trained with ({size} x "
            f"{inspection.processes} processes): add --auto-scale-lr, or choose a rate for {true}",
            "train_dataloader.batch_size",
        )
