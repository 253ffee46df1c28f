"""One training per folder at a time; and no process that goes on when its launcher is gone."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import signal
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from mmengine.logging import print_log

from mmplugins.utils import write_whole

from ..config.settings import SettingError

LOCK, HOLDER = ".training.lock", ".training.json"
"""The lock, and who holds it; both are gone after a training that ended by itself."""

PATIENCE = 30.0
"""Seconds to wait for a process that is about to end, since its launcher or itself is dead."""

GRACE = 10.0
"""Seconds that an orphan has to end by itself."""


@contextlib.contextmanager
def only_training_in(work_dir: str | os.PathLike) -> Iterator[None]:
    """Hold a work dir for the length of a block, in one process of a training.

    The operating system lets go of the lock of a process that dies, however it dies; who comes next
    says whom it succeeds.

    Raises:
        SettingError: If another training is at work there, or the folder cannot be written.
    """
    folder = Path(work_dir)
    lock = _acquired(folder)
    try:
        dead = _holder(folder)
        if dead:
            print_log(
                f"{folder} was left by {_words(dead)}, which ended without a word: taken over",
                "current",
                logging.WARNING,
            )
        write_whole(folder / HOLDER, json.dumps(_myself()))
        yield
    finally:
        with contextlib.suppress(OSError):
            (folder / HOLDER).unlink(missing_ok=True)
            (folder / LOCK).unlink(missing_ok=True)  # waiters look whether theirs is still there
        lock.release()


def refuse_in_use(work_dir: str | os.PathLike) -> None:
    """Stop if another training is at work in a folder; changes nothing in it.

    Raises:
        SettingError: If so.
    """
    folder = Path(work_dir)
    if (folder / LOCK).exists():
        _acquired(folder).release()


def _acquired(folder: Path) -> FileLock:
    lock = FileLock(folder / LOCK)  # closed in forked workers, which may outlive this process
    begin, said = time.monotonic(), False
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
            return lock
        except Timeout:
            holder = _holder(folder)
            ending = not holder or _is_dead(holder) or _is_dead(holder.get("launcher"))
            if not ending or time.monotonic() - begin > PATIENCE:
                raise SettingError(
                    f"work dir {str(folder)!r} is in use by {_words(holder)}: wait for it, stop "
                    "it, or give another --work-dir"
                ) from None
            if holder and not said:
                print_log(f"Waiting for {_words(holder)} to end", "current", logging.WARNING)
                said = True
            time.sleep(0.2)
        except OSError as error:
            raise SettingError(
                f"work dir {str(folder)!r} cannot be written ({error.strerror or error}): give "
                "another --work-dir"
            ) from error


def _myself() -> dict[str, Any]:
    launched = "TORCHELASTIC_RUN_ID" in os.environ
    parent = os.getppid()
    return dict(
        host=platform.node(),
        pid=os.getpid(),
        started=_started(os.getpid()),
        since=f"{datetime.now():%Y-%m-%d %H:%M:%S}",
        launcher=dict(host=platform.node(), pid=parent, started=_started(parent))
        if launched
        else None,
    )


def _holder(folder: Path) -> dict[str, Any]:
    """Who wrote itself into the folder; empty if nobody, or it cannot be read."""
    try:
        found = json.loads((folder / HOLDER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _words(holder: dict[str, Any]) -> str:
    if not holder:
        return "another process"
    host, pid, since = (str(holder.get(key))[:80] for key in ("host", "pid", "since"))
    return f"process {pid} on {host}, there since {since}"


def _is_dead(process: Any) -> bool:
    """Whether a process is known to be dead; of other machines nothing is known."""
    if not isinstance(process, dict) or process.get("host") != platform.node():
        return False
    pid = process.get("pid")
    if type(pid) is not int or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return process.get("started") not in (None, _started(pid))


def _started(pid: int) -> str | None:
    """When a process started, in the kernel's ticks: numbers of processes are used again."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, *rest = stat.rpartition(")")[2].split()
    return "dead" if state in "ZX" else rest[18]


def end_with_launcher() -> None:
    """End this process, as SIGTERM would, soon after the torchrun that started it is gone.

    Killed outright, a launcher leaves its processes behind. They would go on to train, and to write
    where the resumed training writes.
    """
    parent = os.getppid()
    if "TORCHELASTIC_RUN_ID" not in os.environ or parent <= 1:
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE)  # it may hang in a collective that nobody joins
        os._exit(143)

    threading.Thread(target=watch, name="end_with_launcher", daemon=True).start()
