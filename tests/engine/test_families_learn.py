"""Every family learns in every task: a hundred steps on a few shapes, from random weights.

To tell the classes of unseen shapes takes more steps than that; sixteen pictures can be learnt.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import mean

import pytest
from mmengine.config import Config

from mmplugins.backbones.catalog import families
from mmplugins.engine import load_composed, train

ROOT = Path(__file__).parents[2]
STEPS = 100
RECIPES = {
    "RetinaNet": "retinanet/retinanet_shapes.py",
    "Mask R-CNN": "mask_rcnn/mask-rcnn_shapes.py",
    "Semantic FPN": "semantic_fpn/semantic-fpn_shapes.py",
}
SMALLEST = [f"{family}_{next(iter(cls.variants))}" for family, cls in families().items()]
HYBRIDS = ["poolformer_s12_ppaa", "poolformer_s12_ppff"]


def config(recipe: str, backbone: str, folder: Path) -> Config:
    """The recipe at 64 pixels and batches of 4, counted in steps, without validation."""
    loader = dict(
        batch_size=4,
        dataset=dict(
            data_root=f"{folder.parent / 'shapes'}/",
            generate=dict(image_size=64, num_train=16, num_val=2, seed=0),
        ),
    )
    cfg = load_composed(
        ROOT / "configs" / recipe, backbone, {"train_dataloader": loader, "val_dataloader": loader}
    )
    cfg.work_dir = str(folder)
    cfg.train_cfg = dict(type="IterBasedTrainLoop", max_iters=STEPS, val_interval=10 * STEPS)
    cfg.param_scheduler = [dict(type="LinearLR", start_factor=0.01, by_epoch=False, end=20)]
    cfg.optim_wrapper.optimizer.lr = 1e-3
    cfg.default_hooks.logger.interval = 1
    cfg.default_hooks.checkpoint = dict(type="CheckpointHook", by_epoch=False, interval=STEPS)
    cfg.log_processor = dict(type="LogProcessor", by_epoch=False, window_size=1)
    for name in ("val", "test"):
        for part in ("cfg", "dataloader", "evaluator"):
            cfg[f"{name}_{part}"] = None
    return cfg


@pytest.mark.slow
@pytest.mark.parametrize("backbone", SMALLEST + HYBRIDS)
@pytest.mark.parametrize("recipe", RECIPES)
def test_learns(recipe: str, backbone: str, tmp_path_factory, record_property):
    """The last ten losses are below the first ten, and no loss is NaN or infinite."""
    folder = tmp_path_factory.getbasetemp() / f"{recipe}-{backbone}".replace(" ", "-")
    train(config(RECIPES[recipe], backbone, folder))
    (log,) = folder.glob("*/vis_data/scalars.json")
    losses = [json.loads(line)["loss"] for line in log.read_text().splitlines()]
    assert len(losses) == STEPS and all(map(math.isfinite, losses))
    first, last = mean(losses[:10]), mean(losses[-10:])
    print(f"\n| {recipe} | {backbone} | {first:.3f} | {last:.3f} |")
    assert last < first
