"""Whole sessions over small models, on a machine whose clock only work moves."""

import json

import pytest
import torch

from mmplugins.benchmark.environment import describe_environment
from mmplugins.benchmark.report import make_report
from mmplugins.benchmark.results import ResultError, ResultFile, read_results
from mmplugins.benchmark.rows import parse_row
from mmplugins.benchmark.session import MEASURES, Listener, Session, Settings
from mmplugins.benchmark.speed import Key
from mmplugins.benchmark.tables import PARTS, sections

SIZE = (32, 48)


class Silent(Listener):
    """A listener that keeps what it hears; stops the session after so many samples."""

    def __init__(self, stop_after=None):
        self.failures, self.planned_seconds, self.seconds = [], [], []
        self.stop_after = stop_after

    def planned(self, seconds):
        self.planned_seconds.append(seconds)

    def sampled(self, sample, seconds):
        self.seconds.append(seconds)
        if len(self.seconds) == self.stop_after:
            raise KeyboardInterrupt

    def failed(self, failure):
        self.failures.append(failure)


@pytest.fixture
def run(tmp_path, watch, small_models):
    def run(*rows, path=tmp_path / "results.jsonl", stop_after=None, **settings):
        settings = Settings(**{"sizes": (SIZE,), "rounds": 25, **settings})
        file = ResultFile(path, describe_environment("cpu"), settings.fixed())
        listener = Silent(stop_after)
        session = Session([parse_row(row) for row in rows], settings, file, listener, watch)
        try:
            session.run()
        finally:
            run.report = make_report(read_results(path))
        return listener

    return run


def ranks(report):
    return {row["row"]: row["cases"][0]["rank"]["inference"] for row in report["rows"]}


def test_planted_ten_percent_are_seen_and_planted_nothing_is_not(run):
    run("a", "b", "c+0.1", measures=("inference",))
    assert ranks(run.report) == {
        "a": dict(rank=1, tied=True),
        "b": dict(rank=1, tied=True),
        "c+0.1": dict(rank=3, tied=False),
    }
    verdicts = {(p["row"], p["other"]): p["verdict"] for p in run.report["pairs"]}
    assert verdicts == {("a", "b"): "tie", ("a", "c+0.1"): "faster", ("b", "c+0.1"): "faster"}


def test_all_measures_of_a_row(run):
    listener = run("a", rounds=3, batches=(1, 2))
    (row,) = run.report["rows"]
    assert row["parameters"]["total"] == 3 * 8 * 16 + 8 + 8 * 8 + 8
    first, second = row["cases"]
    assert (first["batch"], second["batch"]) == (1, 2)
    pixels = 8 * 12
    assert first["macs"]["total"] == pixels * (3 * 16 * 8 + 8 * 8)
    assert second["macs"]["total"] == 2 * first["macs"]["total"]
    assert second["memory"]["inference"]["peak"] > first["memory"]["inference"]["peak"]
    assert list(first["training"]["parts"]) == ["forward", "backward", "optimizer"]
    assert first["lower_bound"]["rounds"] == first["inference"]["rounds"] == 3
    assert first["images_per_second"] == pytest.approx(1 / first["inference"]["median"])
    assert set(first["failures"]) == {"stages"}  # two convolutions have no stages one could tell
    assert sum(listener.planned_seconds) == pytest.approx(sum(listener.seconds))


def test_operations_go_with_the_times_that_are_measured(run, monkeypatch):
    monkeypatch.setattr("mmplugins.benchmark.subjects.fold", lambda model: None)
    run("a", "b:deploy", rounds=2, measures=("inference", "training", "operations"))
    trained, deployed = (row["cases"][0] for row in run.report["rows"])
    assert {"convolutions", "pointwise", "calls"} <= set(trained["operations"]["parts"])
    assert "optimizer" in trained["operations of training"]["parts"]
    assert deployed["operations"]["rounds"] == 2 and not deployed["operations of training"]
    titles = [title.partition(",")[0] for title, _ in sections(run.report)]
    assert titles[1:] == [PARTS["operations"], PARTS["operations of training"]]


def test_a_row_that_fails_is_a_row_and_the_rest_goes_on(run, monkeypatch):
    import mmplugins.benchmark.subjects as subjects

    infer = subjects.Subject.infer

    def hungry(self, images):
        if self.row.name == "hungry" and len(images) > 1:
            raise torch.OutOfMemoryError("20 GiB")
        return infer(self, images)

    monkeypatch.setattr(subjects.Subject, "infer", hungry)
    listener = run("broken", "hungry", "a", rounds=7, batches=(1, 4), measures=("inference",))
    broken, hungry, good = sorted(
        run.report["rows"], key=lambda row: ["broken", "hungry", "a"].index(row["row"])
    )
    assert broken["failure"] == "ValueError: no such thing"
    assert hungry["cases"][0]["inference"]["rounds"] == 7
    assert hungry["cases"][1]["inference"] is None
    assert hungry["cases"][1]["failures"] == {"inference": "out of memory: 20 GiB"}
    assert all(case["inference"]["rounds"] == 7 for case in good["cases"])
    assert len(listener.failures) == 2


