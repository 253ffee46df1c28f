"""Experiments with a tiny backbone: three steps on six pictures, interrupted, resumed, failed."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from filelock import FileLock
from mmengine.evaluator import Evaluator
from mmseg.registry import MODELS

from mmplugins.benchmark.budget import Budget
from mmplugins.benchmark.experiment import TASKS, run_experiment, score_of, task_name
from mmplugins.benchmark.protocol import DataSet, Protocol
from mmplugins.benchmark.protocol_files import find_recipe
from mmplugins.benchmark.runs import name_backbones, plan, run_config
from mmplugins.benchmark.work_dirs import read_work_dir
from mmplugins.engine import SettingError, load_config

SEMANTIC = find_recipe("semantic_fpn/semantic-fpn_shapes.py")
TINY = "tiny=dict(type='PoolFormer', arch=dict(depths=(1, 1, 1, 1), dims=(8, 16, 24, 32)))"
LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
SMALL = {f"{name}.{k}": v for name in LOADERS for k, v in {
    "num_workers": 0, "persistent_workers": False, "dataset.generate.num_train": 6,
    "dataset.generate.num_val": 2}.items()}  # fmt: skip
BUDGET = Budget(3, batch=2, image_size=64, options=SMALL)


def one(folder, backbone=TINY, budget=BUDGET, **changes):
    sets = (DataSet("shapes", SEMANTIC, "shapes"),)
    protocol = Protocol("p", sets=sets, budget=budget, report="val", seeds=1, **changes)
    return plan(protocol, name_backbones([backbone]), folder)[0]


class Stopped(KeyboardInterrupt):
    """By the test itself: a signal from outside would stop a training at any other step."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("leaderboard")


@pytest.fixture(scope="module")
def done(folder):
    """An experiment stopped after two steps, and gone on with."""
    run, steps = one(folder), []

    def stop(step):
        steps.append(step)
        if step == 2 and len(steps) == 3:
            raise Stopped

    with pytest.raises(Stopped):
        run_experiment(run.experiment(), stop)
    assert steps == [0, 1, 2] and run.experiment().read() is None
    assert list(run.folder.glob("iter_*.pth"))
    return run, run_experiment(run.experiment(), steps.append), steps


def test_an_interrupted_experiment_goes_on(done):
    run, result, steps = done
    assert steps[3:][0] in (1, 2) and steps[-1] == 3  # from its checkpoint
    assert result["failure"] is None and 0 <= result["score"] <= 100
    assert result["score"] == result["metrics"]["mIoU"] == result["selected"]["score"]
    assert run.experiment().done() == json.loads(json.dumps(result))
    assert result["environment"]["threads"] == 1 and result["seconds"] is None
    assert {path.name for path in run.folder.iterdir() if path.is_file()} == {
        "result.json", "semantic-fpn_shapes.py", ".running",
    }  # fmt: skip


def test_what_a_kill_after_the_result_left_is_removed(done):
    run, result, _ = done
    left = [run.folder / name for name in ("iter_2.pth", "last_checkpoint", "validations.json")]
    for path in left:
        path.write_text("x")
    assert run.experiment().done()["score"] == result["score"]
    assert run.experiment().result.is_file() and not any(path.exists() for path in left)


def test_it_is_the_same_as_one_without_an_interruption(done, tmp_path):
    threads = torch.get_num_threads()
    result = run_experiment(one(tmp_path).experiment())
    assert result["score"] == done[1]["score"] and result["metrics"] == done[1]["metrics"]
    assert result["seconds"] > 0 and torch.get_num_threads() == threads


@pytest.mark.slow
def test_an_interrupted_experiment_is_tested(tmp_path):
    """Its first checkpoint is gone when the test begins."""
    budget = replace(BUDGET, steps=6)
    whole = run_experiment(replace(one(tmp_path / "a", budget=budget).experiment(), report="test"))
    experiment = replace(one(tmp_path / "b", budget=budget).experiment(), report="test")

    def stop(step):
        if step == 3:
            raise Stopped

    with pytest.raises(Stopped):
        run_experiment(experiment, stop)
    result = run_experiment(experiment)
    assert result["failure"] is None and result["score"] == whole["score"]


def test_what_another_process_runs_is_left_to_it(tmp_path):
    run = one(tmp_path)
    run.folder.mkdir(parents=True)
    with FileLock(run.folder / ".running"):
        assert run_experiment(run.experiment()) is None
    assert run.experiment().read() is None


