"""Every part of a config that can be built without pictures, built as mmengine's runner will."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.dataset import BaseDataset
from mmengine.hooks import CheckpointHook, EMAHook, Hook
from mmengine.logging import MessageHub, MMLogger
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DATASETS, EVALUATOR, HOOKS, METRICS, MODELS, Registry
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader, Dataset

from mmplugins.engine.config.constructors import accepted_arguments, class_of
from mmplugins.engine.config.fitting import check_fit
from mmplugins.engine.config.outline import PROBE_SIDE, ComposedConfig, Maps
from mmplugins.utils import listed, type_name

from .explain import in_words
from .inspection import Inspection, metrics_of

_UNSEEN = (AttributeError, AssertionError, NotImplementedError, FileNotFoundError)
"""Errors of samplers and metrics that looked into data which are not there."""


class IdleRunner(Runner):
    """A runner that has a config and starts nothing, to build single parts as training will.

    Args:
        cfg: A whole config.
        folder: Where its parts may write.
        length: How many batches its training data have.
    """

    def __init__(
        self, cfg: Any, folder: str, length: int = 1000
    ) -> None:  # not of Runner, which would start
        self.cfg = cfg
        self._experiment_name = "check"
        self._work_dir = self._log_dir = folder
        self._hooks: list[Hook] = []
        self._distributed, self._launcher, self._rank, self._world_size = False, "none", 0, 1
        self._seed, self._deterministic = 0, False
        self._randomness_cfg: dict[str, Any] = {}
        self._train_dataloader = _Batches(length)
        self._val_dataloader = self._test_dataloader = None
        self._train_loop = self._val_loop = self._test_loop = None
        self.param_schedulers = None
        self.logger = MMLogger.get_current_instance()
        self.message_hub = MessageHub.get_current_instance()
        self.visualizer = type("Visualizer", (), {})()


class _Batches:
    """Stands for a data loader, of which loops only ask the length."""

    def __init__(self, length: int) -> None:
        self.length, self.dataset, self.sampler = length, _NoPictures(), None
        self.batch_sampler = self

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator:
        return iter(())


class _NoPictures(Dataset):
    """Stands for a data set, of which most samplers only ask the length."""

    metainfo: dict[str, Any] = {}

    def __len__(self) -> int:
        return 1000


def check_model(inspection: Inspection) -> str:
    """Build the model, with random weights, on the CPU."""
    cfg = deepcopy(inspection.cfg.model)
    data_preprocessor = inspection.cfg.get("data_preprocessor")
    if data_preprocessor is not None:
        cfg.setdefault("data_preprocessor", data_preprocessor)
    model = inspection.attempt(partial(_build, MODELS, cfg), "model", inspection.cfg.model)
    if model is None:
        return ""
    # One process has plain batch norm; mmengine's runner does the same.
    inspection.model = revert_sync_batchnorm(model)
    learnt = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    if not learnt:
        inspection.fail(
            f"all {total:,} parameters are frozen: lower frozen_stages, or train a head", "model"
        )
    return f"{type_name(cfg)}: {total:,} parameters, {learnt:,} of them trainable"


def _build(registry: Registry, cfg: Any) -> Any:
    """Build by the method that a registry has when it is called, as one that is watched."""
    return registry.build(cfg)


def check_maps(inspection: Inspection) -> str:
    """Maps from backbone to neck to heads: number, channels, strides."""
    model = inspection.model
    check_fit(ComposedConfig.of(inspection.cfg, model))
    backbone, neck = getattr(model, "backbone", None), getattr(model, "neck", None)
    if backbone is None:
        return f"{type(model).__name__} has no backbone to look at"
    config = inspection.trained[1].get("backbone") or {}
    channels = config.get("in_channels", config.get("in_chans", 3))
    model.eval()
    try:
        with torch.no_grad():
            out = backbone(torch.zeros(1, channels, PROBE_SIDE, PROBE_SIDE))
            said = [f"{type(backbone).__name__} puts out {Maps.of(out)}"]
            if neck is not None:
                said.append(f"{type(neck).__name__} {Maps.of(neck(out))}")
    except Exception:  # of a fixed size, or with other inputs: the training step tells
        return f"{type(backbone).__name__} puts out no maps of {PROBE_SIDE}x{PROBE_SIDE} pixels"
    if not getattr(getattr(model, "roi_head", None), "with_shared_head", False):
        _check_regions(inspection, model)
    return "; ".join(said)


def _check_regions(inspection: Inspection, model: nn.Module) -> None:
    """Heads behind RoI extractors, those of a cascade one by one."""
    roi = getattr(model, "roi_head", None)
    for part in ("bbox", "mask"):
        extractors = getattr(roi, f"{part}_roi_extractor", None)
        heads = getattr(roi, f"{part}_head", None)
        many = isinstance(extractors, nn.ModuleList)
        pairs = [(extractors, heads)]
        if extractors is not None and heads is not None and many:
            pairs = list(zip(extractors, heads, strict=False))
        for k, (extractor, head) in enumerate(pairs):
            given = getattr(extractor, "out_channels", None)
            wanted = getattr(head, "in_channels", 0)
            if isinstance(given, int) and isinstance(wanted, int) and wanted not in (0, given):
                inspection.fail(
                    f"is {wanted}, but its RoI extractor gives {given} channels: give "
                    f"in_channels={given}",
                    f"model.roi_head.{part}_head" + (f"[{k}]" if many else "") + ".in_channels",
                )


def check_hooks(inspection: Inspection) -> str:
    """Build the visualizer, the log processor and every hook."""
    cfg, runner = deepcopy(inspection.cfg), IdleRunner(inspection.cfg, inspection.folder)
    if isinstance(cfg.get("visualizer"), Mapping):
        cfg.visualizer.name = "mmplugins-check"  # or an earlier one of its name is returned
    for where, build in (
        ("visualizer", runner.build_visualizer),
        ("log_processor", runner.build_log_processor),
    ):
        if cfg.get(where) is not None:
            inspection.attempt(partial(build, cfg[where]), where, inspection.cfg[where])
    entries = [
        (f"default_hooks.{name}", hook)
        for name, hook in (inspection.cfg.get("default_hooks") or {}).items()
        if hook is not None  # which switches a hook off
    ]
    own = listed(inspection.cfg.get("custom_hooks"))
    entries += [(f"custom_hooks[{k}]", hook) for k, hook in enumerate(own)]
    for where, hook in entries:
        if "visualizer" not in inspection.broken or "Visualization" not in str(hook):
            built = inspection.attempt(partial(_build_hook, hook), where, hook)
            if isinstance(built, CheckpointHook):  # takes whatever the runner takes when it saves
                saving = inspect.signature(Runner.save_checkpoint)
                taken = partial(saving.bind_partial, None, **built.args)
                inspection.attempt(taken, where, hook, owner=type(built))
    return f"{len(entries)} hooks"


def _build_hook(hook: Any) -> Hook:
    given = isinstance(hook, Mapping)
    built = HOOKS.build({k: v for k, v in hook.items() if k != "priority"} if given else hook)
    if not isinstance(built, Hook):
        raise ValueError(f"is a {type(built).__name__}: expected a hook")
    if isinstance(built, EMAHook):  # takes whatever the average takes, and builds it late
        MODELS.build(built.ema_cfg, default_args=dict(model=nn.Identity()))
    return built


def check_datasets(inspection: Inspection) -> str:
    """Build data sets and their pipelines, before anything of theirs is read."""
    loaders = {s: inspection.cfg.get(f"{s}_dataloader") for s in ("train", "val", "test")}
    given = {split: loader.get("dataset") for split, loader in loaders.items() if loader}
    built = 0
    for split, dataset in given.items():
        # What a data set reads to be built at all, the check of the data tells.
        build = partial(_build_dataset, with_setting(dataset, "lazy_init", True))
        made = inspection.attempt(build, f"{split}_dataloader.dataset", dataset, (OSError,))
        built += made is not None
    return f"{built} of {len(given)} data sets built"


def _build_dataset(cfg: Mapping) -> Any:
    try:
        return DATASETS.build(cfg)
    except AssertionError as error:  # of mmseg's data sets, that their files exist
        if re.search(r"exists|isfile|isdir", in_words(error)):
            raise FileNotFoundError from error
        raise


def with_setting(cfg: Any, name: str, value: Any) -> Any:
    """A copy of a data set's config with a setting, there and in wrapped ones, where it is taken.

    What the class of an unknown type would take is not known; it is given the setting, too.
    """
    if isinstance(cfg, list | tuple):
        return [with_setting(one, name, value) for one in cfg]
    if not isinstance(cfg, Mapping):
        return cfg
    cfg = ConfigDict(cfg)
    for key in {"dataset", "datasets"} & set(cfg):
        cfg[key] = with_setting(cfg[key], name, value)
    if name in accepted_arguments(class_of(DATASETS, cfg) or BaseDataset):
        cfg[name] = value
    return cfg


def check_loaders(inspection: Inspection) -> str:
    """Samplers, collation and loaders around data sets that are not there yet."""
    said = []
    for split in ("train", "val", "test"):
        where, loader = f"{split}_dataloader", inspection.cfg.get(f"{split}_dataloader")
        if loader is None:
            continue
        given = deepcopy(dict(loader, dataset=_NoPictures()))
        build = partial(_build_loader, given)
        inspection.attempt(build, where, loader, _UNSEEN, DataLoader)
        _check_sampler(inspection, where, loader, split)
        said.append(
            f"{split} {loader.get('batch_size', 1)} x {loader.get('num_workers', 0)} workers"
        )
    return ", ".join(said)


def _build_loader(loader: dict) -> None:
    try:
        Runner.build_dataloader(loader)
    except ValueError as error:
        if getattr(error, "part", None):  # of a sampler that looked into the data
            raise NotImplementedError from error
        raise


def _check_sampler(inspection: Inspection, where: str, loader: Mapping, split: str) -> None:
    sampler = loader.get("sampler")
    if not isinstance(sampler, Mapping) or "type" not in sampler:
        return
    loop = inspection.cfg.get("train_cfg")
    by_epoch = isinstance(loop, Mapping) and "max_epochs" in loop
    if "Infinite" in type_name(sampler) and (split != "train" or by_epoch):
        what = "an epoch" if split == "train" else "it"
        inspection.fail(
            f"is {type_name(sampler)!r}, which never stops, so {what} would never end: write "
            "'DefaultSampler'",
            f"{where}.sampler.type",
        )
    if split == "train" and sampler.get("shuffle") is False:
        inspection.warn("is False: training needs shuffled pictures", f"{where}.sampler.shuffle")


def check_metrics(inspection: Inspection) -> str:
    """Build the metrics; what reads annotations that are not there, the check of the data tells."""
    for split in ("val", "test"):
        where, given = f"{split}_evaluator", inspection.cfg.get(f"{split}_evaluator")
        metrics = metrics_of(inspection.cfg, split)
        wraps = isinstance(given, Mapping) and "type" in given
        if wraps and any(place.startswith(f"{where}.") for place, _ in metrics):
            # What a wrapper makes of its metrics, the validation tells.
            alone = dict(given, metrics=[])
            unsure = (AssertionError, IndexError)
            inspection.attempt(partial(_build, EVALUATOR, alone), where, given, unsure)
        for where, metric in metrics:
            build = partial(_build, METRICS, inspection.harmless(metric))
            inspection.metrics[where] = inspection.attempt(build, where, metric, (OSError,))
    built = sum(metric is not None for metric in inspection.metrics.values())
    return f"{built} of {len(inspection.metrics)} metrics built"
