"""A bar on the console that shows how far a session, or trainings before it, are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from mmplugins.console import Console

from .session import Listener
from .speed import Failure, Sample


class Display(Listener):
    """Shows a bar, and says what failed.

    Args:
        progress: The bar's place.
        say: Writes a line.
    """

    def __init__(self, progress: Progress, say: Callable[[str], None]):
        self.progress, self.say = progress, say
        self.bar = progress.add_task("", total=None)

    def start(self, total: float) -> None:
        """Begin with a total of seconds, or whatever is counted."""
        self.progress.reset(self.bar, total=total)

    def at(self, done: float, what: str) -> None:
        """So much of the total is done."""
        self.progress.update(self.bar, completed=done, description=what)

    def preparing(self, label: str) -> None:
        """As a session tells it, and so below."""
        self.progress.update(self.bar, description=f"building {Path(label).name}")

    def planned(self, seconds: float) -> None:
        self.start(seconds)

    def sampled(self, sample: Sample, seconds: float) -> None:
        what = f"{sample.key.what} of {Path(sample.key.row).name}"
        self.progress.update(self.bar, advance=seconds, description=what)

    def failed(self, failure: Failure) -> None:
        self.say(f"{failure.key.row}, {failure.key.what}: {failure.reason}")


@contextmanager
def display(console: Console, say: Callable[[str], None]) -> Iterator[Display]:
    """A bar that is gone at the end."""
    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn()
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        yield Display(progress, say)
