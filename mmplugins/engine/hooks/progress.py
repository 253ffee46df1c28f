"""Progress of training, validation and testing on the console, with the time that is left.

On a terminal a bar; elsewhere, as in a log of a batch job, a line now and then.
"""

from __future__ import annotations

import atexit
import logging
import sys
import time
from numbers import Real
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.text import Text

if sys.platform != "win32":
    import resource

LINE_SECONDS = 20.0
"""Time between two lines where there is no terminal."""

REDRAW_SECONDS = 0.1
"""Least time between two drawings of the bar."""

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


def clock(seconds: float) -> str:
    """``H:MM:SS``, or ``M:SS`` below an hour."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class Stretch:
    """A known number of steps, and the time they take.

    The estimate is the mean pace so far, so that pauses (validation, checkpoints) count as they
    come: with ``total`` steps of which ``done`` are finished, the rest takes
    ``elapsed / (done - start) * (total - done)``.

    Args:
        name: What is done, for example ``'train'``.
        total: Number of steps in all.
        start: Steps that were done before, for example in the run that is resumed.
    """

    def __init__(self, name: str, total: int, start: int = 0):
        self.name, self.total, self.start, self.done = name, total, start, start
        self.began = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since the first step."""
        return time.monotonic() - self.began

    @property
    def left(self) -> float | None:
        """Seconds to go, or None before the first step is done."""
        if self.done == self.start:
            return None
        return self.elapsed / (self.done - self.start) * (self.total - self.done)

    @property
    def eta(self) -> str:
        """The time left, and once all is done the time it took."""
        if self.done >= self.total:
            return f"in {clock(self.elapsed)}"
        return "ETA -:--" if self.left is None else f"ETA {clock(self.left)}"


class Bars:
    """Stretches as bars at the foot of a terminal; what others print appears above them.

    No thread refreshes them: data loaders fork, and a lock held by a thread at that moment would
    stay locked in the child for ever.
    """

    def __init__(self, console: Console):
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("[cyan]{task.fields[eta]}"),
            TextColumn("{task.fields[note]}", markup=False),
            console=console,
            auto_refresh=False,
            expand=True,
        )
        self._ids: dict[Stretch, TaskID] = {}
        self._drawn = 0.0
        self._progress.start()

    def begin(self, stretch: Stretch) -> None:
        self._ids[stretch] = self._progress.add_task(
            stretch.name, total=stretch.total, completed=stretch.done, eta=stretch.eta, note=""
        )
        self._progress.refresh()

    def update(self, stretch: Stretch, note: str) -> None:
        now = time.monotonic()
        if now - self._drawn < REDRAW_SECONDS and stretch.done < stretch.total:
            return
        self._drawn = now
        self._progress.update(
            self._ids[stretch], completed=stretch.done, eta=stretch.eta, note=note, refresh=True
        )

    def end(self, stretch: Stretch) -> None:
        self._progress.remove_task(self._ids.pop(stretch))

    def say(self, text: str) -> None:
        self._progress.console.print(Text(text))

    def close(self) -> None:
        self._progress.stop()


class Lines:
    """Stretches as lines, one every :data:`LINE_SECONDS` and one at the end of each."""

    def __init__(self, console: Console):
        self._console = console
        self._said = time.monotonic()

    def begin(self, stretch: Stretch) -> None:
        pass

    def update(self, stretch: Stretch, note: str) -> None:
        now = time.monotonic()
        if now - self._said < LINE_SECONDS and stretch.done < stretch.total:
            return
        self._said = now
        share = 100 * stretch.done // max(stretch.total, 1)
        counts = f"{stretch.done}/{stretch.total}  {share}%"
        self.say("  ".join(filter(None, (stretch.name, counts, stretch.eta, note))))

    def end(self, stretch: Stretch) -> None:
        pass

    def say(self, text: str) -> None:
        self._console.print(Text(text), soft_wrap=True)

    def close(self) -> None:
        pass


@HOOKS.register_module()
class ProgressHook(Hook):
    """Shows how far training, validation or testing is, and when it will be done.

    While it shows something, the logger's lines below WARNING go to the log file only. It speaks
    on the main process alone.
    """

    priority = "LOWEST"  # after the hooks that compute what it shows

    def __init__(self) -> None:
        self._display: Bars | Lines | None = None
        self._main: Stretch | None = None
        self._inner: Stretch | None = None
        self._handlers: list[tuple[logging.StreamHandler, Any, int]] = []

    def before_train(self, runner: Runner) -> None:
        self._main = Stretch("train", runner.max_iters, runner.iter)
        self._open(runner, self._main)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        if self._display and self._main:
            self._main.done = runner.iter + 1
            self._display.update(self._main, _training_note(runner, self._main))

    def after_train(self, runner: Runner) -> None:
        self.close()

    def before_val_epoch(self, runner: Runner) -> None:
        self._inner = Stretch("validate", len(runner.val_dataloader))
        self._open(runner, self._inner)

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        self._step_inner(batch_idx)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        if not self._display or not self._inner:
            return
        self._display.end(self._inner)
        place = f"after {self._main.done}/{self._main.total}: " if self._main else ""
        self._display.say(f"validated {place}{_in_words(metrics or {})}")
        if self._main is None:
            self.close()

    def before_test_epoch(self, runner: Runner) -> None:
        self._inner = Stretch("test", len(runner.test_dataloader))
        self._open(runner, self._inner)

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        self._step_inner(batch_idx)

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
        self._display = self._main = self._inner = None
        self._handlers = []

    def _open(self, runner: Runner, stretch: Stretch) -> None:
        if not is_main_process():
            return
        if self._display is None:
            console = Console()
            self._display = Bars(console) if console.is_terminal else Lines(console)
            atexit.register(self.close)  # a run that fails must not leave the cursor hidden
            for handler in console_handlers(runner.logger):
                self._handlers.append((handler, handler.stream, handler.level))
                handler.setLevel(max(handler.level, logging.WARNING))
                if console.is_terminal:
                    handler.setStream(sys.stdout)  # now rich's: above the bar, not through it
        self._display.begin(stretch)

    def _step_inner(self, batch_idx: int) -> None:
        if self._display and self._inner:
            self._inner.done = batch_idx + 1
            self._display.update(self._inner, "")


def _training_note(runner: Runner, stretch: Stretch) -> str:
    """Epoch, speed, memory, losses (the sum, and its parts if there are some) and rate."""
    scalars = runner.message_hub.log_scalars
    parts = []
    if runner.max_epochs > 1:
        parts.append(f"epoch {runner.epoch + 1}/{runner.max_epochs}")
    if stretch.elapsed > 0:
        parts.append(f"{(stretch.done - stretch.start) / stretch.elapsed:.2f} it/s")
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
