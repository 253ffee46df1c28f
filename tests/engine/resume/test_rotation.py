"""What ``max_keep_ckpts`` and ``save_best`` remove, with several metrics and after odd resumes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import MessageHub
from mmengine.registry import METRICS
from random_training import Killed, run
from toy_training import toy

from mmplugins.checkpoint import read_checkpoint
from mmplugins.engine.resume import whole_checkpoints


@METRICS.register_module(force=True)
class ThreeMetrics(BaseMetric):
    """One that rises, one that falls, one that comes and goes."""

    def process(self, data_batch, data_samples):
        self.results.extend(0 for _ in data_samples)

    def compute_metrics(self, results):
        step = float(MessageHub.get_current_instance().get_info("iter"))
        return {"up/a": step, "down_b": -step, "odd": step % 2}


@METRICS.register_module(force=True)
class AtEachCall(BaseMetric):
    """Better at every validation, also at a second one of the same step."""

    calls = 0

    def process(self, data_batch, data_samples):
        self.results.extend(0 for _ in data_samples)

    def compute_metrics(self, results):
        AtEachCall.calls += 1
        return dict(score=float(AtEachCall.calls))


def training(work_dir: Path, keep: int = 2):
    cfg = toy(work_dir, val_evaluator=dict(type="ThreeMetrics"))
    cfg.train_cfg.val_interval = 3
    cfg.default_hooks.checkpoint = dict(
        type="CheckpointHook",
        by_epoch=False,
        interval=3,
        max_keep_ckpts=keep,
        save_best=["up/a", "down_b", "odd"],
        rule=["greater", "less", "greater"],
    )
    return cfg


def names(work_dir: Path) -> set[str]:
    return {path.name for path in work_dir.iterdir() if path.suffix == ".pth"}


FINAL = {
    *("iter_9.pth", "iter_12.pth"),
    *("best_up_a_iter_12.pth", "best_down_b_iter_12.pth", "best_odd_iter_6.pth"),
}


@pytest.fixture
def stopped(tmp_path) -> Path:
    """A work dir with iter_3, iter_6 and three best checkpoints."""
    return run(training(tmp_path / "stopped"), kill_after=8)


def test_several_metrics(tmp_path, stopped):
    before = names(stopped)
    assert len(before) == 5
    run(training(tmp_path / "other"), resume=str(stopped / "iter_6.pth"))
    assert names(stopped) == before  # another folder's are not ours
    run(training(stopped), resume=True)
    assert names(stopped) == names(run(training(tmp_path / "whole"))) == FINAL


def test_a_kill_while_bests_are_replaced(tmp_path, monkeypatch):
    remove = whole_checkpoints._LateRemoval.remove_now

    def die(self, but):
        if any("iter_6" in name for name in self.retired_names):
            raise Killed
        remove(self, but)

    cfg = training(tmp_path / "work")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(whole_checkpoints._LateRemoval, "remove_now", die)
        run(cfg)
    run(cfg, resume=True)
    assert names(tmp_path / "work") == FINAL


@pytest.mark.parametrize("linked", ["work_dir", "files"])
def test_links(tmp_path, stopped, linked):
    if linked == "work_dir":
        (tmp_path / "link").symlink_to(stopped)
        run(training(tmp_path / "link"), resume=True)
        assert names(stopped) == FINAL
        return
    treasure = tmp_path / "treasure"
    treasure.mkdir()
    for name in names(stopped):
        (stopped / name).rename(treasure / name)
        (stopped / name).symlink_to(treasure / name)
    before = {path.name: path.read_bytes() for path in treasure.iterdir()}
    run(training(stopped), resume=True)
    assert before == {path.name: path.read_bytes() for path in treasure.iterdir()}


def test_folders_stay(stopped):
    best = stopped / "best_up_a_iter_6.pth"
    best.unlink()
    best.mkdir()
    (best / "mine").write_text("x")
    run(training(stopped), resume=True)
    assert (best / "mine").read_text() == "x"


def test_the_checkpoint_gone_on_from_stays_whatever_it_says(stopped):
    path = stopped / "iter_6.pth"
    content = read_checkpoint(path)
    content["message_hub"]["runtime_info"]["keep_ckpt_ids"] = [6, 3, 9, 10**9]
    torch.save(content, path)
    run(training(stopped, keep=1), kill_after=8, resume=True)
    assert path.is_file()


def test_fewer_are_kept_than_before(tmp_path):
    work_dir = run(training(tmp_path / "work", keep=4), kill_after=11)
    assert {"iter_3.pth", "iter_6.pth", "iter_9.pth"} <= names(work_dir)
    run(training(work_dir, keep=1), resume=True)
    assert names(work_dir) == FINAL - {"iter_9.pth"}


def test_a_better_score_at_the_same_step(tmp_path):
    """Early stopping validates anew after a resume; metrics on a GPU may differ by rounding."""
    cfg = training(tmp_path)
    cfg.val_evaluator = dict(type="AtEachCall")
    cfg.default_hooks.checkpoint.update(save_best="score", rule="greater")
    cfg.custom_hooks = [
        dict(type="EarlyStoppingHook", monitor="score", rule="greater", patience=50)
    ]
    for stop in (7, 8):
        run(cfg, kill_after=stop, resume=True)
        assert "best_score_iter_6.pth" in names(tmp_path)
