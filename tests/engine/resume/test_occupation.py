"""One training per folder, also after kills; no orphans."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from random_training import run
from toy_training import toy

from mmplugins.engine import SettingError, train
from mmplugins.engine.resume import occupation
from mmplugins.engine.resume.occupation import HOLDER, LOCK, only_training_in, refuse_in_use

HERE = Path(__file__).parents[1]
HOLD = """
import sys, time, os
from mmplugins.engine.resume.occupation import only_training_in
with only_training_in(sys.argv[1]):
    if "fork" in sys.argv:
        if os.fork() == 0:
            time.sleep(60)
    print("held", flush=True)
    time.sleep(60)
"""


def holding(folder: Path, *args: str) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), *args],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(HERE.parents[1])},
        start_new_session=True,
    )
    assert process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_a_second_training_is_refused(tmp_path):
    process = holding(tmp_path)
    try:
        for refuse in (lambda: train(toy(tmp_path)), lambda: refuse_in_use(tmp_path)):
            with pytest.raises(SettingError, match=f"in use by process {process.pid} on .*since"):
                refuse()
    finally:
        end(process)


@pytest.mark.slow
def test_the_folder_of_a_dead_one_is_taken_over(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(occupation, "print_log", lambda text, *_: said.append(text))
    process = holding(tmp_path, "fork")  # its worker stays, as a data loader's may
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    try:
        with only_training_in(tmp_path):
            assert json.loads((tmp_path / HOLDER).read_text())["pid"] == os.getpid()
    finally:
        end_group = process.pid
        os.killpg(end_group, signal.SIGKILL)
    assert any(f"process {process.pid}" in text and "taken over" in text for text in said)


def test_nothing_is_left(tmp_path):
    run(toy(tmp_path))
    assert not (tmp_path / LOCK).exists() and not (tmp_path / HOLDER).exists()
    with pytest.raises(ZeroDivisionError), only_training_in(tmp_path):
        raise ZeroDivisionError
    assert not (tmp_path / LOCK).exists()


@pytest.mark.parametrize("text", ["", "[]", "no json", '{"pid": "x", "host": []}'])
def test_what_stands_in_the_folder_is_not_believed(tmp_path, text):
    (tmp_path / HOLDER).write_text(text)
    with only_training_in(tmp_path):
        assert json.loads((tmp_path / HOLDER).read_text())["pid"] == os.getpid()


def test_a_number_that_was_used_again(tmp_path):
    me = occupation._myself()
    assert not occupation._is_dead(me) and occupation._is_dead(me | dict(started="0"))
    assert not occupation._is_dead(me | dict(host="elsewhere", started="0"))


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingError, match="cannot be written"):
        train(toy(tmp_path / "file" / "work"))


ORPHAN = """
import sys
sys.path.insert(0, {here!r})
from pathlib import Path
import torch
from toy_training import toy
from mmplugins.engine import train
torch.set_num_threads(1)
cfg = toy(Path(sys.argv[1]), launcher="pytorch")
cfg.train_cfg.max_iters = 10**6
cfg.train_dataloader.batch_size = 2
cfg.default_hooks.checkpoint.interval = 50
cfg.train_cfg.val_interval = 10**6
train(cfg)
"""


@pytest.mark.slow
def test_processes_end_with_their_launcher(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(ORPHAN.format(here=str(HERE)))
    work_dir = tmp_path / "work"
    launcher = subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
        + [str(script), str(work_dir)],
        env=os.environ | {"PYTHONPATH": str(HERE.parents[1]), "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )
    try:
        begin = time.monotonic()
        while not (work_dir / "iter_50.pth").is_file():
            assert time.monotonic() - begin < 200
            time.sleep(0.2)
        holder = json.loads((work_dir / HOLDER).read_text())
        launcher.kill()
        launcher.wait()
        begin = time.monotonic()
        while not occupation._is_dead(holder):
            assert time.monotonic() - begin < 60
            time.sleep(0.2)
        cfg = toy(work_dir, resume=True)
        # How far they came depends on how busy the machine is.
        last = 10 + max(int(path.stem[5:]) for path in work_dir.glob("iter_*.pth"))
        cfg.train_cfg.max_iters = last
        train(cfg)
    finally:
        os.killpg(launcher.pid, signal.SIGKILL) if launcher.poll() is None else None
    assert torch.load(work_dir / f"iter_{last}.pth", weights_only=False)["meta"]["iter"] == last
