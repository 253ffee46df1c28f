"""A budget, and what it makes of a recipe of the shapes data."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.config import Config

from mmplugins.benchmark.budget import (
    Budget,
    schedule,
    shapes_loaders,
    use_shapes,
    warm_up_steps,
)

CONFIGS = Path(__file__).parents[2] / "configs"


def test_steps_or_epochs():
    assert Budget(steps=7).steps_for(None) == 7
    assert Budget(epochs=3, batch=4).steps_for(10) == 8
    with pytest.raises(ValueError, match="number of pictures of this set is not known"):
        Budget(epochs=3).steps_for(None)
    for wrong in (dict(steps=0), dict(batch=1.5), dict(threads=True), dict(epochs=0)):
        with pytest.raises(ValueError, match="expected a whole number of 1 or more"):
            Budget(**wrong)


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
