"""Checkpoints that are there whole or not at all, and which of them is resumed."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest
import torch
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS
from random_training import run
from toy_training import toy

from mmplugins.checkpoint import CheckpointError
from mmplugins.engine import WholeCheckpointHook
from mmplugins.engine.resume.training_folder import (
    check_resumable,
    latest_resumable,
    resumable_files,
)
from mmplugins.utils import WriteError, write_whole


def checkpoint(path: Path, weight: float = 1.0) -> Path:
    content = dict(
        meta=dict(epoch=1, iter=3),
        state_dict=dict(weight=torch.full((300,), weight)),
        message_hub=dict(log_scalars={}, runtime_info={}, resumed_keys={}),
    )
    torch.save(content, path)
    return path


def test_the_hook_stands_for_mmengines():
    hook = HOOKS.build(dict(type="CheckpointHook", interval=7, save_best="auto"))
    assert type(hook) is WholeCheckpointHook and isinstance(hook, CheckpointHook)
    assert hook.interval == 7


def test_order_is_by_number_and_pointer(tmp_path):
    for number in (10, 9, 8):  # dates say the opposite
        checkpoint(tmp_path / f"iter_{number}.pth")
        os.utime(tmp_path / f"iter_{number}.pth", (time.time(), 2e9 - number))
    checkpoint(tmp_path / "best_coco_bbox_mAP_iter_11.pth")
    names = [path.name for path in resumable_files(tmp_path)]
    assert names == ["iter_10.pth", "iter_9.pth", "iter_8.pth"]
    (tmp_path / "last_checkpoint").write_text("/moved/away/iter_9.pth")
    assert resumable_files(tmp_path)[0] == tmp_path / "iter_9.pth"
    (tmp_path / "last_checkpoint").write_text("")  # cut off by a crash
    assert [path.name for path in resumable_files(tmp_path)] == names


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    at = data.find(torch.ones(8).numpy().tobytes())
    data[at + 2] ^= 0x10  # still a readable archive, with another weight in it
    path.write_bytes(data)


DAMAGE = [
    (cut, "cut short or damaged"),
    (flip, "checksum does not match"),
    (lambda path: path.write_bytes(b""), "is empty"),
    (lambda path: path.write_bytes(bytes(5000)), "no weight file"),
    (lambda path: checkpoint(path, float("nan")), "NaN or infinite"),
    (lambda path: torch.save(dict(state_dict=dict(w=torch.ones(2))), path), "lacks meta"),
    (lambda path: path.unlink(), "does not exist"),
]


@pytest.mark.parametrize(("damage", "reason"), DAMAGE)
def test_what_cannot_be_used_is_passed_over(tmp_path, monkeypatch, damage, reason):
    said = []
    monkeypatch.setattr(
        "mmplugins.engine.resume.training_folder.print_log", lambda text, *_: said.append(text)
    )
    older, newest = (checkpoint(tmp_path / f"epoch_{n}.pth") for n in (1, 2))
    (tmp_path / "last_checkpoint").write_text(str(newest))
    assert latest_resumable(tmp_path) == newest and not said
    damage(newest)
    assert latest_resumable(tmp_path) == older
    assert len(said) == 1 and newest.name in said[0] and reason in said[0]
    with pytest.raises((CheckpointError, FileNotFoundError), match=reason):
        check_resumable(newest)
    older.write_text("nothing")
    with pytest.raises(CheckpointError, match="no checkpoint that can be gone on from") as error:
        latest_resumable(tmp_path)
    assert str(older) in str(error.value) and newest.name in str(error.value)


def test_nothing_there_is_no_error(tmp_path):
    assert latest_resumable(tmp_path) is None and latest_resumable(tmp_path / "none") is None


def test_resume_passes_over_and_says_so(tmp_path):
    cfg = toy(tmp_path)
    run(cfg, kill_after=7)
    cut(tmp_path / "iter_6.pth")
    with pytest.raises(CheckpointError, match=r"iter_6\.pth is cut short"):
        run(cfg, resume=str(tmp_path / "iter_6.pth"))
    run(cfg, kill_after=5, resume=True)  # from 3: beyond 6 it would not come to 5
    logs = "".join(path.read_text() for path in tmp_path.glob("*/*.log"))
    assert f"Passed over: {tmp_path / 'iter_6.pth'}" in logs


def test_full_disk(tmp_path, monkeypatch):
    old = checkpoint(tmp_path / "epoch_1.pth")
    before = old.read_bytes()

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError, match=r"epoch_1\.pth was not written, the disk.*max_keep") as e:
        write_whole(old, b"new")
    assert e.value.errno == errno.ENOSPC
    assert old.read_bytes() == before and os.listdir(tmp_path) == ["epoch_1.pth"]


def test_the_only_checkpoint_is_kept_until_its_successor_is_whole(tmp_path, monkeypatch):
    saving = dict(interval=3, max_keep_ckpts=1, save_best="score", rule="greater")
    changes = {"default_hooks.checkpoint": saving, "train_cfg.val_interval": 3}
    cfg = toy(tmp_path, **changes)
    replace = os.replace

    def full(source, target):
        if str(target).endswith("/iter_6.pth"):
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as patch, pytest.raises(WriteError, match=r"iter_6\.pth"):
        patch.setattr(os, "replace", full)
        run(cfg)
    kept = {path.name for path in tmp_path.glob("*.pth")}
    assert kept == {"iter_3.pth", "best_score_iter_3.pth"}
    assert (tmp_path / "last_checkpoint").read_text() == "iter_3.pth"
    run(cfg, resume=True)
    kept = sorted(path.name for path in tmp_path.glob("*.pth"))
    assert kept == ["best_score_iter_12.pth", "iter_12.pth"]
