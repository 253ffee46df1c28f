"""Progress of training, validation and testing on the console, with the time that is left.

On a terminal these are rich's bars; elsewhere, as in a log of a batch job, a line now and then.
"""

from __future__ import annotations

import atexit
import logging
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from numbers import Real
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
)
from rich.table import Column
from rich.text import Text

from mmplugins.console import Console

if sys.platform != "win32":
    import resource

LINE_SECONDS = 20.0
"""Time between two lines where there is no terminal."""

REDRAW_SECONDS = 0.1
"""Least time between two drawings of the bars."""

LOSS_WINDOW = 20
"""Iterations over which the shown loss is averaged."""


def console_handlers(logger: logging.Logger) -> list[logging.StreamHandler]:
    """The handlers of a logger that write to the console rather than to a file."""
    return [
        handler
        for handler in logger.handlers
        if isinstance(handler, logging.StreamHandler)
        and not isinstance(handler, logging.FileHandler)
    ]


def time_left(task: Task) -> str:
    """``ETA 0:12:30``, and once all is done the time it took, ``in 1:02:03``.

    The estimate is the mean pace so far, so that pauses for validation and checkpoints count as
    they come. Rich's own goes by the last steps.
    """
    if task.finished:
        return f"in {_clock(task.finished_time)}"
    done = task.completed - task.fields["earlier"]
    return f"ETA {_clock(task.elapsed / done * task.remaining) if done else '-:--:--'}"


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


class TimeLeftColumn(ProgressColumn):
    """:func:`time_left` in a bar."""

    def render(self, task: Task) -> Text:
        """The text of a task."""
        return Text(time_left(task), style="cyan")


class Display:
    """Rich's bars, and lines in their place where they cannot be seen.

    Rich leaves nothing in a log until a bar is full. And it refreshes bars in a thread, which is
    switched off here: data loaders fork, and a lock that the thread holds at that moment would stay
    locked in the child for ever.

    Args:
        console: Where to.
    """

    def __init__(self, console: Console):
        self._console = console
        self._bars = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TimeLeftColumn(Column(no_wrap=True)),
            # What there is no room for is cut off here, and not in the columns before.
            TextColumn(
                "{task.fields[note]}", markup=False, table_column=Column(no_wrap=True, ratio=1)
            ),
            console=console,
            auto_refresh=False,
            get_time=time.monotonic,
            disable=not console.is_terminal,
            expand=True,
        )
        self._shown = time.monotonic()
        self._bars.start()

    def begin(self, name: str, total: int, done: int = 0) -> Task:
        """Show a task of ``total`` steps, of which an earlier run did some."""
        self._bars.add_task(name, total=total, completed=done, earlier=done, note="")
        self._bars.refresh()
        return self._bars.tasks[-1]

    def update(self, task: Task, done: int, note: Callable[[], str] = str) -> None:
        """Show that ``done`` steps are over, if it is time to; the note is made if it is."""
        now = time.monotonic()
        pause = REDRAW_SECONDS if self._console.is_terminal else LINE_SECONDS
        if now - self._shown < pause and done < task.total:
            return
        self._shown = now
        self._bars.update(task.id, completed=done)
        self._bars.update(task.id, note=note(), refresh=True)
        if not self._console.is_terminal:
            share = f"{task.completed}/{task.total}  {int(task.percentage)}%"
            parts = (task.description, share, time_left(task), task.fields["note"])
            self.say("  ".join(filter(None, parts)))

    def end(self, task: Task) -> None:
        """Take a task away."""
        self._bars.remove_task(task.id)

    def say(self, text: str) -> None:
        """Print a line, above the bars."""
        self._console.print(Text(text), soft_wrap=not self._console.is_terminal)

    def close(self) -> None:
        """Leave the bars as they are, and the cursor where it belongs."""
        self._bars.stop()


