"""What is left, and said, when a training is stopped by Ctrl-C or SIGTERM."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .training_folder import resumable_files

_received: list[type[KeyboardInterrupt]] = []


class Terminated(KeyboardInterrupt):
    """SIGTERM, as batch systems send it before they kill."""


@contextlib.contextmanager
def signals_interrupt() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end what runs within, so that workers end and the console is left.

    Only the main thread can, elsewhere this does nothing. Other errors after a signal are taken for
    its consequence: a data loader's over a worker that it ended too, or those of libraries that
    turn any exception into one of their own.

    Raises:
        KeyboardInterrupt: At Ctrl-C.
        Terminated: At SIGTERM.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGTERM, _stop)
    if before[signal.SIGINT] is signal.default_int_handler:  # not of a notebook, nor ignored
        signal.signal(signal.SIGINT, _stop)
    try:
        yield
    except Exception as error:
        if _received:
            raise _received[0] from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if before[signal.SIGTERM] is not _stop:
            _received.clear()


def _stop(number: int, frame: Any) -> None:
    _received.append(Terminated if number == signal.SIGTERM else KeyboardInterrupt)
    raise _received[0]


def raise_if_interrupted() -> None:
    """Raise again what Python dropped: it ignores errors while it forks a worker or deletes.

    Raises:
        KeyboardInterrupt: If a signal came within the surrounding :func:`signals_interrupt`.
    """
    if _received:
        raise _received[0]


def start_worker(worker_id: int, then: Callable[[int], None] | None = None) -> None:
    """Let a worker of a data loader end at SIGTERM as at Ctrl-C: quietly, and without locks held.

    Batch systems send the signal to a whole group of processes.

    Args:
        worker_id: Number of the worker.
        then: What else is to be done when it starts.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if then:
        then(worker_id)


def how_to_go_on(work_dir: str | Path) -> str:
    """Say from where a training that was interrupted can go on, and how."""
    found = resumable_files(work_dir)
    if not found:
        return f"Stopped before a first checkpoint was written to {work_dir}: start it again."
    return f"Stopped. Last checkpoint: {found[0]}. To go on: the same command with --resume"
