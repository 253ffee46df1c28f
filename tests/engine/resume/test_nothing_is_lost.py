"""No checkpoint is removed but a training's own, after its successor is there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, MODELS
from random_training import Killed, compare_states, run
from toy_training import ToyModel, toy

from mmplugins.checkpoint import read_checkpoint
from mmplugins.engine import DivergedError, WholeCheckpointHook, train
from mmplugins.engine.resume import whole_checkpoints
from mmplugins.engine.resume.training_folder import is_own_name, latest_resumable

BEST = {
    "default_hooks.checkpoint": dict(interval=3, save_best="score", rule="greater"),
    "train_cfg.val_interval": 3,
}


def names(work_dir: Path) -> set[str]:
    return {path.name for path in work_dir.glob("*.pth")}


def rewrite(path: Path, change) -> None:
    content = read_checkpoint(path)
    change(content)
    torch.save(content, path)


def lower_the_best(content) -> None:
    content["message_hub"]["runtime_info"]["best_score"] = -1.0


def test_best_of_another_folder_stays(tmp_path):
    first = run(toy(tmp_path / "a", **BEST), kill_after=5)
    before = names(first)
    assert any(name.startswith("best_") for name in before)
    rewrite(first / "iter_3.pth", lower_the_best)
    second = toy(tmp_path / "b", **BEST)
    run(second, resume=str(first / "iter_3.pth"))
    assert names(first) == before
    assert any(name.startswith("best_") for name in names(tmp_path / "b"))


@pytest.mark.parametrize("kind", ["folder", "file", "up", "link"])
def test_paths_in_a_checkpoint_are_not_followed(tmp_path, kind):
    cfg = toy(tmp_path / "work", **BEST)
    run(cfg, kill_after=5)
    treasure = tmp_path / "treasure"
    treasure.mkdir()
    (treasure / "best_score_iter_3.pth").write_text("mine")
    link = tmp_path / "work" / "best_link"
    link.symlink_to(treasure)
    path = dict(
        folder=treasure,
        file=treasure / "best_score_iter_3.pth",
        up=f"{tmp_path}/work/../treasure/best_score_iter_3.pth",
        link=link,
    )[kind]

    def poison(content):
        lower_the_best(content)
        info = content["message_hub"]["runtime_info"]
        info.update(best_ckpt=str(path), last_ckpt=str(path), keep_ckpt_ids=[10**6])
        info[whole_checkpoints.RETIRED] = [str(path), "../treasure/best_score_iter_3.pth"]

    rewrite(tmp_path / "work/iter_3.pth", poison)
    run(cfg, resume=True)
    assert (treasure / "best_score_iter_3.pth").read_text() == "mine"


@pytest.mark.parametrize("how", ["moved", "copied"])
def test_a_moved_folder_goes_on_with_its_own_files(tmp_path, how):
    old = toy(tmp_path / "w", **BEST)
    run(old, kill_after=8)
    # As older versions and mmengine write it.
    (tmp_path / "w/last_checkpoint").write_text(str(tmp_path / "w/iter_6.pth"))
    (shutil.copytree if how == "copied" else os.rename)(tmp_path / "w", tmp_path / "w.old")
    shutil.rmtree(tmp_path / "w", ignore_errors=True)
    new = toy(tmp_path / "w", randomness=dict(seed=8), **BEST)
    run(new)
    before = {path.name: path.read_bytes() for path in (tmp_path / "w").glob("*.pth")}
    old.work_dir = str(tmp_path / "w.old")
    assert latest_resumable(old.work_dir) == tmp_path / "w.old/iter_6.pth"
    run(old, resume=True)
    after = {path.name: path.read_bytes() for path in (tmp_path / "w").glob("*.pth")}
    assert after == before
    whole = run(toy(tmp_path / "whole", **BEST))
    assert not compare_states(whole / "iter_12.pth", tmp_path / "w.old/iter_12.pth")


def test_the_pointer_is_a_name(tmp_path):
    run(toy(tmp_path), kill_after=5)
    assert (tmp_path / "last_checkpoint").read_text() == "iter_3.pth"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(tmp_path / "iter_3.pth", elsewhere / "iter_9.pth")
    for text in (str(elsewhere / "iter_9.pth"), "elsewhere/iter_9.pth", "best_score_iter_3.pth"):
        (tmp_path / "last_checkpoint").write_text(text)
        assert latest_resumable(tmp_path) == tmp_path / "iter_3.pth"
    (tmp_path / "last_checkpoint").unlink()
    (tmp_path / "last_checkpoint").mkdir()
    assert latest_resumable(tmp_path) == tmp_path / "iter_3.pth"


def test_nothing_to_resume_follows_no_pointer(tmp_path):
    run(toy(tmp_path / "other"), kill_after=5)
    (tmp_path / "work").mkdir()
    (tmp_path / "work/last_checkpoint").write_text("")
    cfg = toy(tmp_path / "work")
    run(cfg, resume=True)
    whole = run(toy(tmp_path / "whole"))
    assert not compare_states(whole / "iter_12.pth", tmp_path / "work/iter_12.pth")


def test_checkpoints_elsewhere_are_found(tmp_path):
    cfg = toy(tmp_path / "work", **BEST)
    cfg.default_hooks.checkpoint.update(out_dir=str(tmp_path / "out"), max_keep_ckpts=1)
    run(cfg, kill_after=8)
    assert "iter_6.pth" in names(tmp_path / "out/work") and not names(tmp_path / "work")
    run(cfg, resume=True)
    assert "iter_12.pth" in names(tmp_path / "out/work")
    assert len([n for n in names(tmp_path / "out/work") if n.startswith("iter")]) == 1


@pytest.mark.parametrize(
    "template", ["last.pth", "epoch_{}", "{}/{}.pth", "best_{}.pth", "e{:.0e}.pth", "{x}.pth"]
)
def test_template_without_a_name_for_each_step(template):
    with pytest.raises(ValueError, match="filename_tmpl=.*expected a name with one"):
        WholeCheckpointHook(interval=1, filename_tmpl=template, max_keep_ckpts=1)


def test_own_names():
    assert is_own_name("epoch_12.pth", "epoch_{}.pth")
    assert is_own_name("e012.pth", "e{:03d}.pth") and not is_own_name("e12.pth", "e{:03d}.pth")
    assert is_own_name("best_coco_bbox_mAP_epoch_3.pth", "epoch_{}.pth")
    for name in ("../epoch_1.pth", "epoch_1.pth/", "other.pth", "best_x.pth", "", None, 5, b"a"):
        assert not is_own_name(name, "epoch_{}.pth")


@pytest.mark.parametrize("moment", ["written", "pointed", "removed_none"])
def test_a_kill_before_removing_is_made_up_for(tmp_path, monkeypatch, moment):
    changes = BEST | {
        "default_hooks.checkpoint": dict(
            interval=3, max_keep_ckpts=1, save_best="score", rule="greater"
        )
    }
    cfg = toy(tmp_path / "work", **changes)
    write = whole_checkpoints.write_whole

    def die(path, data):
        if moment == "pointed":
            write(path, data)
        if data == "iter_9.pth":
            raise Killed
        write(path, data)

    def die_later(self, but):
        if any("iter_6" in name for name in self.retired_names):
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        if moment == "removed_none":
            patch.setattr(whole_checkpoints._LateRemoval, "remove_now", die_later)
        else:
            patch.setattr(whole_checkpoints, "write_whole", die)
        train(cfg)
    assert {"iter_6.pth", "iter_9.pth"} <= names(tmp_path / "work")
    run(cfg, resume=True)
    whole = run(toy(tmp_path / "whole", **changes))
    assert names(tmp_path / "work") == names(whole)
    assert not compare_states(whole / "iter_12.pth", tmp_path / "work/iter_12.pth")


@HOOKS.register_module(force=True)
class RuinHook(Hook):
    """Makes the weights infinite after a step, as a diverging training does."""

    priority = "VERY_HIGH"

    def __init__(self, after: int, loss_only: bool = False):
        self.after, self.loss_only = after, loss_only

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter >= self.after and not self.loss_only:
            next(runner.model.parameters()).data.fill_(float("nan"))

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter >= self.after and self.loss_only:
            runner.message_hub.update_scalar("train/loss", float("inf"))


def test_infinite_weights_stop_at_the_checkpoint(tmp_path):
    changes = {"default_hooks.checkpoint": dict(interval=3, max_keep_ckpts=1)}
    cfg = toy(tmp_path, **changes)
    cfg.train_cfg.val_interval = 100
    cfg.custom_hooks = [dict(type="RuinHook", after=4)]
    with pytest.raises(DivergedError, match=r"step 6 .*learning rate .*iter_3\.pth.*clip_grad"):
        train(cfg)
    assert names(tmp_path) == {"iter_3.pth"}


def test_infinite_losses_stop_within_twice_the_interval(tmp_path):
    cfg = toy(tmp_path)
    cfg.default_hooks.finite_loss.interval = 4
    cfg.default_hooks.checkpoint.interval = 100
    cfg.custom_hooks = [dict(type="RuinHook", after=2, loss_only=True)]
    with pytest.raises(DivergedError, match=r"for 6 steps up to step 8 \(.*loss inf.*rate"):
        train(cfg)


def test_a_single_infinite_loss_is_let_pass(tmp_path):
    cfg = toy(tmp_path)
    cfg.default_hooks.finite_loss.interval = 4
    cfg.custom_hooks = [dict(type="RuinHook", after=11, loss_only=True)]
    train(cfg)
    assert "iter_12.pth" in names(tmp_path)


def test_the_hook_is_there_whatever_the_config_inherits(tmp_path):
    cfg = toy(tmp_path)
    del cfg.default_hooks.finite_loss
    cfg.train_cfg.max_iters = 30
    cfg.default_hooks.checkpoint.interval = 100
    cfg.custom_hooks = [dict(type="RuinHook", after=2, loss_only=True)]
    with pytest.raises(DivergedError, match="step 20"):
        train(cfg)


@MODELS.register_module(force=True)
class InfiniteGradient(ToyModel):
    """Its loss is finite, and the gradient of a root at 0 is not."""

    def forward(self, inputs, mode="tensor"):
        found = super().forward(inputs, mode)
        if mode == "loss":
            found["loss_first"] = found["loss_first"] + (self.head.weight * 0).sum().abs().sqrt()
        return found


def test_mixed_precision_that_skips_every_step_is_stopped(tmp_path):
    cfg = toy(tmp_path, model=dict(type="InfiniteGradient"))
    cfg.optim_wrapper.update(type="AmpOptimWrapper", dtype="float16")
    cfg.train_cfg.update(max_iters=60, val_interval=100)
    with pytest.raises(DivergedError, match=r"no step is taken at step 30: the loss scale"):
        train(cfg)
    assert "iter_27.pth" in names(tmp_path)
    cfg.optim_wrapper.loss_scale = 512.0  # fixed by the user: not ours to judge
    cfg.work_dir = str(tmp_path / "fixed")
    train(cfg)
