"""What trainings that are compared have in common: steps, batch, learning rate, pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from mmplugins.datasets.shapes import ShapesSpec
from mmplugins.engine import SettingError
from mmplugins.engine.config import settings

from .fields import check_count, check_fields

SHAPES_SIDE = 128
"""Pixels of the pictures that the anchors of the shapes recipes are made for."""

SPLITS = ("train", "val", "test")
"""Of a data set."""

DECAYS = ("cosine", "poly")
"""Ways by which a learning rate falls, beside steps; see :class:`Budget`."""


@dataclass(frozen=True)
class Budget:
    """What all trainings have in common.

    Attributes:
        steps: Optimiser steps, see :func:`schedule`.
        epochs: In place of ``steps``: passes over the training pictures, which then have as many
            steps as they take.
        batch: Pictures per step.
        image_size: Side of the shapes pictures in pixels. Defaults to the recipe's own; other data
            have their size in the recipe.
        amp: Whether in mixed precision.
        threads: Threads of a training on a CPU. The number changes sums in the last digits, hence
            it is fixed. Defaults to 1; further cores serve further trainings.
        decay: How the learning rate falls: ``'cosine'``, to 1 % of it; ``'poly'``, to zero by a
            power of 0.9; or shares of the training, at each of which it falls to a tenth.
        warm_up: Steps of a linear warm-up. Defaults to the first tenth of the training.
        options: Further changes of the configs, dotted names to values.
    """

    steps: int = 500
    epochs: int | None = None
    batch: int = 8
    image_size: int | None = None
    amp: bool = False
    threads: int = 1
    decay: str | tuple[float, ...] = "cosine"
    warm_up: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        for name in ("steps", "epochs", "batch", "image_size", "threads", "warm_up"):
            if (value := getattr(self, name)) is not None:
                check_count(name, value, 0 if name == "warm_up" else 1)
        check_fields(self)
        shares = () if isinstance(self.decay, str) else self.decay
        rising = list(shares) == sorted({share for share in shares if 0 < share < 1})
        if self.decay not in DECAYS and not (shares and rising):
            raise ValueError(
                f"decay={self.decay!r}: expected {' or '.join(DECAYS)}, or rising shares of the "
                "training such as [0.75, 0.917]"
            )

    def steps_for(self, pictures: int | None) -> int:
        """Optimiser steps over so many training pictures.

        Raises:
            SettingError: If the budget is in epochs and the number of pictures is not known.
        """
        if self.epochs is None:
            return self.steps
        if pictures is None:
            raise SettingError(
                "epochs: the number of pictures of this set is not known; give steps"
            )
        return math.ceil(self.epochs * pictures / self.batch)


def warm_up_steps(steps: int) -> int:
    """The first tenth of a training."""
    return max(1, steps // 10)


def schedule(
    steps: int, decay: str | tuple[float, ...] = "cosine", warm_up: int | None = None
) -> list[dict[str, Any]]:
    """The ``param_scheduler`` of all, see :class:`Budget`; a warm-up ends with the training."""
    rise = warm_up_steps(steps) if warm_up is None else min(warm_up, steps)
    span = dict(by_epoch=False, begin=0, end=steps)
    if decay == "cosine":
        fall = dict(type="CosineAnnealingLR", eta_min_ratio=0.01, **span)
    elif decay == "poly":
        fall = dict(type="PolyLR", power=0.9, eta_min=0.0, **span)
    else:
        at = [round(float(share) * steps) for share in decay]
        fall = dict(type="MultiStepLR", milestones=at, gamma=0.1, **span)
    first = dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=rise)
    return [first, fall] if rise else [fall]


def use_budget(
    cfg: Config,
    budget: Budget,
    pictures: int | None,
    folder: Path,
    seed: int,
    validations: int | None = None,
) -> None:
    """Make a recipe a training of this budget that may be interrupted.

    Args:
        cfg: The recipe, changed in place.
        budget: What it has in common with others; its options are left to the caller.
        pictures: Of its training set, see :meth:`Budget.steps_for`.
        folder: Where its checkpoints and logs go.
        seed: Of weights and data.
        validations: How often the model is validated, the last time at the end. Default: then only.
    """
    steps = budget.steps_for(pictures)
    cfg.train_dataloader.batch_size = budget.batch
    every = math.ceil(steps / (validations or 1))
    cfg.train_cfg = dict(type="IterBasedTrainLoop", max_iters=steps, val_interval=every)
    cfg.param_scheduler = schedule(steps, budget.decay, budget.warm_up)
    cfg.setdefault("log_processor", dict(type="LogProcessor")).by_epoch = False
    hooks = cfg.setdefault("default_hooks", {})
    hooks.setdefault("checkpoint", dict(type="CheckpointHook"))
    # A tenth of the work is the most that an interruption costs.
    hooks.checkpoint.update(
        interval=math.ceil(steps / 10), by_epoch=False, max_keep_ckpts=1, save_last=False
    )
    hooks.checkpoint.pop("save_best", None)
    for name in ("progress", "results"):  # the console belongs to whoever runs many
        hooks.pop(name, None)
    cfg.randomness = dict(seed=seed)
    cfg.work_dir = str(folder)
    cfg.log_level = "ERROR"
    if budget.amp:
        settings.use_amp(cfg)


def shapes_loaders(cfg: Config) -> list[ConfigDict]:
    """The data loaders of a config whose pictures are drawn: of the embedded shapes data."""
    loaders = (cfg.get(f"{split}_dataloader") for split in SPLITS)
    return [loader for loader in loaders if loader and "generate" in loader.dataset]


def use_shapes(cfg: Config, data: Path, side: int | None = None) -> None:
    """Let a recipe draw its shapes pictures in another folder, at another size.

    Objects shrink with the pictures, and so do the anchors.

    Args:
        cfg: The recipe, changed in place.
        data: Folder for the pictures.
        side: Their side in pixels. Defaults to the recipe's own.

    Raises:
        ValueError: If pictures of that side cannot be drawn.
    """
    loaders = shapes_loaders(cfg)
    side = side or loaders[0].dataset.generate.get("image_size", SHAPES_SIDE)
    ShapesSpec(side)  # or they would be refused when the first training draws them
    for loader in loaders:
        dataset = loader.dataset
        dataset.data_root = f"{data}/"
        dataset.generate = dict(dataset.generate, image_size=side)
        for step in dataset.pipeline:
            if step["type"] == "Resize":
                step["scale"] = (side, side)
    for split in SPLITS:
        if "ann_file" in (cfg.get(f"{split}_evaluator") or {}):
            cfg[f"{split}_evaluator"].ann_file = f"{data}/annotations/instances_val.json"
    for name in ("bbox_head", "rpn_head"):
        anchors = cfg.model.get(name, {}).get("anchor_generator", {})
        if "octave_base_scale" in anchors:
            anchors.octave_base_scale *= side / SHAPES_SIDE
        elif "scales" in anchors:
            anchors.scales = [scale * side / SHAPES_SIDE for scale in anchors.scales]
    if "size" in cfg.model.get("data_preprocessor", {}):
        cfg.model.data_preprocessor.size = (side, side)