def test_stopped_and_gone_on_with(run, tmp_path):
    path = tmp_path / "results.jsonl"
    with pytest.raises(KeyboardInterrupt):
        run("a", "b", measures=("inference",), stop_after=21)
    kept = read_results(path).times
    assert sum(map(len, kept.values())) == 21
    with path.open("a") as file:
        file.write('{"kind": "sample", "row": "a", "wh')  # cut off in the middle of a line
    listener = run("a", "b", "c", measures=("inference",))
    assert len(listener.seconds) == 75 - 21
    results = read_results(path)
    for key, samples in kept.items():
        assert all(results.times[key][r] == sample for r, sample in samples.items())
    assert {len(samples) for samples in results.times.values()} == {25}
    assert not run("a", "b", "c", measures=("inference",)).seconds
    more = run("a", "b", "c", measures=("inference",), rounds=27)
    assert len(more.seconds) == 6


def test_a_failure_is_tried_again_and_then_void(run, tmp_path):
    run("a", rounds=2, measures=("inference",))
    path = tmp_path / "results.jsonl"
    with path.open("a") as file:  # `a` was built before, `b` never was
        for row in "ab":
            line = dict(kind="failure", row=row, what="row", size=[0, 0], batch=0, reason="busy")
            file.write(json.dumps(line) + "\n")
    failed = {Key(row, "row", (0, 0), 0): "busy" for row in "ab"}
    assert read_results(path).failures == failed
    run("a", "b", rounds=2, measures=("inference",))
    assert not read_results(path).failures


def test_memory_that_was_measured_voids_its_failure_and_no_other(run, tmp_path):
    run("a", rounds=1, measures=("inference",))
    path = tmp_path / "results.jsonl"
    with path.open("a") as file:
        for what in ("inference", "memory of inference"):
            line = dict(kind="failure", row="a", what=what, size=SIZE, batch=1, reason="busy")
            file.write(json.dumps(line) + "\n")
    run("a", rounds=1, measures=("memory",))
    (case,) = run.report["rows"][0]["cases"]
    assert case["memory"]["inference"] and case["failures"] == {"inference": "busy"}


def test_other_settings_or_another_machine_are_refused(run, tmp_path, monkeypatch):
    run("a", rounds=1, measures=("inference",))
    with pytest.raises(ResultError, match="threads: 1, now 2.*another file"):
        run("a", rounds=1, measures=("inference",), threads=2)
    monkeypatch.setattr("mmplugins.benchmark.environment.processor_name", lambda: "another one")
    with pytest.raises(ResultError, match="processor: .* now 'another one'"):
        run("a", rounds=1, measures=("inference",))


def test_rows_of_one_network_share_their_floor(run):
    run("a", "b:channels_last", rounds=2, measures=("inference", "lower_bound"))
    a, b = run.report["rows"]
    assert a["cases"][0]["lower_bound"] == b["cases"][0]["lower_bound"] is not None


def test_what_does_not_apply_is_left_out_without_a_failure(run, monkeypatch):
    monkeypatch.setattr("mmplugins.benchmark.subjects.fold", lambda model: None)
    monkeypatch.setattr("mmplugins.benchmark.subjects.block_compiler", lambda *_, **__: None)
    listener = run(
        "a:deploy", "a:compile", rounds=2, measures=tuple(set(MEASURES) - {"stages", "energy"})
    )
    deployed, compiled = (row["cases"][0] for row in run.report["rows"])
    assert deployed["training"] is None and "training" not in deployed["memory"]
    assert not compiled["memory"] and compiled["training"] and compiled["lower_bound"]
    assert not listener.failures


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(measures=("latency",)), "'latency': expected some of inference"),
        (dict(rounds=0), "rounds=0"),
        (dict(batches=(0,)), "expected 1 or more"),
        (dict(sizes=((64, 64), (64, 0))), r"\(64, 0\)\): expected 1 or more for height"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        Settings(**settings)


def test_not_a_file_of_results(tmp_path):
    path = tmp_path / "other.jsonl"
    path.write_text('{"kind": "sample"}\n{}\n')
    with pytest.raises(ResultError, match="first line is no head"):
        read_results(path)
    path.write_text('{"kind": "head", "schema": 99}\n')
    with pytest.raises(ResultError, match="its schema is 99.*measure again"):
        read_results(path)
    path.write_text(
        '{"kind": "head", "schema": 2, "environment": {}, "settings": {}}\nnonsense\n{}\n'
    )
    with pytest.raises(ResultError, match="line 2: not JSON"):
        read_results(path)
