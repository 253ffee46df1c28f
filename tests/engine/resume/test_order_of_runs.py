"""Steps tell the order of runs, whatever the clock says; and folders that go while one runs."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import mmengine.runner.runner
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from random_training import compare_states, run
from toy_training import toy

from mmplugins.checkpoint import read_checkpoint
from mmplugins.engine import train
from mmplugins.utils import WriteError
from mmplugins.visualization.training_curves import read_curves


def a_clock_that_goes(monkeypatch, seconds: float) -> None:
    """Every start of a training is so many seconds after the one before."""
    now = [1.9e9]

    def time() -> float:
        now[0] += seconds
        return now[0]

    strange = SimpleNamespace(**vars(mmengine.runner.runner.time) | dict(time=time))
    monkeypatch.setattr(mmengine.runner.runner, "time", strange)


@pytest.mark.parametrize("seconds", [-3600, 0, 3600])
def test_curves_follow_steps(tmp_path, monkeypatch, seconds):
    expected = read_curves(run(toy(tmp_path / "whole")))
    a_clock_that_goes(monkeypatch, seconds)
    cfg = toy(tmp_path / "broken")
    run(cfg, kill_after=8)
    run(cfg, kill_after=11, resume=True)
    run(cfg, resume=True)
    logs = list((tmp_path / "broken").glob("*/vis_data/scalars.json"))
    assert len(logs) == (3 if seconds else 1)
    assert read_curves(tmp_path / "broken") == expected
    assert [step for step, _ in expected.loss] == [2, 4, 6, 8, 10, 12]
    whole = tmp_path / "whole/iter_12.pth"
    assert not compare_states(whole, tmp_path / "broken/iter_12.pth")


def test_without_its_averaged_weights_it_is_not_exact(tmp_path):
    cfg = toy(tmp_path, custom_hooks=[dict(type="EMAHook")])
    run(cfg, kill_after=5)
    content = read_checkpoint(tmp_path / "iter_3.pth")
    del content["ema_state_dict"]
    torch.save(content, tmp_path / "iter_3.pth")
    run(cfg, resume=True)
    said = "".join(path.read_text() for path in tmp_path.glob("*/*.log"))
    assert "not exactly: it holds no averaged weights, which start afresh" in said


@HOOKS.register_module(force=True)
class RemovingHook(Hook):
    """Removes the work dir in the middle, as a hasty clean-up does."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == 4:
            shutil.rmtree(runner.work_dir)


def test_a_work_dir_that_goes_is_one_sentence(tmp_path):
    cfg = toy(tmp_path / "work", custom_hooks=[dict(type="RemovingHook")])
    with pytest.raises(WriteError, match="was removed while"):
        train(cfg)