@HOOKS.register_module()
class ProgressHook(Hook):
    """Shows how far training, validation or testing is, and when it will be done.

    While it shows something, the logger's lines below WARNING go to the log file only. It speaks
    on the main process alone.
    """

    priority = "LOWEST"  # after the hooks that compute what it shows

    def __init__(self) -> None:
        self._display: Display | None = None
        self._training: Task | None = None
        self._task: Task | None = None
        self._handlers: list[tuple[logging.StreamHandler, Any, int]] = []

    def before_train(self, runner: Runner) -> None:
        self._training = self._begin(runner, "train", runner.max_iters, runner.iter)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        if self._display and (task := self._training):
            self._display.update(task, runner.iter + 1, lambda: _training_note(runner, task))

    def after_train(self, runner: Runner) -> None:
        self.close()

    def before_val_epoch(self, runner: Runner) -> None:
        self._task = self._begin(runner, "validate", len(runner.val_dataloader))

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        if self._display and self._task:
            self._display.update(self._task, batch_idx + 1)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        if not self._display or not self._task:
            return
        self._display.end(self._task)
        task = self._training
        place = f"after {task.completed}/{task.total}: " if task else ""
        self._display.say(f"validated {place}{_in_words(metrics or {})}")
        if task is None:
            self.close()

    def before_test_epoch(self, runner: Runner) -> None:
        self._task = self._begin(runner, "test", len(runner.test_dataloader))

    after_test_iter = after_val_iter

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self.close()

    def say(self, text: str) -> None:
        """Show a line beside the progress; nothing where none is shown."""
        if self._display:
            self._display.say(text)

    def close(self) -> None:
        """Leave the console as it was found; nothing to do a second time."""
        if not self._display:
            return
        for handler, stream, level in self._handlers:
            handler.setStream(stream)
            handler.setLevel(level)
        self._display.close()
        atexit.unregister(self.close)
        self._display = self._training = self._task = None
        self._handlers = []

    def _begin(self, runner: Runner, name: str, total: int, done: int = 0) -> Task | None:
        if not is_main_process():
            return None
        if self._display is None:
            console = Console()
            self._display = Display(console)
            atexit.register(self.close)  # a run that fails must not leave the cursor hidden
            for handler in console_handlers(runner.logger):
                self._handlers.append((handler, handler.stream, handler.level))
                handler.setLevel(max(handler.level, logging.WARNING))
                if console.is_terminal:
                    handler.setStream(sys.stdout)  # now rich's: above the bars, not through them
        return self._display.begin(name, total, done)


def _training_note(runner: Runner, task: Task) -> str:
    """Epoch, speed, memory, losses (the sum, and its parts if there are some) and rate."""
    scalars = runner.message_hub.log_scalars
    parts = []
    if runner.max_epochs > 1:
        parts.append(f"epoch {runner.epoch + 1}/{runner.max_epochs}")
    if task.elapsed > 0:
        parts.append(f"{(task.completed - task.fields['earlier']) / task.elapsed:.2f} it/s")
    parts.append(f"{_memory():.1f} GB")
    losses = {
        name.removeprefix("train/"): buffer.mean(LOSS_WINDOW)
        for name, buffer in scalars.items()
        if name.startswith("train/") and name.rpartition("/")[2].rpartition(".")[2][:4] == "loss"
    }
    if "loss" in losses:
        parts.append(f"loss {losses.pop('loss'):.4f}")
        if len(losses) > 1:
            shown = [f"{name.replace('loss_', '')} {value:.3f}" for name, value in losses.items()]
            parts.append(f"({', '.join(shown)})")
    if "train/lr" in scalars:
        parts.append(f"lr {scalars['train/lr'].current():.1e}")
    return "  ".join(parts)


def _memory() -> float:
    """Most memory taken so far, in GB (2**30 bytes): the GPU's, or this process's without one."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    if sys.platform == "win32":
        return float("nan")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def _in_words(metrics: dict[str, Any]) -> str:
    """``bbox_mAP 0.362, bbox_mAP_50 0.562``: numbers only, without the evaluator's prefix."""
    numbers = [
        f"{name.rsplit('/', 1)[-1]} {value:.3f}"
        for name, value in metrics.items()
        if isinstance(value, Real)
    ]
    return ", ".join(numbers) or "no metrics"
