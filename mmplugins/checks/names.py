"""Names: of registered types, of their arguments, of config entries."""

from __future__ import annotations

import difflib
import inspect
import math
import multiprocessing
from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.utils.data import DataLoader

from mmplugins.utils import did_you_mean, few

from .inspection import Inspection, walk
from .registered import SCOPES, find, hint, registered_in, typed_entries

_TOP_LEVEL = {
    *("model", "work_dir", "train_dataloader", "val_dataloader", "test_dataloader"),
    *("train_cfg", "val_cfg", "test_cfg", "auto_scale_lr", "optim_wrapper", "param_scheduler"),
    *("val_evaluator", "test_evaluator", "default_hooks", "custom_hooks", "data_preprocessor"),
    *("load_from", "resume", "launcher", "env_cfg", "log_processor", "log_level", "visualizer"),
    *("default_scope", "randomness", "experiment_name", "custom_imports", "tta_model"),
    *("tta_pipeline", "find_unused_parameters", "runner_type"),
}
_LOADER = {"dataset", "sampler", "batch_sampler", "collate_fn", "worker_init_fn"}
_LOADER |= {"num_batch_per_epoch", "disable_subprocess_warning"}
_OF_MMCV_1 = dict(
    runner="train_cfg",
    total_epochs="train_cfg",
    optimizer="optim_wrapper",
    optimizer_config="optim_wrapper",
    lr_config="param_scheduler",
    evaluation="val_evaluator and train_cfg.val_interval",
    checkpoint_config="default_hooks.checkpoint",
    log_config="default_hooks.logger and visualizer",
    dist_params="env_cfg.dist_cfg",
    workflow="train_cfg",
)
"""Entries of OpenMMLab until 2022, and what has taken their place."""
_RANDOMNESS = {"seed", "diff_rank_seed", "deterministic"}
_LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_NEAR = 0.8  # below that a name that **kwargs may swallow is left to the class itself

# What builders take out of a dict before they call the class, or put in.
_TAKEN_OUT = {
    "HOOKS": {"priority"},
    "OPTIM_WRAPPERS": {"constructor", "paramwise_cfg"},
    "PARAM_SCHEDULERS": {"convert_to_iter_based", "epoch_length", "build_iter_from_epoch"},
    "WEIGHT_INITIALIZERS": {"layer", "override", "name"},
    "LOOPS": {"by_epoch"},
}
_OWN_BUILDERS = {"nms", "roi_layer", "upsample_cfg", "norm_cfg", "act_cfg", "conv_cfg", "dcn"}


def check_sections(inspection: Inspection) -> str:
    """Entries that the runner does not know, entries that come in threes, and NaN anywhere."""
    cfg = inspection.cfg
    for key in cfg:
        near = difflib.get_close_matches(key, _TOP_LEVEL, 1, 0.9)
        if near and key not in _TOP_LEVEL:
            inspection.warn(f"is not read by anyone: did you mean {near[0]!r}?", key)
        elif key in _OF_MMCV_1 and not _is_used(cfg, key, inspection.scope):
            inspection.warn(
                f"was read by OpenMMLab 1.x, and nobody reads it now: give {_OF_MMCV_1[key]}", key
            )
    for split, others in (
        ("train", ("train_cfg", "optim_wrapper")),
        ("val", ("val_cfg", "val_evaluator")),
        ("test", ("test_cfg", "test_evaluator")),
    ):
        parts = (f"{split}_dataloader", *others)
        given = [part for part in parts if cfg.get(part) is not None]
        absent = [part for part in parts if part not in given]
        if split == "train" and "model" not in cfg:
            inspection.fail("is absent: give model=dict(type=...)", "model")
        if (given and absent) or (absent and split == "train"):
            ways = "add it" if split == "train" else "add it, or set all three to None"
            inspection.fail(
                f"is absent, but {split} needs {', '.join(parts)} together: {ways}", absent[0]
            )
    _check_runner_values(inspection)
    for where, value in walk(cfg.to_dict()):
        if isinstance(value, float) and math.isnan(value):
            inspection.fail("is NaN: expected a number, check how it is computed", where)
        elif where.endswith("loss_weight") and isinstance(value, int | float) and value <= 0:
            say = inspection.warn if value == 0 else inspection.fail
            effect = "switches the loss off" if value == 0 else "makes the loss grow in training"
            say(f"is {value}, which {effect}: give a positive weight", where)
    return f"{sum(key in _TOP_LEVEL for key in cfg)} entries for the runner"


def _is_used(cfg: Mapping, key: str, scope: str) -> bool:
    """Whether an entry is only a name for what another one holds."""
    if key == "optimizer" and scope == "mmseg":  # its schedules have one, used or replaced
        return True
    return any(value == cfg[key] for other in cfg if other != key for _, value in walk(cfg[other]))


