"""One budget to a folder, and what it makes of a recipe of the shapes data."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.config import Config

from mmplugins.benchmark.budget import (
    Budget,
    schedule,
    settle_budget,
    shapes_loaders,
    use_shapes,
    warm_up_steps,
)
from mmplugins.engine import SettingError

CONFIGS = Path(__file__).parents[2] / "configs"


def test_one_budget_to_a_folder(tmp_path):
    budget = Budget(3, 2, 64, 1e-3, options={"train_dataloader.num_workers": 0})
    settle_budget(budget, tmp_path)
    settle_budget(budget, tmp_path)
    with pytest.raises(SettingError, match="steps: 3, now 4"):
        settle_budget(Budget(4, 2, 64, 1e-3, options=budget.options), tmp_path)
    with pytest.raises(ValueError, match="expected 1 or more"):
        Budget(steps=0)


@pytest.mark.parametrize(("steps", "warm_up"), [(1, 1), (9, 1), (20, 2), (500, 50)])
def test_schedule(steps, warm_up):
    first, second = schedule(steps)
    assert warm_up_steps(steps) == first["end"] == warm_up
    assert (second["begin"], second["end"], second["eta_min_ratio"]) == (0, steps, 0.01)


def test_every_split_draws_the_same_pictures(tmp_path):
    cfg = Config.fromfile(CONFIGS / "retinanet/retinanet_shapes.py")
    before = dict(cfg.train_dataloader.dataset.generate)
    use_shapes(cfg, tmp_path)
    for split in ("train", "val", "test"):
        assert cfg[f"{split}_dataloader"].dataset.data_root == f"{tmp_path}/"
        assert cfg[f"{split}_dataloader"].dataset.generate == before
    for split in ("val", "test"):
        assert cfg[f"{split}_evaluator"].ann_file == f"{tmp_path}/annotations/instances_val.json"
    assert cfg.model.bbox_head.anchor_generator.octave_base_scale == 3


def test_objects_and_anchors_shrink_with_the_pictures(tmp_path):
    cfg = Config.fromfile(CONFIGS / "retinanet/retinanet_shapes.py")
    use_shapes(cfg, tmp_path, 96)
    assert len(shapes_loaders(cfg)) == 3
    for loader in shapes_loaders(cfg):
        assert loader.dataset.generate.image_size == 96
        (resize,) = [step for step in loader.dataset.pipeline if step.type == "Resize"]
        assert resize.scale == (96, 96)
    assert cfg.model.bbox_head.anchor_generator.octave_base_scale == 3 * 96 / 128


def test_other_data_are_not_drawn():
    assert shapes_loaders(Config(dict(train_dataloader=dict(dataset=dict(type="Coco"))))) == []