def test_the_best_validation_is_tested(tmp_path, monkeypatch):
    """Its weights are those in the model when the test is over."""
    scores = iter([10.0, 30.0, 20.0, 77.0])
    seen = []

    def metrics(self, size):
        seen.append(next(scores))
        return {"mIoU": seen[-1]}

    monkeypatch.setattr(Evaluator, "evaluate", metrics)
    kept, run = [], one(tmp_path)

    def config_of(run):
        cfg = run_config(run)
        cfg.train_cfg.val_interval = 1
        cfg.default_hooks.checkpoint.update(save_best="mIoU", rule="greater")
        return cfg

    experiment = replace(
        run.experiment(), select="best", report="test", config=lambda: config_of(run),
        after=lambda runner: kept.append(runner.model.state_dict()),
    )  # fmt: skip
    best = tmp_path / "copy.pth"

    def keep(step):
        for path in run.folder.glob("best_*.pth"):
            best.write_bytes(path.read_bytes())

    result = run_experiment(experiment, keep)
    assert result["failure"] is None
    assert result["score"] == 77 and result["selected"] == dict(step=2, score=30)
    assert [one["score"] for one in result["validations"]] == [10, 30, 20]
    weights = torch.load(best, weights_only=True)["state_dict"]
    assert all(torch.equal(kept[0][key], value) for key, value in weights.items())


def test_a_work_dir_is_read(done):
    run, result, _ = done
    read = read_work_dir(run.folder)
    assert read["score"] == pytest.approx(result["score"])
    assert (read["task"], read["set"], read["seed"]) == ("semantic", "semantic-fpn_shapes", 0)
    assert (read["family"], read["steps"], read["start"]) == ("poolformer", 3, "as read")


def test_results_files_come_first(done, tmp_path):
    config = done[0].folder / "semantic-fpn_shapes.py"
    (tmp_path / "net.py").write_text(config.read_text())
    found = {"coco/bbox_mAP": 0.25, "coco/segm_mAP": 0.5, "coco/bbox_mAP_s": None}
    (tmp_path / "results.json").write_text(json.dumps(dict(iteration=7, metrics=found)))
    read = read_work_dir(tmp_path)
    assert (read["task"], read["score"], read["steps"]) == ("instance", 50.0, 7)


def test_a_folder_without_scores(tmp_path):
    with pytest.raises(FileNotFoundError, match="no training log"):
        read_work_dir(tmp_path)


def test_a_result_of_something_else_is_refused(done, folder, tmp_path):
    other = one(folder, TINY.replace("PoolFormer", "ConvFormer"))
    assert other.folder == done[0].folder
    with pytest.raises(SettingError, match=r"now dict\(type='ConvFormer'.*NAME=dict"):
        other.experiment().done()
    old = one(tmp_path)
    old.folder.mkdir(parents=True)
    (old.folder / "result.json").write_text('{"score": 1, "failure": null}')
    with pytest.raises(SettingError, match="another version of mmplugins"):
        old.experiment().done()
    (old.folder / "result.json").write_text("[")
    with pytest.raises(SettingError, match="is no result"):
        old.experiment().done()


def test_weights_to_start_from_are_not_gone_on_from(folder):
    """An interrupted training goes on from its own checkpoint, whatever the recipe loads."""
    run = one(folder, TINY.replace("tiny=", "loaded="))
    model = MODELS.build(run_config(run).model)
    torch.save(model.state_dict(), folder / "start.pth")
    options = {**SMALL, "load_from": str(folder / "start.pth")}
    run, steps = one(folder, TINY.replace("tiny=", "loaded="), replace(BUDGET, options=options)), []

    def stop(step):
        if step == 2:
            raise Stopped

    with pytest.raises(Stopped):
        run_experiment(run.experiment(), stop)
    result = run_experiment(run.experiment(), steps.append)
    assert result["failure"] is None and steps[0] > 0


def test_a_failure_is_a_result_with_a_reason(folder):
    run = one(folder, "no_such_backbone")
    result = run_experiment(run.experiment())
    assert "Unknown backbone 'no_such_backbone'" in result["failure"] and result["score"] is None
    assert run.experiment().done() is None and run.experiment().read() == result
    assert "Traceback" in (run.folder / "error.txt").read_text()


def test_tasks_and_scores():
    names = dict(retinanet="detection", mask_rcnn="instance", semantic_fpn="semantic")
    for name, task in names.items():
        path = find_recipe(f"{name}/{name.replace('_', '-')}_shapes.py")
        assert task_name(load_config(path)) == task
    assert score_of({"coco/bbox_mAP": 0.5, "coco/bbox_mAP_50": 0.7}, "detection") == 50
    assert score_of({}, "detection") == 0
    for metrics, task in (({}, "semantic"), ({"coco/bbox_mAP": 0.5}, "instance")):
        with pytest.raises(ValueError, match="among the metrics"):
            score_of(metrics, task)
    # What mmseg and pycocotools say of a split without any pixel or object.
    for value, task in ((float("nan"), "semantic"), (-1.0, "detection")):
        with pytest.raises(ValueError, match="m(IoU|AP) is (nan|-1.0): the pictures have nothing"):
            score_of({TASKS[task].metric: value}, task)
