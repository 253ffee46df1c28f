"""The check of a card, in its small form on a CPU: its parts, its clock and what it keeps."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mmplugins.benchmark import read_results
from mmplugins.benchmark.gpu_check import PARTS, Settings, run_check, speed, whole
from mmplugins.benchmark.gpu_check import check as checking
from mmplugins.benchmark.gpu_check.check import Part
from mmplugins.benchmark.gpu_check.processes import in_turns
from mmplugins.benchmark.gpu_check.settings import FAMILIES

IN_OTHER_TESTS = ("versions", "eager_inference", "group_norm", "works_compiled")
"""The last is ``works``, which is run, by what ``tests/engine/test_compiling.py`` tries."""

CONFIGS = Path(__file__).parents[2] / "configs"


def labels(name):
    names = [name, f"{name}:channels_last"]
    return [*names, f"{name}:deploy", *(f"timm/{each}" for each in names)]


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the shapes data is made here
    return Settings(torch.device("cpu"), tmp_path / "out", CONFIGS, small=True)


def test_quick_parts_leave_rows_and_tables(settings, monkeypatch):
    said = []
    monkeypatch.setattr("mmplugins.benchmark.gpu_check.settings.FAMILIES", FAMILIES[:1])
    monkeypatch.setattr(speed, "EAGER", speed.EAGER[:3])
    parts = ("versions", "eager_inference", "group_norm")
    rows = run_check(settings, minutes=5, parts=parts, say=said.append)
    assert not [row for row in rows if "failed" in row]
    inference = [row for row in rows if row["part"] == "eager_inference"]
    assert [row["backbone"] for row in inference] == list(FAMILIES[:1])
    for row in inference:
        ms = {label: row[f"{label} ms"] for label in labels(row["backbone"])}
        ours, last, deployed, theirs, theirs_last = ms.values()
        assert row["x timm"] == pytest.approx(min(theirs, theirs_last) / min(ours, last))
        assert row["deployed x timm"] == pytest.approx(min(theirs, theirs_last) / deployed)
    kept = (settings.folder / "gpu_check.jsonl").read_text().splitlines()
    assert [json.loads(line)["part"] for line in kept] == [row["part"] for row in rows]
    table = (settings.folder / "gpu_check.md").read_text()
    assert all(f"**{part}**" in table for part in parts)
    times = read_results(settings.folder / "times.jsonl")
    assert list(times.rows) == labels(FAMILIES[0])
    assert len(said) == len(rows) + len(parts)


def test_stops_by_the_clock_and_keeps_what_it_has(settings, monkeypatch):
    now = iter(range(0, 10**6, 50))
    monkeypatch.setattr(checking.time, "monotonic", lambda: next(now))
    slow = Part(lambda s: range(9), lambda s, i: iter([dict(i=i)]))
    monkeypatch.setattr(checking, "PARTS", dict(slow=slow, later=slow))
    rows = run_check(settings, minutes=2, parts=("slow", "later"), say=lambda text: None)
    assert [row["i"] for row in rows if "i" in row] == [0, 1]
    assert [row["cut"].split(",")[0] for row in rows[2:]] == ["2 of 9", "0 of 9"]


def test_a_part_that_fails_is_a_row(settings, monkeypatch):
    def broken(s, item):
        yield dict(i=0)
        raise RuntimeError("no memory")

    parts = dict(broken=broken, after=lambda s, item: iter([dict(i=1)]))
    parts = {name: Part(lambda s: [None], rows) for name, rows in parts.items()}
    monkeypatch.setattr(checking, "PARTS", parts)
    rows = run_check(settings, parts=("broken", "after"), say=lambda text: None)
    assert [row["part"] for row in rows] == ["broken", "broken", "after"]
    assert rows[1]["failed"] == "RuntimeError: no memory"


def test_what_cannot_be_measured_is_named(settings):
    what = "poolformer_s12", ["graphs"], [], ["inference"], (32, 32), [1]
    (row,) = speed.measure(settings, *what)
    assert "need a GPU" in row["fails"] and "x timm" not in row


@pytest.mark.slow
def test_what_is_not_timed_runs_in_processes_of_its_own(settings):
    rows = run_check(replace(settings, workers=2), 5, ("exact", "versions"), lambda text: None)
    assert [row["part"] for row in rows] == ["exact", "exact", "versions"]
    assert [row["of"] for row in rows[:2]] == ["ours", "timm"]
    assert all(0 < row["forward"] < 1e-4 for row in rows[:2])


@pytest.mark.slow
def test_what_is_prepared_side_by_side_is_timed_in_turns(settings):
    names = FAMILIES[:2]
    item = ((32, 32), (1,))
    tasks = [
        (replace(settings, folder=settings.folder / name), "eager_inference", (name, item))
        for name in names
    ]
    for one, *_ in tasks:
        one.folder.mkdir(parents=True)
    start = time.time()
    found = list(in_turns(checking.run_item, tasks, time.monotonic() + 300))
    assert [rows[0]["backbone"] for _, rows in found] == list(names)
    assert all(rows[0]["x timm"] > 0 for _, rows in found)
    # The first was done with its file before the second, which had prepared its rows, went on.
    first, second = (one.folder / "times.jsonl" for one, *_ in tasks)
    assert start < first.stat().st_mtime < second.stat().st_mtime
    lines = [json.loads(line) for line in second.read_text().splitlines()]
    assert sum("round" in line for line in lines) == settings.rounds * 6


def test_what_is_not_prepared_in_time_is_ended(settings):
    task = (settings, "eager_inference", (FAMILIES[0], ((32, 32), (1,))))
    assert list(in_turns(checking.run_item, [task], time.monotonic() + 1)) == []


def test_processes_that_do_not_end_are_ended_by_the_clock(settings):
    rows = run_check(replace(settings, workers=2), 0.01, ("works",), lambda text: None)
    assert [row["part"] for row in rows] == ["works"] and "the time was over" in rows[0]["cut"]


def test_a_training_step_by_part_and_real_steps(settings):
    cfg = whole.config_of("RetinaNet", CONFIGS, settings.folder, 10, small=True)
    cfg.merge_from_dict(
        {"train_dataloader.dataset.generate": dict(image_size=64, num_train=8, num_val=2, seed=0)}
    )
    parts = whole.step_by_part(cfg, settings.device, 1)
    named = {"data", "backbone", "neck", "head", "loss", "backward", "optimiser"}
    assert named < parts.keys()
    assert parts["total"] == pytest.approx(
        sum(ms for part, ms in parts.items() if part not in ("total", "waits"))
    )
    assert parts["waits"] > 0
    found = whole.real_steps(cfg, compiled=False)
    assert found["steps"] == 10 and found["last"] < found["first"]


@pytest.mark.slow
@pytest.mark.parametrize("part", [part for part in PARTS if part not in IN_OTHER_TESTS])
def test_every_part_runs_on_a_cpu(part, settings):
    rows = run_check(settings, minutes=10, parts=(part,), say=lambda text: None)
    assert rows and not [row for row in rows if "failed" in row or "fails" in row]
