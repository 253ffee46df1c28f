"""A protocol of one's own over a set of one's own: what it finds, and what random kills cost it.

Colours tell the classes. One backbone sees them, its twin differs by a drop path of 2 % only, and
one has a single channel.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from programs import ROOT, load

from mmplugins.benchmark.leaderboard import read_board

COLOURS = np.array([[0, 0, 0], [200, 150, 90], [60, 140, 70], [80, 80, 190]])
DIMS = "arch=dict(depths=(1, 1, 1, 1), dims=(16, 24, 32, 48))"
BACKBONES = (
    f"sighted=dict(type='ConvFormer', {DIMS})",
    f"twin=dict(type='ConvFormer', {DIMS}, drop_path_rate=0.02)",
    "blind=dict(type='IdentityFormer', arch=dict(depths=(1, 1, 1, 1), dims=(1, 1, 1, 1)))",
)


def fields(folder: Path) -> None:
    random = np.random.default_rng(0)
    for split, count in (("training", 40), ("validation", 12)):
        for kind in ("images", "annotations"):
            (folder / kind / split).mkdir(parents=True)
        for k in range(count):
            labels = np.full((64, 96), 2, np.uint8)
            sky, left = random.integers(15, 40), random.integers(5, 60)
            labels[:sky] = 1
            labels[sky - 8 : sky + 20, left : left + 25] = 3
            picture = COLOURS[labels] + random.normal(0, 20, (64, 96, 3))
            picture = np.clip(picture, 0, 255).astype(np.uint8)
            cv2.imwrite(str(folder / f"images/{split}/{k}.jpg"), picture)
            cv2.imwrite(str(folder / f"annotations/{split}/{k}.png"), labels)


def protocol(folder: Path) -> str:
    loaders = ("train_dataloader", "val_dataloader", "test_dataloader")
    here = {f"{one}.num_workers": 0 for one in loaders}
    here |= {f"{one}.persistent_workers": False for one in loaders}
    splits = {
        name: dict(images=f"images/{part}", labels=f"annotations/{part}")
        for name, part in (("train", "training"), ("test", "validation"))
    }
    one = dict(
        recipe="linear/linear_40k_ade20k.py", format="ade20k", root=str(folder),
        val=dict(holdout=8), classes=["sky", "grass", "barn"], **splits,
        options={
            "train_dataloader.dataset.pipeline.2.scale": [96, 64],
            "train_dataloader.dataset.pipeline.3.crop_size": [64, 64],
            "model.data_preprocessor.size": [64, 64],
            "val_dataloader.dataset.pipeline.1.scale": [96, 64],
            "test_dataloader.dataset.pipeline.1.scale": [96, 64],
        },
    )  # fmt: skip
    budget = dict(steps=20, batch=4, decay="poly", warm_up=2, options=here)
    content = dict(sets=dict(fields=one), budget=budget, learning_rates=["4e-3"], select="best")
    path = folder.parent / "fields.yml"
    path.write_text(yaml.safe_dump(content | dict(validations=2)))
    return str(path)


class Killed:
    """The tool as a process of its own, whose children are looked for and killed."""

    def __init__(self, command: list[str]):
        environment = dict(os.environ, OMP_NUM_THREADS="1", PYTHONPATH=str(ROOT))
        with Path("said.txt").open("a") as said:
            self.process = subprocess.Popen(
                [sys.executable, ROOT / "tools/leaderboard.py", *command], env=environment,
                stdout=said, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def __enter__(self) -> Killed:
        return self

    def __exit__(self, *_) -> None:
        for pid in [*self.workers().values(), self.process.pid]:
            kill(pid)
        self.process.wait()

    def workers(self) -> dict[str, int]:
        """Its children by the run that each does."""
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        pids = listed.read_text().split() if listed.exists() else []
        words = {pid: Path(f"/proc/{pid}/cmdline").read_text().split("\0") for pid in pids}
        return {w[w.index("--run") + 1]: int(pid) for pid, w in words.items() if "--run" in w}

    def kill_worker(self) -> None:
        """Kill the next one that has written a checkpoint, so that it goes on from there."""
        run = self.wait_for("iter_*.pth")
        kill(self.workers()[run])

    def wait_for(self, what: str) -> str:
        """Wait until one more file of this kind is there than now; returns its run."""
        before, limit = files(what), time.monotonic() + 600
        while not (new := files(what) - before):
            said = Path("said.txt").read_text()
            assert self.process.poll() is None and time.monotonic() < limit, said
            time.sleep(0.02)
        return str(new.pop().parent.relative_to("three/runs"))


def files(what: str) -> set[Path]:
    return set(Path("three").rglob(what))


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def lines(folder: str) -> list[dict[str, str]]:
    with Path(folder, "leaderboard.csv").open(newline="") as file:
        return [{k: v for k, v in line.items() if k != "seconds"} for line in csv.DictReader(file)]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are looked up in /proc")
def test_a_better_backbone_is_found_and_twins_tie(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    fields(tmp_path / "data")
    command = [*BACKBONES, "--protocol", protocol(tmp_path / "data"), "--no-cost"]
    many = [*command, "--out", "three", "--workers", "3"]
    drawn = random.Random(0)

    # A worker is killed between checkpoints; the others and the next ones go on.
    with Killed(many) as tool:
        tool.kill_worker()
        tool.wait_for("result.json")
        kept = {path: path.read_bytes() for path in files("result.json")}
        # Then all at once, as when the power fails.
        pids = [tool.process.pid, *tool.workers().values()]
        for pid in drawn.sample(pids, len(pids)):
            kill(pid)
    assert len(kept) < 9
    # The same command, whose worker is killed again: it ends, says so, and the status tells.
    with Killed(many) as tool:
        tool.kill_worker()
        assert tool.process.wait(600) == 2
    assert "its process ended by -9, see" in Path("said.txt").read_text()
    assert len(files("result.json")) == 8

    main = load("tools/leaderboard.py").main
    assert main(many) == 0, capsys.readouterr()
    assert all(path.read_bytes() == content for path, content in kept.items())
    assert "warm_up=2" in (said := capsys.readouterr().out) and "decay=poly" in said
    (table,) = read_board("three/leaderboard.json")["tables"]
    ranks = {row["label"]: (row["rank"]["rank"], row["rank"]["tied"]) for row in table["rows"]}
    assert ranks == {"sighted": (1, True), "twin": (1, True), "blind": (3, False)}
    assert not files("*.pth") and all(
        json.loads(path.read_text())["failure"] is None for path in files("result.json")
    )

    assert main([*command, "--out", "one"]) == 0
    assert lines("one") == lines("three") and len(lines("one")) == 9
