"""The tools on real files: train, refuse, go on, test, for both tasks."""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import mmdet
import pytest
import torch
from mmdet.models import SingleStageDetector
from mmengine.runner import CheckpointLoader, Runner

from mmplugins.backbones import PyramidBackbone
from mmplugins.engine import SettingError

ROOT = Path(__file__).parents[2]


def run(*args: object, **kwargs) -> subprocess.CompletedProcess:
    command = [sys.executable, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, **kwargs)


def losses(work_dir: Path) -> list[float]:
    """Logged losses of the newest run in a work dir."""
    (*_, newest) = sorted(work_dir.glob("*/vis_data/scalars.json"))
    records = [json.loads(line) for line in newest.read_text().splitlines()]
    return [record["loss"] for record in records if "loss" in record]


@pytest.fixture(scope="module")
def trained(folder, detection) -> tuple[Path, str]:
    """A work dir that ``tools/train.py`` has filled, and what it said."""
    work_dir = folder / "trained"
    done = run(ROOT / "tools/train.py", detection, "--work-dir", work_dir, cwd=folder)
    assert done.returncode == 0, done.stderr
    return work_dir, done.stdout + done.stderr


NOISE = ("FileClient", "HardDiskBackend", "prefix is not set", "The draw is False")
"""Of OpenMMLab's talk about its own code, which is in the log file alone."""


def test_train(trained):
    work_dir, said = trained
    assert (work_dir / "epoch_1.pth").is_file()
    assert len(losses(work_dir)) == 3 and all(loss > 0 for loss in losses(work_dir))
    assert "train  3/3  100%" in said and "epoch_1.pth" in said
    # The config and every detail are in the log file, and not on the console.
    (log,) = work_dir.glob("*/*.log")
    assert "env_cfg = dict(" in log.read_text() and "env_cfg" not in said
    assert "FileClient" in log.read_text()
    assert [words for words in NOISE if words in said] == []


def test_a_used_work_dir_is_refused(trained, detection, call):
    work_dir, _ = trained
    before = (work_dir / "epoch_1.pth").stat()
    with pytest.raises(SettingError, match=r"epoch_1\.pth.*--resume"):
        call("train", detection, "--work-dir", work_dir)
    assert (work_dir / "epoch_1.pth").stat() == before


def test_resume_goes_on(trained, detection, call):
    work_dir, _ = trained
    options = ("--cfg-options", "train_cfg.max_epochs=2")
    call("train", detection, "--work-dir", work_dir, "--resume", *options)
    assert len(losses(work_dir)) == 3  # the second epoch alone
    meta = CheckpointLoader.load_checkpoint(str(work_dir / "epoch_2.pth"))["meta"]
    assert (meta["epoch"], meta["iter"]) == (2, 6)


def test_test_keeps_and_draws_predictions(trained, detection, call, tmp_path, capsys):
    work_dir, _ = trained
    out, drawn = tmp_path / "out.pkl", tmp_path / "drawn"
    args = ("--work-dir", tmp_path / "work", "--out", out, "--show-dir", drawn, "--tta")
    call("test", detection, work_dir / "epoch_1.pth", *args)
    assert "AP50" in capsys.readouterr().out
    assert len(pickle.loads(out.read_bytes())) == len(list(drawn.iterdir())) == 4
    (metrics,) = (tmp_path / "work").glob("*/*.json")
    assert "coco/bbox_mAP" in json.loads(metrics.read_text())


def test_overwrite_moves_aside_and_flags_reach_training(detection, call, folder, capsys):
    work_dir = folder / "again"
    work_dir.mkdir()
    (work_dir / "epoch_9.pth").write_text("an older training")
    call("train", detection, "--work-dir", work_dir, "--overwrite", "--amp", "--auto-scale-lr")
    (aside,) = folder.glob("again.old-*")
    assert (aside / "epoch_9.pth").read_text() == "an older training"
    assert aside.name in capsys.readouterr().out
    saved = CheckpointLoader.load_checkpoint(str(work_dir / "epoch_1.pth"), map_location="cpu")
    assert saved["optimizer"]["param_groups"][0]["lr"] == pytest.approx(1e-3 * 2 / 16)
    assert "loss_scaler" in saved["optimizer"]


@pytest.mark.parametrize(
    ("options", "check", "message"),
    [
        (["model.bbox_head.num_classes=7"], "data", "num_classes: is 7.* 4 classes"),
        (["train_dataloader.dataset.ann_file=none.json"], "data", r"none\.json"),
        (["model.backbone.arch=s99"], "model", "Unknown arch 's99' of PoolFormer"),
        (["model.backbone.out_indices=(1,4)"], "model", "out_indices=.*expected one or more stage"),
        (["model.backbone.type=PoolFormr"], "model", "'PoolFormr'.*PoolFormer"),
    ],
)
def test_a_failed_check_stops_before_anything_is_written(
    detection, call, folder, options, check, message, monkeypatch, capsys
):
    monkeypatch.setenv("COLUMNS", "1000")  # each finding on one line
    with pytest.raises(SettingError, match=rf"1 failure.* \({check}\): .*--no-check"):
        call("train", detection, "--work-dir", folder / "never", "--cfg-options", *options)
    assert re.search(message, capsys.readouterr().out)
    assert not (folder / "never").exists()


@pytest.fixture
def built(monkeypatch) -> list[str]:
    """What is built from here on: ``'detector'`` or ``'backbone'``, and on which device."""
    found = []
    for cls, name in ((SingleStageDetector, "detector"), (PyramidBackbone, "backbone")):

        def init(self, *args, _init=cls.__init__, _name=name, **kwargs):
            found.append(f"{_name} on {torch.empty(0).device}")
            _init(self, *args, **kwargs)

        monkeypatch.setattr(cls, "__init__", init)
    return found


