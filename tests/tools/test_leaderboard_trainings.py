"""The leaderboard on data in COCO's and ADE20K's format, stopped, in mixed precision; and boards of
trainings of other tools."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from leaderboard_commands import BACKBONES, COMMON
from mmengine.runner import Runner
from programs import load

from mmplugins.benchmark.experiment import run_experiment
from mmplugins.datasets import make_shapes
from mmplugins.datasets.shapes import METAINFO
from mmplugins.engine import load_config

POOL = BACKBONES[0]
FEW = ["--steps", "2", "--batch", "2", "--seeds", "1", "--rounds", "1", "--cost-size", "64", "64"]

OWN_DATA = """
_base_ = {base!r}
data = dict(_delete_=True, data_root={root!r}, metainfo=dict(classes={classes!r}))
train_dataloader = dict(dataset=dict(pipeline=_base_.train_pipeline, **data, **{train!r}))
val_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline, **data, **{val!r}))
test_dataloader = val_dataloader
"""


@pytest.fixture(params=["detection", "segmentation"])
def own_data(request, folder) -> tuple[str, str]:
    """A recipe that reads the shapes data in COCO's or in ADE20K's format, and its task."""
    root = make_shapes(folder / "shapes", image_size=64, num_train=6, num_val=4, seed=0)
    splits = {}
    for split, name in (("train", "training"), ("val", "validation")):
        pictures, maps = f"images/{name}", f"annotations/{name}"
        splits[split] = dict(
            type="CocoDataset", ann_file=f"annotations/instances_{split}.json",
            data_prefix=dict(img=f"{pictures}/"),
        ) if request.param == "detection" else dict(
            type="BaseSegDataset", data_prefix=dict(img_path=pictures, seg_map_path=maps),
            reduce_zero_label=True,
        )  # fmt: skip
    base = request.getfixturevalue(request.param)
    config = folder / f"own_{request.param}.py"
    classes = METAINFO["classes"]
    config.write_text(OWN_DATA.format(base=str(base), root=str(root), classes=classes, **splits))
    return str(config), dict(detection="detection", segmentation="semantic")[request.param]


def board_in(folder: Path | str) -> dict:
    return json.loads((Path(folder) / "leaderboard.json").read_text())


@pytest.mark.slow
def test_own_data(own_data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config, task = own_data
    tool, command = load("tools/leaderboard.py"), [POOL, "--configs", config, *FEW]
    assert tool.main(command) == 0, capsys.readouterr()
    (found,) = board_in("leaderboard")["tables"]
    (row,) = found["rows"]
    names = found["task"], found["config"], row["label"]
    assert names == (task, Path(config).stem, "pool")
    (score,) = row["runs"]
    assert 0 <= score["score"] <= 100
    assert row["cost"]["whole"] and row["cost"]["inference"]["rounds"] == 1
    said = capsys.readouterr().out
    assert "pool (1 of 3)" in said and "ms at 64x64" in said
    # Pictures of a given size are for the shapes, and data of one's own have theirs in the config.
    assert tool.main([*command, "--image-size", "32", "--out", "other"]) == 1
    assert "image_size=32 is for the shapes data" in capsys.readouterr().out


@pytest.mark.slow
def test_mixed_precision_and_costs_of_a_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tool = load("tools/leaderboard.py")
    assert tool.main([POOL, *COMMON, "--amp", "--out", "amp"]) == 0
    board = board_in("amp")
    assert board["protocol"]["budget"]["amp"] and "mixed precision" in capsys.readouterr().out
    cfg = load_config(next(Path("amp/runs").glob("*/pool/random/lr-recipe/seed0/*.py")))
    assert cfg.optim_wrapper.type == "AmpOptimWrapper"
    (row,) = board["tables"][0]["rows"]
    assert row["failures"] == [] and row["mean"] is not None

    # The same row with the costs of the file, and nothing is measured.
    monkeypatch.setattr(tool, "Costs", lambda *_: pytest.fail("measured"))
    assert tool.main([POOL, *COMMON, "--amp", "--out", "amp", "--cost", "amp/cost.jsonl"]) == 0
    assert board_in("amp")["tables"][0]["rows"][0]["cost"] == row["cost"]
    capsys.readouterr()
    assert tool.main([POOL, *COMMON, "--amp", "--out", "none", "--cost", "no.jsonl"]) == 1
    assert "no.jsonl" in capsys.readouterr().out and not Path("none").exists()


def test_trainings_of_train_py_and_of_mmdet(tmp_path, monkeypatch, call, detection, capsys):
    """Ours leaves results.json, mmdet's tool (a runner of its own hooks) a log only."""
    monkeypatch.chdir(tmp_path)
    call("train", detection, "--work-dir", "ours", "--no-check", "--cfg-options",
         "randomness.seed=4")  # fmt: skip
    cfg = load_config(detection)
    cfg.work_dir = "theirs"
    cfg.default_hooks = dict(
        timer=dict(type="IterTimerHook"),
        logger=dict(type="LoggerHook", interval=1),
        param_scheduler=dict(type="ParamSchedulerHook"),
        checkpoint=dict(type="CheckpointHook", interval=1),
        sampler_seed=dict(type="DistSamplerSeedHook"),
        visualization=dict(type="DetVisualizationHook"),
    )
    cfg.custom_hooks = []
    Runner.from_cfg(cfg).train()
    assert Path("ours/results.json").is_file() and not Path("theirs/results.json").exists()
    capsys.readouterr()
    tool = load("tools/leaderboard.py")
    assert tool.main(["--read", "ours", "theirs", "ours/", "--out", "board"]) == 0
    (task,) = board_in("board")["tables"]
    assert task["task"] == "detection" and task["config"] == detection.stem
    (row,) = task["rows"]
    assert row["label"].startswith("poolformer") and row["steps"] == 3
    assert sorted(map(str, [s["seed"] for s in row["runs"]])) == ["4", "None"]  # ours once
    last = json.loads(Path("ours/results.json").read_text())["metrics"]["coco/bbox_mAP"]
    ours = next(s for s in row["runs"] if s["seed"] == 4)
    assert ours["score"] == pytest.approx(100 * last)
    assert "read from ours, theirs" in capsys.readouterr().out
    assert tool.main(["--read", "nowhere", "--out", "none"]) == 1
    assert "nowhere" in capsys.readouterr().out


def test_ctrl_c_keeps_what_is_there(tmp_path, monkeypatch, capsys):
    """That the next call goes on with a training, ``tests/benchmark/test_experiment.py`` tests."""
    monkeypatch.chdir(tmp_path)
    tool, done = load("tools/leaderboard.py"), []

    def run_one(experiment, on_step):
        if done:
            raise KeyboardInterrupt
        done.append(run_experiment(experiment, on_step))

    monkeypatch.setattr(tool, "run_experiment", run_one)
    assert tool.main([POOL, *COMMON, "--seeds", "2", "--out", "board"]) == 130
    said = capsys.readouterr().out
    assert "1/2" in said and "stopped; the same command goes on from here" in said
    assert len(list(Path("board/runs").rglob("result.json"))) == 1
    assert not Path("board/cost.jsonl").exists()
