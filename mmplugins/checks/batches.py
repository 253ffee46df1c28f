"""A tiny real batch of a data loader's pictures, small enough for a CPU."""

from __future__ import annotations

import math
import traceback
from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from .explain import in_words, quoted_numbers, walk
from .inspection import Inspection, Stopped
from .parts import with_setting

MAX_PIXELS = 320 * 320
"""Pictures of more pixels are made smaller for the trial, by smaller sizes in the pipeline."""

_TRIED = 8  # pictures run through the pipeline, of which two with objects make the batch
_SIZES = {"scale", "scales", "crop_size", "img_scale", "size"}
_STEP = 32


class Trial:
    """Some pictures of one data loader, as its pipeline makes them.

    Args:
        inspection: The config.
        split: ``'train'`` or ``'val'``.

    Attributes:
        dataset: The data set, at full sizes.
        collate: What makes a batch of samples; :func:`load_trial` sets it.
        samples: What the pipeline made of some pictures, at full sizes.
        pixels: Pixels of the largest of them.
        factor: By which sizes are multiplied in :meth:`batch`, at most 1.
    """

    def __init__(self, inspection: Inspection, split: str):
        self.loader = inspection.cfg[f"{split}_dataloader"]
        self.dataset = build_dataset(self.loader.dataset)
        self.collate: Any = None
        count = min(_TRIED, len(self.dataset))
        self.chosen = np.linspace(0, len(self.dataset) - 1, count).round().astype(int).tolist()
        self.samples = [self.dataset[k] for k in self.chosen]
        self.pixels = max((pixels_of(sample) for sample in self.samples), default=0)
        moved = any("border" in v for _, v in walk(self.loader) if isinstance(v, Mapping))
        small = moved or self.pixels <= MAX_PIXELS
        self.factor = 1.0 if small else math.sqrt(MAX_PIXELS / self.pixels)

    def batch(self, count: int) -> Any:
        """A collated batch of up to ``count`` small pictures, those with objects first."""
        samples = self.samples
        if self.factor < 1:
            dataset = build_dataset(smaller(self.loader.dataset, self.factor))
            samples = [dataset[k] for k in self.chosen]
        samples = sorted(samples, key=lambda sample: not has_objects(sample))[:count]
        return self.collate(samples)


def load_trial(inspection: Inspection, split: str) -> Trial:
    """Some pictures of a split; a failure names the step of the pipeline."""
    where = f"{split}_dataloader.dataset"
    try:
        trial = Trial(inspection, split)
    except Exception as error:  # data sets and transforms may raise anything
        dataset = inspection.cfg[f"{split}_dataloader"].dataset
        if quoted := quoted_numbers(error, dataset, where):
            inspection.stop(quoted[1], quoted[0])
        step = _step_of(error)
        inspection.stop(
            f"loading pictures failed{f' in {step}' if step else ''} with {in_words(error)}; "
            "correct the pipeline step or the data it names",
            where,
        )
    if len(trial.dataset) == 0:
        inspection.stop(
            "has no pictures, or filter_cfg leaves none: expected at least 1, check ann_file, "
            "metainfo and filter_cfg",
            where,
        )
    # Some samplers look into the data, which are there only now.
    loader = dict(trial.loader, dataset=trial.dataset)
    build = partial(Runner.build_dataloader, loader)
    built = inspection.attempt(build, f"{split}_dataloader", trial.loader, (), DataLoader)
    if built is None:
        raise Stopped
    trial.collate = built.collate_fn
    return trial


def _step_of(error: Exception) -> str:
    """The innermost transform that an error went through."""
    owners = [f.f_locals.get("self") for f, _ in traceback.walk_tb(error.__traceback__)]
    steps = [type(o).__name__ for o in owners if isinstance(o, BaseTransform)]
    return steps[-1] if steps else ""


def build_dataset(cfg: Mapping) -> Dataset:
    """A data set with its annotations read; they stay Python objects, as no worker shares them."""
    # Serialising costs time, and fails on an empty data set with words that do not help.
    dataset = DATASETS.build(with_setting(deepcopy(cfg), "serialize_data", False))
    if hasattr(dataset, "full_init"):
        dataset.full_init()
    return dataset


def smaller(cfg: Any, factor: float) -> Any:
    """A copy in which every size in pixels is multiplied, and rounded to a multiple of 32."""
    if isinstance(cfg, Mapping):
        return {
            key: _scaled(value, factor) if key in _SIZES else smaller(value, factor)
            for key, value in cfg.items()
        }
    if isinstance(cfg, list | tuple):
        return type(cfg)(smaller(item, factor) for item in cfg)
    return cfg


def _scaled(value: Any, factor: float) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_scaled(item, factor) for item in value)
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return max(_STEP, round(value * factor / _STEP) * _STEP)
    return value


def pixels_of(sample: Any) -> int:
    """Height times width of what a pipeline puts out, 0 if that is no packed sample."""
    if not is_packed(sample):
        return 0
    return max((math.prod(t.shape[-2:]) for t in tensors(sample["inputs"])), default=0)


def tensors(inputs: Any) -> Iterator[Tensor]:
    """The pictures among a sample's inputs, which may be nested by branch or frame."""
    if isinstance(inputs, Tensor):
        yield inputs
    elif isinstance(inputs, Mapping | list | tuple):
        for inner in inputs.values() if isinstance(inputs, Mapping) else inputs:
            yield from tensors(inner)


def is_packed(sample: Any) -> bool:
    return isinstance(sample, Mapping) and {"inputs", "data_samples"} <= set(sample)


def has_objects(sample: Any) -> bool:
    """Whether a packed sample has something to learn: a box, or a labelled pixel."""
    annotated = sample["data_samples"]
    if not isinstance(annotated, BaseDataElement):
        return True
    if "gt_instances" in annotated:
        return len(annotated.gt_instances) > 0
    return "gt_sem_seg" in annotated
