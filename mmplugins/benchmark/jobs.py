"""Runs as independent jobs: one after the other here, several at once, or by a cluster's scheduler.

A job is one command, ``leaderboard.py --out FOLDER --run NAME``. All that it needs is in the
folder, its result is a file there, and a lock keeps two jobs from the same run. So jobs of any
number of machines may share a folder, and a killed one goes on when it is called again.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from mmplugins.engine import SettingError
from mmplugins.engine.resume.interruption import signals_interrupt
from mmplugins.utils import written_aside

from .runs import Run

PLAN = "plan.txt"
"""File in the folder of a protocol with one command line per missing run."""

PATIENCE = 60.0
"""Seconds that a worker has, after SIGTERM, to end by itself."""


def command_of(run: Run, tool: str | Path, tracker: str | None = None) -> list[str]:
    """The command that does one run, from any folder."""
    parts = [sys.executable, str(Path(tool).resolve()), "--out", str(run.out.resolve())]
    return [*parts, "--run", run.name, *(["--tracker", tracker] if tracker else [])]


def write_plan(commands: Sequence[Sequence[str]], folder: Path) -> Path:
    """Write the commands, one per line, quoted for a shell; returns the file."""
    with written_aside(folder / PLAN) as aside:
        aside.write_text("".join(f"{shlex.join(command)}\n" for command in commands))
    return folder / PLAN


def run_workers(
    runs: Sequence[Run],
    commands: Sequence[Sequence[str]],
    workers: int,
    threads: int,
    on_end: Callable[[Run, int], None],
) -> None:
    """Do runs in several processes at once, each on cores, or on a GPU, of its own.

    Args:
        runs: What is to be done.
        commands: The command of each.
        workers: Processes at a time.
        threads: Threads, hence cores, of each.
        on_end: Is told each run that ended, and the exit status of its process.

    Raises:
        KeyboardInterrupt: If Ctrl-C or SIGTERM stops it; all workers have then ended.
    """
    waiting = list(zip(runs, commands, strict=True))[::-1]
    free, busy = list(range(workers))[::-1], dict[int, Any]()
    try:
        with signals_interrupt():
            while waiting or busy:
                while waiting and free:
                    slot = free.pop()
                    run, command = waiting.pop()
                    busy[slot] = run, _start(run, command, slot, workers, threads)
                for slot, (run, process) in list(busy.items()):
                    if process.poll() is not None:
                        del busy[slot]
                        free.append(slot)
                        on_end(run, process.returncode)
                time.sleep(0.05)
    finally:
        _end([process for _, process in busy.values()])


def _start(
    run: Run, command: Sequence[str], slot: int, workers: int, threads: int
) -> subprocess.Popen:
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
    if gpus := torch.cuda.device_count():
        shown = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = shown.split(",") if shown else [str(i) for i in range(gpus)]
        environment["CUDA_VISIBLE_DEVICES"] = names[slot % len(names)]
    run.folder.mkdir(parents=True, exist_ok=True)
    with (run.folder / "worker.log").open("w") as log:
        process = subprocess.Popen(
            list(command), stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            env=environment, start_new_session=True,  # Ctrl-C comes from here, once
        )  # fmt: skip
    if hasattr(os, "sched_setaffinity") and not gpus:
        os.sched_setaffinity(process.pid, cores_of(slot, workers, threads))
    return process


def cores_of(slot: int, workers: int, threads: int) -> set[int]:
    """The cores of a worker: its own while there are enough, else shared in turns."""
    cores = sorted(os.sched_getaffinity(0))
    each = max(threads, len(cores) // workers)
    return {cores[(slot * each + k) % len(cores)] for k in range(each)}


def _end(processes: Sequence[subprocess.Popen]) -> None:
    """Ask processes to end, wait, and kill those that do not."""
    for process in processes:
        process.send_signal(signal.SIGTERM)
    limit = time.monotonic() + PATIENCE
    for process in processes:
        try:
            process.wait(max(limit - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def submit(
    commands: Sequence[Sequence[str]], cluster: str, folder: Path, options: dict[str, Any]
) -> list[Any]:
    """Hand runs to a scheduler by submitit, one job each; returns the jobs.

    Args:
        commands: The command of each run.
        cluster: ``'slurm'``, or ``'local'`` for processes of this machine.
        folder: For submitit's files.
        options: As submitit's executor takes them: ``timeout_min``, ``slurm_partition``, ...

    Raises:
        SettingError: If submitit is missing, or there is no such scheduler here.
    """
    try:
        import submitit
    except ImportError:
        raise SettingError(
            '--submit needs submitit: pip install "mmplugins[benchmark]"; or --plan writes one '
            "command line per missing run for any scheduler"
        ) from None
    try:
        executor = submitit.AutoExecutor(folder=folder / "jobs", cluster=cluster)
        executor.update_parameters(name="leaderboard", **options)
        with executor.batch():
            return [executor.submit(run_command, list(command)) for command in commands]
    except (
        RuntimeError,
        TypeError,
        ValueError,
        submitit.core.utils.FailedSubmissionError,
    ) as error:
        raise SettingError(f"--submit {cluster}: {error}") from error


def run_command(command: list[str]) -> int:
    """What a job does: the command, whose exit status it returns."""
    return subprocess.run(command).returncode
