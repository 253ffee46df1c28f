"""Trainings that are stopped by SIGTERM: from outside, in passing, with their workers."""

from __future__ import annotations

import os
import signal
import time

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from random_training import run, tiny
from torch.utils.data import TensorDataset

from mmplugins.engine import ConsoleRunner, Terminated, how_to_go_on
from mmplugins.engine.resume.interruption import raise_if_interrupted, signals_interrupt

pytestmark = pytest.mark.usefixtures("interruptible")


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(10)


class TerminatedWhenDeleted:
    """Python drops what is raised while it deletes, as it does while it forks a worker."""

    def __del__(self):
        terminate()


@HOOKS.register_module(force=True)
class DroppedSignalHook(Hook):
    def before_train(self, runner):
        self.held = TerminatedWhenDeleted()

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == 4:
            del self.held


def test_sigterm_ends_as_ctrl_c_does():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt) as stopped, signals_interrupt():
        terminate()
    assert stopped.type is Terminated and signal.getsignal(signal.SIGTERM) is before


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_dropped_sigterm_is_raised_again(tmp_path):
    torch.set_num_threads(1)
    cfg = tiny("segmentation", tmp_path, tmp_path / "work")
    cfg.custom_hooks = [dict(type="DroppedSignalHook")]
    with pytest.raises(Terminated):
        run(cfg)
    assert "iter_3.pth" in how_to_go_on(cfg.work_dir)
    raise_if_interrupted()  # that training is over


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_errors_after_a_signal_are_its_consequence(number):
    with pytest.raises(KeyboardInterrupt) as stopped, signals_interrupt():
        try:
            os.kill(os.getpid(), number)
            time.sleep(10)
        except KeyboardInterrupt:
            raise SyntaxError("Failed to format the config file") from None
    assert (stopped.type is Terminated) == (number == signal.SIGTERM)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(RuntimeError, match="of its own"), signals_interrupt():
        raise RuntimeError("of its own")


def test_workers_end_quietly(capfd):
    loader = ConsoleRunner.build_dataloader(
        dict(
            dataset=TensorDataset(torch.arange(8)),
            batch_size=1,
            num_workers=1,
            persistent_workers=True,
            sampler=dict(type="DefaultSampler", shuffle=False),
        ),
        seed=0,
    )
    batches = iter(loader)
    next(batches)
    (worker,) = batches._workers
    os.kill(worker.pid, signal.SIGTERM)
    worker.join(30)
    assert worker.exitcode == 0
    assert capfd.readouterr().err == ""


def test_how_to_go_on(tmp_path):
    assert "start it again" in how_to_go_on(tmp_path)
    path = tmp_path / "epoch_1.pth"
    torch.save({}, path)
    assert str(path) in how_to_go_on(tmp_path) and "--resume" in how_to_go_on(tmp_path)
