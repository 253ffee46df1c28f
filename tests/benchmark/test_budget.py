"""A budget, and what it makes of a recipe of the shapes data."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS

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


def rates(steps, **how):
    """The rates of all steps, by mmengine's own schedulers on a rate of 1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedulers = [
        PARAM_SCHEDULERS.build(dict(s, optimizer=optimizer)) for s in schedule(steps, **how)
    ]
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    return found


def test_decays():
    falling = rates(12, decay=[2 / 3, 11 / 12], warm_up=0)
    assert falling == pytest.approx([1.0] * 8 + [0.1] * 3 + [0.01])
    falling = rates(10, decay="poly", warm_up=0)
    assert falling == pytest.approx([(1 - k / 9) ** 0.9 for k in range(10)])
    warm = rates(20, warm_up=4)
    assert warm[0] == pytest.approx(0.01) and max(warm) < 1 and warm.index(max(warm)) in (3, 4)
    assert len(rates(2, warm_up=500)) == 2
    for wrong in (
        dict(decay="linear"),
        dict(decay=[0.9, 0.5]),
        dict(decay=[8, 11]),
        dict(decay=[]),
    ):
        with pytest.raises(ValueError, match="decay=.*expected cosine or poly, or rising shares"):
            Budget(**wrong)
    with pytest.raises(ValueError, match="warm_up=-1: expected a whole number of 0 or more"):
        Budget(warm_up=-1)


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
