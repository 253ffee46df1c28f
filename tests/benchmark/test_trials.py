"""Trials of a tiny backbone: three steps on six pictures, interrupted, resumed, failed, read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmseg.registry import MODELS

from mmplugins.benchmark.budget import Budget
from mmplugins.benchmark.trials import (
    name_backbone,
    plan,
    run_trial,
    score_of,
    task_name,
    trial_config,
)
from mmplugins.benchmark.work_dirs import read_work_dir
from mmplugins.engine import SettingError

CONFIGS = Path(__file__).parents[2] / "configs"
RETINANET = CONFIGS / "retinanet/retinanet_shapes.py"
MASK_RCNN = CONFIGS / "mask_rcnn/mask-rcnn_shapes.py"
SEMANTIC = CONFIGS / "semantic_fpn/semantic-fpn_shapes.py"
TINY = "tiny=dict(type='PoolFormer', arch=dict(depths=(1, 1, 1, 1), dims=(8, 16, 24, 32)))"
LOADERS = ("train_dataloader", "val_dataloader")
SMALL = {f"{name}.{k}": v for name in LOADERS for k, v in {
    "num_workers": 0, "persistent_workers": False, "dataset.generate.num_train": 6,
    "dataset.generate.num_val": 2}.items()}  # fmt: skip
BUDGET = Budget(3, 2, 64, 1e-3, options=SMALL)


def one(folder, config=SEMANTIC, backbone=TINY):
    return plan([config], [backbone], 1, folder / "trials")[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("leaderboard")


@pytest.fixture(scope="module")
def done(folder):
    """A trial stopped after two steps, and gone on with."""
    trial, steps = one(folder), []

    def stop(step):
        steps.append(step)
        if step == 2 and len(steps) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_trial(trial, BUDGET, folder / "shapes", stop)
    assert steps == [0, 1, 2] and trial.done() is None and not trial.result.exists()
    assert list(trial.folder.glob("iter_*.pth"))
    return trial, run_trial(trial, BUDGET, folder / "shapes", steps.append), steps


def test_an_interrupted_trial_goes_on(done):
    trial, result, steps = done
    assert steps[3:][0] in (1, 2) and steps[-1] == 3  # from its checkpoint
    assert result["failure"] is None and 0 <= result["score"] <= 100
    assert result["score"] == result["metrics"]["mIoU"]
    assert trial.done() == json.loads(json.dumps(result))
    assert result["environment"]["threads"] == torch.get_num_threads()
    assert not list(trial.folder.glob("*.pth"))


def test_a_work_dir_is_read(done):
    trial, result, _ = done
    read = read_work_dir(trial.folder)
    assert read["score"] == pytest.approx(result["score"])
    assert (read["task"], read["config"], read["seed"]) == ("semantic", SEMANTIC.stem, 0)
    assert read["family"] == "poolformer" and read["steps"] == 3


def test_results_files_come_first(done, tmp_path):
    (tmp_path / "net.py").write_text((done[0].folder / f"{SEMANTIC.stem}.py").read_text())
    found = {"coco/bbox_mAP": 0.25, "coco/segm_mAP": 0.5, "coco/bbox_mAP_s": None}
    (tmp_path / "results.json").write_text(json.dumps(dict(iteration=7, metrics=found)))
    read = read_work_dir(tmp_path)
    assert (read["task"], read["score"], read["steps"]) == ("instance", 50.0, 7)


def test_a_folder_without_scores(tmp_path):
    with pytest.raises(FileNotFoundError, match="no training log"):
        read_work_dir(tmp_path)


def test_a_result_of_another_backbone_of_that_name_is_refused(done, folder):
    other = one(folder, backbone=TINY.replace("PoolFormer", "ConvFormer"))
    assert other.folder == done[0].folder
    with pytest.raises(SettingError, match=r"(?s)'tiny' is now dict\(type='ConvFormer'.*--out"):
        other.done()


def test_weights_to_start_from_are_not_gone_on_from(done, folder):
    """An interrupted trial goes on from its own checkpoint, whatever the recipe loads."""
    trial = one(folder, backbone=TINY.replace("tiny=", "loaded="))
    model = MODELS.build(trial_config(trial, BUDGET, folder / "shapes").model)
    torch.save(model.state_dict(), folder / "start.pth")
    options = {**SMALL, "load_from": str(folder / "start.pth")}
    budget, steps = replace(BUDGET, options=options), []

    def stop(step):
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_trial(trial, budget, folder / "shapes", stop)
    result = run_trial(trial, budget, folder / "shapes", steps.append)
    assert result["failure"] is None and steps[0] > 0


def test_a_failed_trial_is_a_result_with_a_reason(folder):
    trial = one(folder, backbone="no_such_backbone")
    result = run_trial(trial, BUDGET, folder / "shapes")
    assert "Unknown backbone 'no_such_backbone'" in result["failure"] and result["score"] is None
    assert result["task"] == "semantic" and trial.done() is None
    assert "Traceback" in (trial.folder / "error.txt").read_text()


@pytest.mark.parametrize(
    ("config", "task", "path", "value"),
    [
        (RETINANET, "detection", "bbox_head.anchor_generator.octave_base_scale", 1.5),
        (MASK_RCNN, "instance", "rpn_head.anchor_generator.scales", [2, 2.8]),
        (SEMANTIC, "semantic", "data_preprocessor.size", (64, 64)),
    ],
)
def test_budget_in_the_config(config, task, path, value, tmp_path):
    trial = one(tmp_path, config)
    cfg = trial_config(trial, BUDGET, tmp_path / "shapes")
    assert task_name(cfg) == task
    assert cfg.train_cfg.max_iters == 3 and cfg.train_dataloader.batch_size == 2
    assert cfg.optim_wrapper.optimizer.lr == 1e-3 and cfg.randomness.seed == 0
    for name in LOADERS:
        assert cfg[name].dataset.generate.image_size == 64
        assert cfg[name].dataset.data_root == f"{tmp_path}/shapes/"
    found = cfg.model
    for key in path.split("."):
        found = found[key]
    assert found == value
    lr = trial_config(trial, Budget(3), tmp_path).optim_wrapper.optimizer.lr
    assert lr == Config.fromfile(config).optim_wrapper.optimizer.lr


def test_scores():
    assert score_of({"coco/bbox_mAP": 0.5, "coco/bbox_mAP_50": 0.7}, "detection") == 50
    assert score_of({}, "detection") == 0
    for metrics, task in (({}, "semantic"), ({"coco/bbox_mAP": 0.5}, "instance")):
        with pytest.raises(ValueError, match="among the metrics"):
            score_of(metrics, task)


def test_names(tmp_path):
    assert name_backbone(TINY)[0] == "tiny" and name_backbone(TINY)[1].startswith("dict(")
    assert name_backbone("timm/resnet50") == ("timm/resnet50", "timm/resnet50")
    trials = plan([SEMANTIC, RETINANET], ["a", TINY, "a"], 2, tmp_path)
    assert len(trials) == 8 and [t.seed for t in trials] == [0] * 4 + [1] * 4
    assert len({t.folder for t in trials}) == 8
    with pytest.raises(SettingError, match="seeds=0: expected 1 or more"):
        plan([SEMANTIC], [TINY], 0, tmp_path)
    with pytest.raises(SettingError, match=r"two backbones are called 'tiny'"):
        plan([SEMANTIC], [TINY, "tiny=dict(type='ResNet')"], 1, tmp_path)