def _check_runner_values(inspection: Inspection) -> None:
    """Values that the runner meets before or while it starts."""
    cfg = inspection.cfg
    randomness = cfg.get("randomness") or {}
    seed = randomness.get("seed")
    if seed is not None and (not isinstance(seed, int) or not 0 <= seed < 2**32):
        inspection.fail(
            f"is {seed!r}: expected a whole number from 0 to 2**32 - 1, or None", "randomness.seed"
        )
    _compare(inspection, "randomness", randomness, _RANDOMNESS, "the runner")
    level = cfg.get("log_level", "INFO")
    if not isinstance(level, int) and level not in _LOG_LEVELS:
        inspection.fail(
            f"is {level!r}: expected one of {', '.join(_LOG_LEVELS)}."
            f"{did_you_mean(level, _LOG_LEVELS)}",
            "log_level",
        )
    window = (cfg.get("log_processor") or {}).get("window_size", 10)
    if not isinstance(window, int) or window < 1:
        inspection.fail(
            f"is {window!r}: expected a whole number of iterations", "log_processor.window_size"
        )
    start = ((cfg.get("env_cfg") or {}).get("mp_cfg") or {}).get("mp_start_method")
    methods = multiprocessing.get_all_start_methods()
    if start is not None and start not in methods:
        inspection.fail(
            f"is {start!r}: expected one of {', '.join(methods)}.{did_you_mean(start, methods)}",
            "env_cfg.mp_cfg.mp_start_method",
        )
    if not isinstance(cfg.get("resume") or False, bool):
        inspection.fail(
            f"is {cfg.resume!r}: expected True or False; the file to go on from is load_from",
            "resume",
        )
    scaling = cfg.get("auto_scale_lr") or {}
    if scaling.get("enable") and not scaling.get("base_batch_size"):
        inspection.fail(
            "is enabled, and does not say for which batch size the rate is: give "
            "base_batch_size=16, or another",
            "auto_scale_lr",
        )


def check_types(inspection: Inspection) -> str:
    """Every ``type`` must be registered, in the registry and the scope in which it is looked up."""
    scope, count = inspection.scope, 0
    name = (inspection.cfg.get("model") or {}).get("type")
    if isinstance(name, str) and find("MODELS", name, scope) is None:
        other = next((s for s in SCOPES if s != scope and registered_in("MODELS", name, s)), None)
        if other:
            inspection.fail(
                f"is {inspection.cfg.get('default_scope')!r}, but model.type {name!r} belongs to "
                f"{other}: set default_scope={other!r}",
                "default_scope",
            )
            return ""
    for typed in typed_entries(inspection.cfg):
        name = typed.cfg["type"]
        if not isinstance(name, str):
            continue
        if typed.registry == "MODELS" and ".backbone." in f"{typed.where}.":
            parts = typed.where.split(".backbone")[-1]
            if parts and not parts.startswith(".init_cfg"):
                continue  # mixers and norms have registries of their own; building tells
        count += 1
        inner = str(typed.cfg.get("_scope_") or scope)
        try:
            found = find(typed.registry, name, inner)
        except ImportError as error:
            inspection.fail(f"{name!r} cannot be imported, {error}", f"{typed.where}.type")
            continue
        if found is None:
            kind = "" if typed.registry == "mmcv.ops" else f" among the {typed.registry} of {scope}"
            inspection.fail(
                f"{name!r} is not there{kind}: {hint(typed.registry, name, inner)}",
                f"{typed.where}.type",
            )
    constructor = (inspection.cfg.get("optim_wrapper") or {}).get("constructor")
    if isinstance(constructor, str):
        registry = "OPTIM_WRAPPER_CONSTRUCTORS"
        if find(registry, constructor, scope) is None:
            inspection.fail(
                f"{constructor!r} is not there: {hint(registry, constructor, scope)}",
                "optim_wrapper.constructor",
            )
    return f"{count} names are registered in {scope}"


def check_arguments(inspection: Inspection) -> str:
    """Arguments that a registered class does not take, where its signature tells."""
    for split in ("train", "val", "test"):
        where = f"{split}_dataloader"
        accepted = _LOADER | set(inspect.signature(DataLoader).parameters)
        _compare(inspection, where, inspection.cfg.get(where) or {}, accepted, "a data loader")
    for typed in typed_entries(inspection.cfg):
        if typed.key in _OWN_BUILDERS or typed.registry == "mmcv.ops":
            continue
        try:
            cls = typed.cfg["type"]
            cls = find(typed.registry, cls, inspection.scope) if isinstance(cls, str) else cls
        except ImportError:
            continue
        if not callable(cls):
            continue  # reported by its name
        accepted, closed = accepted_arguments(cls)
        accepted |= _TAKEN_OUT.get(typed.registry, set())
        _compare(inspection, typed.where, typed.cfg, accepted, typed.cfg["type"], closed)
    return "all arguments are known to their classes"


def _compare(
    inspection: Inspection,
    where: str,
    cfg: Mapping,
    accepted: set[str],
    owner: Any,
    closed: bool = True,
) -> None:
    for key in cfg:
        if key in accepted or key in ("type", "_delete_", "_scope_"):
            continue
        if closed or difflib.get_close_matches(key, accepted, 1, _NEAR):
            names = few(sorted(accepted), 12) or "none"
            near = did_you_mean(key, accepted)
            inspection.fail(
                f"{owner} takes no such argument; it takes {names}.{near}", f"{where}.{key}"
            )


def accepted_arguments(cls: Any) -> tuple[set[str], bool]:
    """Names of the arguments of a class or function, looked up through ``**kwargs``.

    Returns:
        The names, and whether they are all: False if ``**kwargs`` go where no signature shows.
    """
    names: set[str] = set()
    if not inspect.isclass(cls):
        parameters = inspect.signature(cls).parameters.values()
        closed = all(p.kind is not p.VAR_KEYWORD for p in parameters)
        return {p.name for p in parameters}, closed
    passed_on = False
    for base in cls.__mro__:
        if base in (object, nn.Module) or "__init__" not in vars(base):
            continue
        try:
            parameters = list(inspect.signature(base.__init__).parameters.values())[1:]
        except ValueError:  # written in C
            return names, False
        kinds = {p.kind for p in parameters}
        names |= {p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            # A constructor that hands its keywords on may have kept some for other uses.
            return names, not passed_on
        passed_on = True
    return names, False