@pytest.mark.parametrize(("composed", "checks"), [(True, True), (False, False)])
def test_a_model_is_built_once_to_check_it_and_once_to_train_it(
    detection, call, tmp_path, built, composed, checks, monkeypatch
):
    """Composing also looks at both backbones, that of the recipe and the one in its place."""
    monkeypatch.setattr(Runner, "train", lambda runner: None)  # which has its model already
    other = "dict(type='PoolFormer', arch=dict(depths=(1, 1, 1, 1), dims=(8, 16, 16, 16)))"
    options = ("--cfg-options", "train_cfg.max_epochs=1")
    args = [*(("--backbone", other) if composed else ()), *(() if checks else ("--no-check",))]
    call("train", detection, "--work-dir", tmp_path / "work", *args, *options)
    whole = [f"{part} on cpu" for part in ("detector", "backbone")]
    assert built == ["backbone on meta"] * (2 * composed) + 2 * whole


def test_without_checks_a_bad_model_stops_all_the_same(detection, call, folder):
    options = ("--no-check", "--cfg-options", "model.backbone.arch=s99")
    with pytest.raises(SettingError, match="Unknown arch 's99' of PoolFormer"):
        call("train", detection, "--work-dir", folder / "never", *options)
    assert not (folder / "never").exists()


@pytest.mark.slow
def test_checks_change_no_bit_of_training(detection, folder):
    """In processes of their own; the config has no seed, so mmengine draws it from numpy."""
    states = []
    for name, flags in (("checked", []), ("unchecked", ["--no-check"])):
        program = (
            "import runpy, sys, numpy\n"
            "numpy.random.seed(7)\n"
            "sys.argv = sys.argv[1:]\n"
            "runpy.run_path(sys.argv[0], run_name='__main__')\n"
        )
        work_dir = folder / name
        tool = (ROOT / "tools/train.py", detection, "--work-dir", work_dir, *flags)
        done = run("-c", program, *tool, cwd=folder)
        assert done.returncode == 0, done.stderr
        assert ("Checks before training" in done.stdout) == (name == "checked")
        saved = CheckpointLoader.load_checkpoint(str(work_dir / "epoch_1.pth"))
        states.append(saved["state_dict"])
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_an_error_is_one_line(detection, end):
    said = end("test", detection, "absent.pth")
    assert said.startswith("error: checkpoint 'absent.pth' does not exist")


def test_a_damaged_checkpoint_is_one_line(detection, folder, monkeypatch, end):
    damaged = folder / "damaged.pth"
    torch.save(dict(state_dict=dict(a=torch.ones(100))), damaged)
    damaged.write_bytes(damaged.read_bytes()[:300])
    monkeypatch.chdir(folder)
    assert re.match(r"error: .*damaged\.pth", end("test", detection, damaged))


def test_segmentation(segmentation, call, folder, tmp_path, capsys):
    work_dir = folder / "segmentation"
    call("train", segmentation, "--work-dir", work_dir)
    assert len(losses(work_dir)) == 2
    maps, drawn = tmp_path / "maps", tmp_path / "drawn"
    args = ("--work-dir", tmp_path / "work", "--out", maps, "--show-dir", drawn, "--tta")
    said = "".join(capsys.readouterr())
    call("test", segmentation, work_dir / "iter_2.pth", *args)
    tested = capsys.readouterr()
    assert "mIoU" in tested.out
    assert [words for words in NOISE if words in said + "".join(tested)] == []
    assert len(list(maps.glob("*.png"))) == 4
    assert len(list(drawn.iterdir())) == 4


@pytest.mark.slow
def test_mmdets_own_tool_trains_the_same_config(detection, folder):
    tool = Path(mmdet.__file__).parent / ".mim/tools/train.py"
    done = run(tool, detection, "--work-dir", folder / "theirs", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert len(losses(folder / "theirs")) == 3
    assert "train  3/3  100%" in done.stdout


@pytest.mark.slow
def test_two_processes(detection, folder):
    work_dir = folder / "two"

    def launch(task: str, *args: object) -> str:
        done = subprocess.run(
            ["bash", str(ROOT / f"tools/dist_{task}.sh"), *map(str, args)],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHON": sys.executable},
            cwd=folder,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    launch("train", detection, 2, "--work-dir", work_dir)
    assert len(losses(work_dir)) == 2  # 6 pictures, 2 processes of 2
    said = launch("test", detection, work_dir / "epoch_1.pth", 2, "--work-dir", work_dir)
    assert said.count("by class") == 1  # one process speaks


def test_the_demo_names_what_is_wrong_before_it_trains(detection, call, folder):
    options = ("--cfg-options", "train_cfg.max_iters=5")
    with pytest.raises(SettingError, match="learning: train_cfg.max_iters"):
        call("demo", "--config", detection, "--work-dir", folder / "never", *options)
    assert not (folder / "never").exists()


@pytest.mark.slow
def test_demo_twice(detection, folder):
    command = ("--config", detection, "--work-dir", folder / "demo", "--pictures", 3)
    for _ in range(2):
        done = run(ROOT / "tools/demo.py", *command, cwd=folder)
        assert done.returncode == 0, done.stderr
        assert "AP50" in done.stdout
        for name in ("predictions.png", "curves.png"):
            assert str(folder / "demo" / name) in done.stdout
            assert (folder / "demo" / name).stat().st_size > 10_000
    assert len(list(folder.glob("demo.old-*"))) == 1
