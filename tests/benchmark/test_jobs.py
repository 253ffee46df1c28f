"""Runs as jobs: plans, workers that are pinned, killed and gone on from, and submitit."""

from __future__ import annotations

import importlib.util
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mmplugins.benchmark.jobs import command_of, cores_of, run_workers, submit, write_plan
from mmplugins.benchmark.protocol import DataSet, Protocol
from mmplugins.benchmark.runs import plan
from mmplugins.engine import SettingError


@pytest.fixture
def runs(tmp_path):
    protocol = Protocol("p", sets=(DataSet("s", "net.py"),), report="val", seeds=4)
    return plan(protocol, {"a b": "poolformer_s12"}, tmp_path / "my out")


def python(code, *words):
    return [sys.executable, "-c", code, *map(str, words)]


def test_a_plan_is_one_line_per_run_for_a_shell(runs, tmp_path):
    commands = [command_of(run, "tools/leaderboard.py", "mlflow") for run in runs]
    lines = write_plan(commands, tmp_path).read_text().splitlines()
    assert [shlex.split(line) for line in lines] == commands and len(lines) == 4
    assert commands[1][-4:] == ["--run", "s/a b/random/lr-recipe/seed1", "--tracker", "mlflow"]
    assert Path(commands[0][1]).is_absolute() and Path(commands[0][3]).is_absolute()


def test_workers_run_at_once_and_say_how_they_ended(runs, tmp_path):
    """The first two wait for each other, so one at a time would never end."""
    code = (
        "import os, sys, time, pathlib; here, other, status = sys.argv[1:]\n"
        "pathlib.Path(here).write_text(os.environ['OMP_NUM_THREADS'])\n"
        "while not pathlib.Path(other).exists(): time.sleep(0.01)\n"
        "sys.exit(int(status))"
    )
    files = [tmp_path / str(k) for k in range(4)]
    commands = [python(code, files[k], files[k ^ 1], k) for k in range(4)]
    ended = {}
    run_workers(runs, commands, 2, 3, lambda run, status: ended.update({run.seed: status}))
    assert ended == {0: 0, 1: 1, 2: 2, 3: 3} and files[0].read_text() == "3"
    assert all((run.folder / "worker.log").is_file() for run in runs)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="cores cannot be chosen here")
def test_cores_are_shared_out(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {2, 3, 4, 5})
    assert [cores_of(k, 2, 1) for k in range(2)] == [{2, 3}, {4, 5}]
    assert [cores_of(k, 3, 1) for k in range(3)] == [{2}, {3}, {4}]
    assert [cores_of(k, 6, 1) for k in (3, 4, 5)] == [{5}, {2}, {3}]
    assert cores_of(1, 3, 2) == {4, 5}


def test_an_interrupt_ends_all_workers(runs, tmp_path, interruptible):
    code = "import sys, time, pathlib; pathlib.Path(sys.argv[1]).write_text('x'); time.sleep(600)"
    files = [tmp_path / str(k) for k in range(4)]

    def interrupt():
        while not (files[0].exists() and files[1].exists()):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_workers(runs, [python(code, file) for file in files], 2, 1, lambda *_: None)
    assert not files[2].exists() and time.monotonic() - began < 300
    left = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert str(files[0]) not in left


@pytest.mark.skipif(not importlib.util.find_spec("submitit"), reason="submitit is not installed")
def test_jobs_by_submitit(tmp_path):
    code = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text('x'); sys.exit(3)"
    jobs = submit([python(code, tmp_path / "a")], "local", tmp_path, dict(timeout_min=5))
    assert [job.result() for job in jobs] == [3] and (tmp_path / "a").exists()
    with pytest.raises(SettingError, match="--submit slurm"):
        submit([["true"]], "slurm", tmp_path, {})


def test_without_submitit(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(SettingError, match=r"pip install .mmplugins\[benchmark\].*--plan"):
        submit([["true"]], "local", tmp_path, {})
