"""What trainings that are compared have in common: steps, batch, learning rate, pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from mmplugins.engine.config.settings import SettingError
from mmplugins.utils import write_whole

from .environment import differences

SHAPES_SIDE = 128
"""Pixels of the pictures that the anchors of the shapes recipes are made for."""

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Budget:
    """What all trials have in common.

    Attributes:
        steps: Optimiser steps, see :func:`schedule`.
        batch: Pictures per step.
        image_size: Side of the shapes pictures in pixels. Defaults to the recipe's own; other data
            have their size in the recipe.
        lr: Learning rate. Defaults to the recipe's own.
        amp: Whether in mixed precision.
        options: Further changes of the configs, dotted names to values.
    """

    steps: int = 500
    batch: int = 8
    image_size: int | None = None
    lr: float | None = None
    amp: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        if self.steps < 1 or self.batch < 1:
            raise ValueError(f"steps={self.steps}, batch={self.batch}: expected 1 or more")


def settle_budget(budget: Budget, folder: Path) -> None:
    """Note the budget in a folder of trials, or see that it is the one noted there.

    Raises:
        SettingError: If it is another: scores of two budgets must not stand in one table.
    """
    path, plain = Path(folder) / "budget.json", json.loads(json.dumps(asdict(budget), default=str))
    if path.is_file():
        noted = json.loads(path.read_text(encoding="utf-8"))
        if other := differences(noted, plain):
            raise SettingError(
                f"{folder} has trials of another budget, and such scores must not stand in one "
                f"table ({'; '.join(other)}): give another --out"
            )
    write_whole(path, json.dumps(plain, indent=1) + "\n")


def warm_up_steps(steps: int) -> int:
    """The first tenth of a training."""
    return max(1, steps // 10)


def schedule(steps: int) -> list[dict[str, Any]]:
    """The ``param_scheduler`` of all: a linear warm-up, with a cosine decay to 1 % over all."""
    return [
        dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=warm_up_steps(steps)),
        dict(type="CosineAnnealingLR", by_epoch=False, begin=0, end=steps, eta_min_ratio=0.01),
    ]


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
    """
    loaders = shapes_loaders(cfg)
    side = side or loaders[0].dataset.generate.get("image_size", SHAPES_SIDE)
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
