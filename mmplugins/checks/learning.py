"""The learning set-up: rates, schedules, intervals, batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmplugins.utils import did_you_mean

from .inspection import Inspection, listed

_CLIPS = {
    "norm": {"max_norm", "norm_type", "error_if_nonfinite", "foreach"},
    "value": {"clip_value", "foreach"},
}
_PARAMWISE = {
    *("custom_keys", "bias_lr_mult", "bias_decay_mult", "norm_decay_mult", "flat_decay_mult"),
    *("dwconv_decay_mult", "dcn_offset_lr_mult", "bypass_duplicate"),
    *("decay_rate", "decay_type", "num_layers"),  # of layer-wise decay
}


def length(cfg: Mapping) -> tuple[int | None, str]:
    """How long a config trains, and whether in ``'epochs'`` or ``'iters'``."""
    loop = cfg.get("train_cfg") or {}
    unit = "iters" if loop.get("max_iters") is not None else "epochs"
    return loop.get(f"max_{unit}"), unit


def check_learning(inspection: Inspection) -> str:
    """Optimiser and schedulers against the length of the training."""
    cfg = inspection.cfg
    total, unit = length(cfg)
    if not isinstance(total, int) or total <= 0:
        inspection.fail(
            f"max_{unit} is {total!r}: expected how long to train, a whole number above 0",
            "train_cfg",
        )
        return ""
    wrapper = cfg.get("optim_wrapper") or {}
    rate = _check_optimizer(inspection, wrapper)
    for k, scheduler in enumerate(listed(cfg.get("param_scheduler"))):
        alone = isinstance(cfg.param_scheduler, Mapping)
        where = "param_scheduler" if alone else f"param_scheduler[{k}]"
        _check_scheduler(inspection, where, scheduler, total, unit)
    _check_intervals(inspection, total, unit)
    _check_batch_size(inspection)
    return f"{total} {unit}, learning rate {rate}, {_schedulers(cfg)}"


def _schedulers(cfg: Mapping) -> str:
    names = [str(s.get("type")) for s in listed(cfg.get("param_scheduler"))]
    return " then ".join(names) or "constant"


def _check_optimizer(inspection: Inspection, wrapper: Mapping) -> Any:
    optimizer = wrapper.get("optimizer")
    if not isinstance(optimizer, Mapping):
        inspection.fail(
            f"is {optimizer!r}: give optimizer=dict(type='AdamW', lr=1e-4, ...)",
            "optim_wrapper.optimizer",
        )
        return None
    rate = optimizer.get("lr")
    if rate is not None and (not isinstance(rate, int | float) or rate <= 0):
        inspection.fail(
            f"is {rate!r}: expected a number above 0, for example 1e-4 with AdamW",
            "optim_wrapper.optimizer.lr",
        )
    elif rate is not None and rate > 1 and "Adam" in str(optimizer.get("type")):
        inspection.warn(
            f"is {rate}, and {optimizer['type']} moves every weight by about that much in each "
            "step: give for example 1e-4",
            "optim_wrapper.optimizer.lr",
        )
    decay = optimizer.get("weight_decay", 0)
    if not isinstance(decay, int | float) or decay < 0:
        inspection.fail(
            f"is {decay!r}: expected 0 or a small positive number such as 0.05",
            "optim_wrapper.optimizer.weight_decay",
        )
    counts = wrapper.get("accumulative_counts", 1)
    if not isinstance(counts, int) or counts < 1:
        inspection.fail(
            f"is {counts!r}: expected a whole number of batches per step, 1 or more",
            "optim_wrapper.accumulative_counts",
        )
    _check_paramwise(inspection, wrapper.get("paramwise_cfg") or {})
    clip = wrapper.get("clip_grad")
    if clip and not isinstance(clip, Mapping):
        inspection.fail(
            f"is {clip!r}: expected a dict, clip_grad=dict(max_norm=1.0)", "optim_wrapper.clip_grad"
        )
    elif clip:
        accepted = _CLIPS.get(clip.get("type", "norm"), set())
        wrong = [key for key in clip if key not in accepted | {"type"}]
        if wrong or not accepted:
            inspection.fail(
                f"{dict(clip)} has {wrong or clip.get('type')!r}: expected for example "
                "clip_grad=dict(max_norm=1.0, norm_type=2)",
                "optim_wrapper.clip_grad",
            )
        elif text := [v for k, v in clip.items() if k.startswith(("max", "clip")) and _is_text(v)]:
            inspection.fail(
                f"{dict(clip)} has {text[0]!r}, a text: expected a number, write it without quotes",
                "optim_wrapper.clip_grad",
            )
        elif min((v for v in clip.values() if isinstance(v, int | float)), default=1) <= 0:
            inspection.fail(
                f"{dict(clip)} lets no gradient through: give a bound above 0, or clip_grad=None",
                "optim_wrapper.clip_grad",
            )
    return rate


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _check_paramwise(inspection: Inspection, rules: Any) -> None:
    """Multipliers by kind and by name of parameters."""
    where = "optim_wrapper.paramwise_cfg"
    if not isinstance(rules, Mapping):
        inspection.fail(
            f"is {rules!r}: expected a dict, paramwise_cfg=dict(norm_decay_mult=0.0)", where
        )
        return
    for key in rules:
        near = did_you_mean(key, _PARAMWISE)
        if near and key not in _PARAMWISE:
            inspection.warn(f"is not read by anyone.{near}", f"{where}.{key}")
    keys = rules.get("custom_keys") or {}
    wrong = (
        keys
        if not isinstance(keys, Mapping)
        else {name: rule for name, rule in keys.items() if not isinstance(rule, Mapping)}
    )
    if wrong:
        inspection.fail(
            f"has {wrong!r}: expected a dict for each name, dict(backbone=dict(lr_mult=0.1))",
            f"{where}.custom_keys",
        )


def _check_scheduler(
    inspection: Inspection, where: str, scheduler: Mapping, total: int, unit: str
) -> None:
    by_epoch = scheduler.get("by_epoch", True)
    begin, end = scheduler.get("begin", 0), scheduler.get("end")
    for name, value in (("begin", begin), ("end", end), ("gamma", scheduler.get("gamma"))):
        number = isinstance(value, int | float) and (name != "gamma" or value > 0)
        if value is not None and not number:
            wanted = "a number above 0" if name == "gamma" else f"a whole number of {unit}"
            inspection.fail(f"is {value!r}: expected {wanted}", f"{where}.{name}")
            return
    if end is not None and end <= begin:
        inspection.fail(
            f"ends at {end}, before or where it begins ({begin}): give an end above {begin}", where
        )
        return
    if by_epoch and unit == "iters" and not scheduler.get("convert_to_iter_based"):
        inspection.fail(
            f"{scheduler.get('type')} counts epochs (by_epoch=True, the default), but train_cfg "
            f"counts {total} iters, so it would never step: give by_epoch=False, and begin, end "
            "and milestones in iterations",
            where,
        )
        return
    if by_epoch != (unit == "epochs"):
        return  # iterations against epochs: known only with the data, see the data loaders
    if begin >= total:
        inspection.warn(
            f"begins at {begin}, but training ends after {total} {unit}: give an earlier begin",
            where,
        )
    if end is not None and end > total:
        inspection.warn(
            f"ends at {end}, but training ends after {total} {unit}, so the decay is cut off: "
            f"give end={total}, or train longer",
            where,
        )
    milestones = listed(scheduler.get("milestones"))
    if not all(isinstance(m, int) for m in milestones):
        inspection.fail(
            f"milestones are {scheduler['milestones']!r}: expected whole numbers of {unit}, for "
            f"example {[round(total * 2 / 3), round(total * 11 / 12)]}",
            where,
        )
        return
    late = [m for m in milestones if m >= total]
    if late:
        inspection.warn(
            f"milestones {late} are never reached in {total} {unit}: give smaller ones, for "
            f"example {[round(total * 2 / 3), round(total * 11 / 12)]}",
            where,
        )
    if milestones != sorted(milestones):
        inspection.warn(f"milestones {milestones} do not ascend: sort them", where)
    period = scheduler.get("T_max")
    if period is not None and end is not None and period != end - begin:
        inspection.warn(
            f"T_max={period} is not its length, {begin} to {end}: give T_max={end - begin}, or "
            "leave it out",
            where,
        )


def _check_intervals(inspection: Inspection, total: int, unit: str) -> None:
    cfg = inspection.cfg
    # mmengine's own defaults of the loops.
    interval = cfg.train_cfg.get("val_interval", 1 if unit == "epochs" else 1000)
    first = cfg.train_cfg.get("val_begin", 1)
    saving = (cfg.get("default_hooks") or {}).get("checkpoint")
    numbers = {"train_cfg.val_interval": interval, "train_cfg.val_begin": first}
    if saving is not None:
        numbers["default_hooks.checkpoint.interval"] = saving.get("interval", -1)
        numbers["default_hooks.checkpoint.max_keep_ckpts"] = saving.get("max_keep_ckpts", -1)
    right = True
    for where, number in numbers.items():
        lowest = 0 if where.endswith(("begin", "max_keep_ckpts")) else 1
        whole = isinstance(number, int) or (isinstance(number, float) and number.is_integer())
        if not whole or (number < lowest and number != -1):
            inspection.fail(f"is {number!r}: expected a whole number, {lowest} or more", where)
            right = False
    if not right:
        return
    if cfg.get("val_dataloader") is not None and max(interval, first) > total:
        never = first > total
        name, value = ("val_begin", first) if never else ("val_interval", interval)
        effect = "is never validated" if never else "is validated at its end only"
        inspection.warn(
            f"{name}={value} is more than the {total} {unit} of the training, which so {effect}: "
            f"give at most {total}",
            "train_cfg",
        )
    if saving is None:
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
    best = (saving or {}).get("save_best")
    if best and cfg.get("val_dataloader") is None:
        inspection.fail(
            f"save_best={best!r} needs validation: add val_dataloader, val_cfg and val_evaluator, "
            "or take save_best out",
            "default_hooks.checkpoint",
        )


def check_saving(inspection: Inspection, saving: Mapping, total: int, unit: str) -> None:
    """Compare the interval of checkpoints with a training of ``total`` epochs or iterations."""
    interval = saving.get("interval", -1)
    if 0 < interval <= total:
        return
    found = f"interval={interval}" + (
        f" is more than the {total} {unit} of the training"
        if interval > 0
        else " saves none on the way"
    )
    if not saving.get("save_last", True):
        inspection.fail(
            f"{found}, and save_last=False: nothing would ever be saved, give an interval of at "
            f"most {total}",
            "default_hooks.checkpoint",
        )
    else:
        inspection.warn(
            f"{found}: only its end is saved, and an interruption loses all, give an interval of "
            f"at most {total}",
            "default_hooks.checkpoint",
        )


def _check_batch_size(inspection: Inspection) -> None:
    cfg = inspection.cfg
    scaling = cfg.get("auto_scale_lr") or {}
    base = scaling.get("base_batch_size")
    loader = cfg.get("train_dataloader") or {}
    size = loader.get("batch_size")
    if not base or not isinstance(size, int) or scaling.get("enable"):
        return
    wrapper = cfg.get("optim_wrapper") or {}
    counts = wrapper.get("accumulative_counts", 1)
    if size < 1 or not isinstance(counts, int) or counts < 1:
        return  # reported as such
    true = size * inspection.processes * counts
    if true != base:
        inspection.warn(
            f"the learning rate belongs to {base} pictures per step "
            f"(auto_scale_lr.base_batch_size), and {true} are trained with ({size} x "
            f"{inspection.processes} processes): add --auto-scale-lr, or choose a rate for {true}",
            "train_dataloader.batch_size",
        )


def check_loaders(inspection: Inspection) -> str:
    """Data loaders that torch or the loops would refuse, or never come to the end of."""
    cfg = inspection.cfg
    _, unit = length(cfg)
    said = []
    for split in ("train", "val", "test"):
        loader = cfg.get(f"{split}_dataloader")
        if not loader:
            continue
        where = f"{split}_dataloader"
        size, workers = loader.get("batch_size", 1), loader.get("num_workers", 0)
        if not isinstance(size, int) or size < 1:
            inspection.fail(
                f"is {size!r}: expected a whole number, 1 or more", f"{where}.batch_size"
            )
        if not isinstance(workers, int) or workers < 0:
            inspection.fail(f"is {workers!r}: expected 0 or more", f"{where}.num_workers")
        elif not workers:
            for key in ("persistent_workers", "prefetch_factor"):
                if loader.get(key):
                    inspection.fail(
                        f"{key}={loader[key]} needs workers, but num_workers is 0: give "
                        f"num_workers=2, or take {key} out",
                        where,
                    )
        _check_sampler(inspection, where, loader, split, unit)
        said.append(f"{split} {size} x {workers} workers")
    return ", ".join(said)


def _check_sampler(
    inspection: Inspection, where: str, loader: Mapping, split: str, unit: str
) -> None:
    sampler = loader.get("sampler")
    if not isinstance(sampler, Mapping):
        inspection.fail(
            f"is {sampler!r}: give sampler=dict(type='DefaultSampler', shuffle={split == 'train'})",
            f"{where}.sampler",
        )
        return
    endless = "Infinite" in str(sampler.get("type"))
    if endless and (split != "train" or unit == "epochs"):
        what = "an epoch" if split == "train" else "it"
        inspection.fail(
            f"is {sampler['type']!r}, which never stops, so {what} would never end: write "
            "'DefaultSampler'",
            f"{where}.sampler.type",
        )
    if split == "train" and sampler.get("shuffle") is False:
        inspection.warn("is False: training needs shuffled pictures", f"{where}.sampler.shuffle")
