"""What is left, and said, when a training is stopped by Ctrl-C or SIGTERM."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .whole_checkpoints import resumable_files


class Terminated(KeyboardInterrupt):
    """SIGTERM, as batch systems send it before they kill."""


@contextlib.contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Let SIGTERM end what runs within as Ctrl-C does, so that workers end and the console is left.

    Only the main thread can, elsewhere this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: Any) -> None:
        raise Terminated

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def how_to_go_on(work_dir: str | Path) -> str:
    """Say from where a training that was interrupted can go on, and how."""
    found = resumable_files(work_dir)
    if not found:
        return f"Stopped before a first checkpoint was written to {work_dir}: start it again."
    return f"Stopped. Last checkpoint: {found[0]}. To go on: the same command with --resume"
