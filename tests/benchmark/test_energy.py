"""Joules of a pass, by a counter that the test turns."""

import torch

from mmplugins.benchmark import energy
from mmplugins.benchmark.energy import find_meter, measure_energy
from mmplugins.benchmark.results import ResultFile
from mmplugins.benchmark.rows import parse_row
from mmplugins.benchmark.session import Listener, Session, Settings
from mmplugins.benchmark.stopwatch import Stopwatch


def zone(folder, name, joules, most=1000):
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "energy_uj").write_text(f"{int(joules * 1e6)}\n")
    (folder / name / "max_energy_range_uj").write_text(f"{int(most * 1e6)}\n")


def test_packages_are_added_and_counters_turn_over(tmp_path, monkeypatch):
    monkeypatch.setattr(energy, "RAPL", tmp_path)
    zone(tmp_path, "intel-rapl:0", 990)
    zone(tmp_path, "intel-rapl:1", 5)
    zone(tmp_path, "intel-rapl:0:0", 400)  # a part of the first package
    name, joules = find_meter("cpu")
    assert (name, joules()) == ("RAPL", 995)
    zone(tmp_path, "intel-rapl:0", 20)
    assert joules() == 1025
    (tmp_path / "intel-rapl:1/energy_uj").unlink()  # as where only root may read
    assert find_meter("cpu") is None


def test_no_counter_no_meter(tmp_path, monkeypatch):
    monkeypatch.setattr(energy, "RAPL", tmp_path / "nowhere")
    assert find_meter("cpu") is None
    if not torch.cuda.is_available():
        assert find_meter("cuda") is None


def test_joules_of_a_pass():
    now = dict(seconds=0.0)

    def run():
        now["seconds"] += 0.25

    meter = "a meter", lambda: 40 * now["seconds"]
    found = measure_energy(run, meter, Stopwatch(clock=lambda: now["seconds"]))
    assert found == dict(joules=10, watts=40, source="a meter", passes=4)


class Quiet(Listener):
    def failed(self, failure):
        self.reason = failure.reason


def test_a_session_notes_it_once_or_says_why_not(small_models, watch, tmp_path, monkeypatch):
    settings = Settings(((8, 8),), measures=("energy",), rounds=1, min_seconds=0)
    file, listener = ResultFile(tmp_path / "r.jsonl", {}, settings.fixed()), Quiet()
    Session([parse_row("a")], settings, file, listener, watch).run()
    assert "no counter of energy" in listener.reason or file.results.energy
    counts = iter(range(100))
    monkeypatch.setattr(
        "mmplugins.benchmark.session.find_meter", lambda d: ("m", lambda: next(counts))
    )
    monkeypatch.setattr(energy, "SECONDS", 0.05)
    for _ in range(2):
        Session([parse_row("a")], settings, file, listener, watch).run()
    lines = [line for line in (tmp_path / "r.jsonl").open() if '"kind": "energy"' in line]
    assert len(lines) == 1 and not [k for k in file.results.failures if k.what == "energy"]
