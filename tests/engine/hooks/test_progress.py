"""The progress of a run, without a run."""

from __future__ import annotations

import io
import logging
import sys
from types import SimpleNamespace

import pytest
from mmengine.logging import HistoryBuffer
from mmengine.registry import HOOKS
from rich.console import Console

from mmplugins.engine.hooks import progress
from mmplugins.engine.hooks.progress import Display, ProgressHook, time_left


@pytest.fixture
def now(monkeypatch):
    """A clock that stands until it is set."""
    time = SimpleNamespace(value=100.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: time.value)
    return time


def fake_runner(iters=4, epochs=2):
    logger = logging.Logger("run")
    logger.addHandler(logging.StreamHandler(sys.stdout))
    logger.handlers[0].setLevel(logging.INFO)
    losses = [9.0, *[1.0] * progress.LOSS_WINDOW]
    scalars = {
        "train/loss": HistoryBuffer(losses, [1] * len(losses)),
        "train/loss_cls": HistoryBuffer([0.75], [1]),
        "train/loss_bbox": HistoryBuffer([0.25], [1]),
        "train/acc": HistoryBuffer([50.0], [1]),
        "train/lr": HistoryBuffer([0.01], [1]),
    }
    return SimpleNamespace(
        iter=0,
        epoch=0,
        max_iters=iters,
        max_epochs=epochs,
        logger=logger,
        message_hub=SimpleNamespace(log_scalars=scalars),
        val_dataloader=range(3),
        test_dataloader=range(3),
    )


def test_time_left_is_by_the_mean_pace_of_this_run(now):
    display = Display(Console(file=io.StringIO()))
    task = display.begin("train", total=110, done=10)  # resumed at 10
    assert time_left(task) == "ETA -:--:--"
    for done, seconds in ((28, 20), (30, 40)):  # a validation among the last steps
        now.value += seconds
        display.update(task, done)
    assert time_left(task) == "ETA 0:04:00"  # 80 steps of 3 seconds
    now.value += 3639.6
    display.update(task, 110)
    now.value += 100
    assert time_left(task) == "in 1:01:40"


def test_lines_come_now_and_then_and_at_the_end(now):
    out = io.StringIO()
    display = Display(Console(file=out, width=20))
    task = display.begin("train", total=100)
    notes = iter(range(100))
    for step in range(1, 101):
        now.value += 1
        display.update(task, step, lambda: f"loss [{next(notes)}]")
    display.close()
    said = out.getvalue().splitlines()
    assert len(said) == 100 // progress.LINE_SECONDS
    assert said[0] == "train  20/100  20%  ETA 0:01:20  loss [0]"
    assert said[-1] == "train  100/100  100%  in 0:01:40  loss [4]"  # notes are made to be shown


def test_bars_show_count_time_and_note(now):
    out = io.StringIO()
    display = Display(Console(file=out, force_terminal=True, width=60, color_system=None))
    task = display.begin("train", total=8000)
    now.value += 10
    display.update(task, 2000, lambda: "loss [0.5]" + " and more" * 9)
    display.update(task, 3000, lambda: "too soon")
    display.say("validated [so]")
    display.close()
    shown = out.getvalue()
    assert "2000/8000 ETA 0:00:30 loss [0.5] and…" in shown  # all on one line
    assert "validated [so]" in shown and "too soon" not in shown
    assert shown.rstrip().endswith("\x1b[?25h")  # the cursor is back


def test_hook_is_registered():
    assert isinstance(HOOKS.build(dict(type="ProgressHook")), ProgressHook)


def test_hook_through_a_training(now, capsys, monkeypatch):
    monkeypatch.setattr(progress, "_memory", lambda: 1.5)
    hook, runner = ProgressHook(), fake_runner()
    hook.before_train(runner)
    assert runner.logger.handlers[0].level == logging.WARNING
    for runner.iter in range(4):
        runner.epoch = runner.iter // 2
        now.value += 30
        hook.after_train_iter(runner, runner.iter % 2)
        if runner.iter % 2:
            hook.before_val_epoch(runner)
            for batch in range(3):
                hook.after_val_iter(runner, batch)
            hook.after_val_epoch(runner, {"coco/bbox_mAP": 0.25, "coco/copypaste": "0.25 0.5"})
    hook.after_train(runner)
    note = "0.03 it/s  1.5 GB  loss 1.0000  (cls 0.750, bbox 0.250)  lr 1.0e-02"
    assert capsys.readouterr().out.splitlines() == [
        f"train  1/4  25%  ETA 0:01:30  epoch 1/2  {note}",
        f"train  2/4  50%  ETA 0:01:00  epoch 1/2  {note}",
        "validate  3/3  100%  in 0:00:00",
        "validated after 2/4: bbox_mAP 0.250",
        f"train  3/4  75%  ETA 0:00:30  epoch 2/2  {note}",
        f"train  4/4  100%  in 0:02:00  epoch 2/2  {note}",
        "validate  3/3  100%  in 0:00:00",
        "validated after 4/4: bbox_mAP 0.250",
    ]
    assert runner.logger.handlers[0].level == logging.INFO
    hook.close()  # a second time changes nothing


def test_hook_through_a_test(now, capsys):
    hook, runner = ProgressHook(), fake_runner()
    hook.before_test_epoch(runner)
    for batch in range(3):
        hook.after_test_iter(runner, batch)
    hook.after_test_epoch(runner, {})
    assert capsys.readouterr().out == "test  3/3  100%  in 0:00:00\n"
    assert runner.logger.handlers[0].level == logging.INFO


def test_warnings_appear_above_the_bar_and_the_stream_comes_back(monkeypatch):
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=90, color_system=None)
    monkeypatch.setattr(progress, "Console", lambda: console)
    hook, runner = ProgressHook(), fake_runner()
    handler = runner.logger.handlers[0]
    before = handler.stream
    hook.before_train(runner)
    runner.logger.info("a detail")
    runner.logger.warning("look out")
    assert "look out\n" in out.getvalue() and "a detail" not in out.getvalue()
    hook.close()
    assert handler.stream is before and handler.level == logging.INFO


def test_other_processes_are_silent(monkeypatch, capsys):
    monkeypatch.setattr(progress, "is_main_process", lambda: False)
    hook, runner = ProgressHook(), fake_runner()
    hook.before_train(runner)
    hook.after_train_iter(runner, 0)
    hook.before_val_epoch(runner)
    hook.after_val_iter(runner, 0)
    hook.after_val_epoch(runner, {"a": 1.0})
    hook.after_train(runner)
    assert capsys.readouterr().out == ""


def test_memory_is_that_of_this_process(monkeypatch):
    monkeypatch.setattr(progress.torch.cuda, "is_available", lambda: False)
    ballast = bytearray(b"x") * 200 * 2**20
    assert 0.2 < progress._memory() < 64 and len(ballast)
