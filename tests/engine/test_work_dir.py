"""One work dir, one training."""

from __future__ import annotations

import os

import pytest

from mmplugins.engine import SettingError, work_dir


def put(folder, name, age):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(name)
    os.utime(folder / name, (1e9 - age, 1e9 - age))


def test_last_checkpoint_is_the_newest_and_not_the_best(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        work_dir.last_checkpoint(tmp_path)
    for age, name in enumerate(["best_bbox_mAP_epoch_2.pth", "epoch_10.pth", "epoch_9.pth"]):
        put(tmp_path, name, age)
    assert work_dir.last_checkpoint(tmp_path).name == "epoch_10.pth"


def test_used_work_dir_is_refused(tmp_path):
    work_dir.refuse_used(tmp_path / "absent")
    put(tmp_path, "config.py", 0)
    work_dir.refuse_used(tmp_path)
    put(tmp_path, "epoch_3.pth", 0)
    with pytest.raises(SettingError, match=r"epoch_3\.pth.*--resume.*--work-dir.*--overwrite"):
        work_dir.refuse_used(tmp_path)


def test_resuming_may_use_it(tmp_path):
    work_dir.refuse_used(tmp_path, resume=True)  # nothing there: a first start
    put(tmp_path, "epoch_3.pth", 0)
    work_dir.refuse_used(tmp_path, resume=True)
    assert (tmp_path / "epoch_3.pth").read_text() == "epoch_3.pth"


def test_move_aside_keeps_everything(tmp_path):
    run = tmp_path / "run"
    assert work_dir.move_aside(run) is None
    run.mkdir()
    assert work_dir.move_aside(run) is None
    moved = []
    for text in ("one.pth", "two.pth", "three.pth"):  # within one second: names must not collide
        put(run, text, 0)
        moved.append(work_dir.move_aside(run))
        assert not run.exists()
    assert [next(folder.iterdir()).name for folder in moved] == ["one.pth", "two.pth", "three.pth"]
    assert all(folder.name.startswith("run.old-") for folder in moved)
