"""Trainings that are killed and resumed, against the same trainings left alone."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from random_training import compare_states, run, tiny
from toy_training import toy

from mmplugins.checkpoint import read_checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    torch.set_num_threads(1)
    return tmp_path_factory.mktemp("resume")


MID_EPOCH = {"default_hooks.checkpoint": dict(type="CheckpointHook", by_epoch=False, interval=2)}
WORKERS = {"train_dataloader.num_workers": 2, "train_dataloader.persistent_workers": True}
EMA = dict(custom_hooks=[dict(type="EMAHook", momentum=0.1, update_buffers=True)])
AMP = {"optim_wrapper.type": "AmpOptimWrapper", "optim_wrapper.dtype": "bfloat16"}
ACCUMULATE = {"optim_wrapper.accumulative_counts": 3}
BY_ASPECT = {"train_dataloader.batch_sampler": dict(type="mmdet.AspectRatioBatchSampler")}
BEST = {"default_hooks.checkpoint": dict(type="CheckpointHook", interval=1, max_keep_ckpts=1,
        save_best="coco/bbox_mAP")}  # fmt: skip


@pytest.mark.parametrize(
    ("task", "last", "changes", "kills"),
    [
        pytest.param("detection", "epoch_2", BEST | BY_ASPECT, (7,), marks=pytest.mark.slow),
        pytest.param(
            "detection", "iter_10", MID_EPOCH | WORKERS | EMA, (3, 7), marks=pytest.mark.slow
        ),
        pytest.param("detection", "iter_10", MID_EPOCH | ACCUMULATE, (5,), marks=pytest.mark.slow),
        pytest.param("segmentation", "iter_12", WORKERS, (4, 11), marks=pytest.mark.slow),
        ("segmentation", "iter_12", EMA | AMP, (5,)),
        pytest.param("segmentation", "iter_12", ACCUMULATE, (7,), marks=pytest.mark.slow),
        pytest.param(
            "segmentation",
            "iter_12",
            {"train_dataloader.sampler.type": "DefaultSampler"},
            (8,),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_killed_and_resumed_is_as_if_left_alone(folder, tmp_path, task, last, changes, kills):
    whole = run(tiny(task, folder, tmp_path / "whole", **changes))
    workers = {"train_dataloader.num_workers": 0, "train_dataloader.persistent_workers": False}
    broken = tiny(task, folder, tmp_path / "broken", **changes)
    for number, after in enumerate(kills):
        run(broken, kill_after=after, resume=number > 0)
        broken.merge_from_dict(workers)  # their number must not matter either
    run(broken, resume=True)
    differ = compare_states(whole / f"{last}.pth", tmp_path / "broken" / f"{last}.pth")
    assert not differ


def test_the_comparison_sees_a_difference(tmp_path):
    first, second = (run(toy(tmp_path / str(seed), randomness=dict(seed=seed))) for seed in (3, 4))
    found = compare_states(first / "iter_12.pth", second / "iter_12.pth")
    for part in ("state_dict/", "optimizer/", "exact_resume/", "train/loss"):
        assert any(part in path for path in found), part


@pytest.mark.slow
def test_without_a_seed_in_the_config(folder, tmp_path):
    cfg = tiny("segmentation", folder, tmp_path / "first")
    cfg.randomness = dict(seed=None)
    run(cfg, kill_after=8)
    checkpoint = tmp_path / "first/iter_6.pth"
    seed = read_checkpoint(checkpoint)["meta"]["seed"]
    cfg.work_dir = str(tmp_path / "second")
    run(cfg, resume=str(checkpoint))
    again = tiny("segmentation", folder, tmp_path / "third", randomness=dict(seed=seed))
    whole = run(again)
    assert not compare_states(whole / "iter_12.pth", tmp_path / "second/iter_12.pth")


def test_validation_that_was_due_is_made_up_for(folder, tmp_path, capsys):
    cfg = tiny("detection", folder, tmp_path)
    run(cfg, kill_after=6)  # epoch_1.pth was written before validation
    capsys.readouterr()
    run(cfg, kill_after=7, resume=True)
    assert "validated after 5/10" in capsys.readouterr().out


def warnings_of(caplog, work_dir: Path) -> str:
    log = max(work_dir.glob("*/*.log"), key=lambda path: path.stat().st_mtime).read_text()
    return "\n".join(line for line in log.splitlines() if "WARNING" in line)


def test_what_is_not_exact_is_said(tmp_path, caplog):
    cfg = toy(tmp_path)
    del cfg.default_hooks.exact_resume  # as with the configs of mmdet and mmseg
    run(cfg, kill_after=4)
    cfg = toy(tmp_path)
    run(cfg, resume=True)
    assert "written without ExactResumeHook" in warnings_of(caplog, tmp_path)
    cfg.merge_from_dict({"train_dataloader.batch_size": 10, "train_cfg.max_iters": 13})
    run(cfg, resume=True)
    assert "5 batches to an epoch then, 2 now" in warnings_of(caplog, tmp_path)


def test_a_loop_of_ones_own_is_named(tmp_path, caplog):
    from mmengine.registry import LOOPS
    from mmengine.runner import IterBasedTrainLoop

    @LOOPS.register_module(force=True)
    class OwnLoop(IterBasedTrainLoop):
        pass

    cfg = toy(tmp_path)
    cfg.train_cfg = dict(type="OwnLoop", max_iters=1)
    run(cfg)
    assert "OwnLoop is no loop that ExactResumeHook knows" in warnings_of(caplog, tmp_path)
    logging.shutdown()


KILLED = """
import os, signal, sys
sys.path.insert(0, {here!r})
from pathlib import Path
import torch
from random_training import run
from toy_training import toy
import mmplugins.utils as writing
torch.set_num_threads(1)
replace = os.replace
def replace_or_die(source, target):  # in the middle of writing the second checkpoint
    if str(target).endswith("iter_6.pth"):
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
writing.os.replace = replace_or_die
run(toy(Path({work!r})))
"""


def test_sigkill_while_writing(tmp_path):
    here = Path(__file__).parents[1]
    script = KILLED.format(here=str(here), work=str(tmp_path / "killed"))
    environment = os.environ | {"PYTHONPATH": f"{here.parents[1]}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert {path.name for path in (tmp_path / "killed").glob("*.pth")} == {"iter_3.pth"}
    assert len(list((tmp_path / "killed").glob(".iter_6.pth.*.partial"))) == 1
    run(toy(tmp_path / "killed"), resume=True)
    whole = run(toy(tmp_path / "whole"))
    assert not compare_states(whole / "iter_12.pth", tmp_path / "killed/iter_12.pth")
    assert not list((tmp_path / "killed").glob(".*.partial"))
