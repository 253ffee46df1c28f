"""Tables of a made-up report, read back."""

import csv
import io
import json

import pytest
from rich.console import Console

from mmplugins.benchmark.report import make_report, summarize, write_report
from mmplugins.benchmark.results import Results
from mmplugins.benchmark.speed import Key, Sample
from mmplugins.benchmark.tables import (
    csv_text,
    markdown,
    notes_of,
    parts_table,
    rich_tables,
    table_of,
)

SIZES = [(256, 256), (512, 512), (1024, 1024)]


def as_lines(data):
    """Heading and lines of a frame."""
    return [list(data.columns), *data.values.tolist()]


def about(row, what, size=(512, 512)):
    return dict(row=row, what=what, size=list(size), batch=2)


@pytest.fixture
def report():
    results = Results()
    environment = dict(processor="A Processor", gpu=None, threads=2, packages={"torch": "9.9"},
                 date="2026-01-02 03:04:05")  # fmt: skip
    results.take(dict(kind="head", environment=environment, settings=dict(rounds=9)))
    for name, milliseconds in (("slow", 30.0), ("fast", 10.0)):
        results.take(
            dict(
                kind="row",
                row=name,
                name=name,
                family="family",
                options=[],
                dtype="float32",
                parameters=dict(total=1_234_000, trainable=1_000_000, by_part={}),
            )  # fmt: skip
        )
        results.take(dict(kind="macs", **about(name, "macs"), total=5e9, by_part={}, pooling=7))
        results.take(dict(kind="memory", **about(name, "inference"), peak=3 * 2**20, saved=0))
        for size in SIZES:
            factor = size[0] * size[1] / 512**2
            for r in range(9):
                seconds = milliseconds * (1 + 0.01 * r) * factor / 1000
                line = dict(kind="sample", round=r)
                results.take({**line, **about(name, "inference", size), "seconds": {"i": seconds}})
                lower_bound = {"lower_bound": seconds / 2}
                results.take({**line, **about(name, "lower_bound", size), "seconds": lower_bound})
                stages = {"stem": seconds / 4, "stage 1": seconds * 3 / 4}
                results.take({**line, **about(name, "stages", size), "seconds": stages})
    results.take(dict(kind="failure", row="lost", what="row", size=[0, 0], batch=0, reason="gone"))
    results.take(dict(kind="failure", **about("fast", "training"), reason="out of memory: all"))
    return make_report(results)


def test_spread_of_samples():
    key = Key("a", "inference", (1, 1), 1)
    samples = {r: Sample(key, r, {"x": r + 1.0, "y": 10.0}) for r in range(11)}
    assert summarize(samples) == dict(
        rounds=11, best=11, median=16, p10=12, p90=20, parts={"x": 6, "y": 10}
    )
    one = summarize({0: samples[3]})
    assert one["best"] == one["median"] == one["p10"] == one["p90"] == 14
    assert summarize({}) is None


def test_fastest_first_and_empty_columns_left_out(report):
    heading, *lines = as_lines(table_of(report, [512, 512], 2))
    assert heading == [
        "#", "row", "params M", "MACs G", "ms", "p10 - p90", "best", "images/s", "x bound", "MiB",
        "train ms",
    ]  # fmt: skip
    assert lines[0] == [
        "1", "fast", "1.23", "5.00", "10.4", "10.1 - 10.7", "10.0", "192.3", "2.00", "3", "failed",
    ]  # fmt: skip
    assert lines[1][:2] == ["2", "slow"] and lines[1][-1] == "-"
    assert lines[2][:2] == ["-", "lost"]


def test_growth_and_pairs(report):
    assert {fit["row"]: round(fit["exponent"], 6) for fit in report["growth"]} == dict(
        slow=1, fast=1
    )
    pairs = [pair for pair in report["pairs"] if pair["size"] == [512, 512]]
    assert [(p["row"], p["other"], p["verdict"]) for p in pairs] == [("slow", "fast", "slower")]
    assert pairs[0]["ratio"] == pytest.approx(3)


def test_markdown_says_how_where_and_what_is_missing(report):
    text = markdown(report)
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    assert "**512x512, batch 2**" in text and ["1", "fast"] in [line[:2] for line in cells]
    assert "**Milliseconds by stage, 512x512, batch 2**" in text and ["fast", "2.6", "7.8"] in cells
    assert "Latency ~ pixels" in text
    assert "A Processor, 2 threads, torch 9.9, 2026-01-02" in text
    assert "lost: gone" in text and "fast, training at 512x512, batch 2: out of memory" in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in table)


def test_csv_has_plain_numbers(report):
    lines = list(csv.DictReader(io.StringIO(csv_text(report))))
    assert len(lines) == 9
    fast = next(line for line in lines if (line["row"], line["height"]) == ("fast", "512"))
    assert float(fast["inference_median"]) == pytest.approx(0.0104)
    assert (fast["inference_peak_bytes"], fast["inference_rank"]) == (str(3 * 2**20), "1")
    assert fast["failure"] == "training: out of memory: all"
    assert {line["failure"] for line in lines if line["row"] == "lost"} == {"gone"}


def test_terminal_shows_the_same(report):
    console = Console(record=True, width=140, file=io.StringIO())
    for table in rich_tables(report):
        console.print(table)
    text = console.export_text()
    assert "fast" in text and "10.1 - 10.7" in text and "stage 1" in text
    assert len(notes_of(report)) == 4


def test_report_is_plain_json_and_replaces_the_older_one(report, tmp_path):
    path = tmp_path / "new" / "report.json"
    for _ in range(2):
        write_report(report, path)
    assert json.loads(path.read_text()) == json.loads(json.dumps(report))
    assert list(path.parent.iterdir()) == [path]


def test_all_tables_have_one_order():
    """`wild` has the worst median, and yet no row is surely faster than it."""
    results = Results()
    times = dict(second=(1.05,) * 3, wild=(0.5, 1.1, 2.0), steady=(1.0,) * 3)
    for name, seconds in times.items():
        results.take(dict(kind="row", row=name, name=name, family="f", options=[], parameters={}))
        for r in range(15):
            line = dict(kind="sample", round=r, **about(name, "inference"))
            results.take({**line, "seconds": {"i": seconds[r % 3]}})
            line["what"] = "stages"
            results.take({**line, "seconds": {"stem": seconds[r % 3]}})
    results.environment = dict(processor="P", gpu=None, threads=1, packages={}, date="2026-01-02")
    report = make_report(results)
    expected = [["1=", "steady"], ["1=", "wild"], ["2=", "second"]]
    assert [line[:2] for line in as_lines(table_of(report, [512, 512], 2))[1:]] == expected
    lines = list(csv.DictReader(io.StringIO(csv_text(report))))
    assert [[line["inference_rank"], line["row"]] for line in lines] == [
        [rank.rstrip("="), row] for rank, row in expected
    ]
    assert {line["inference_tied"] for line in lines} == {"True"}
    shown = [line.split("|")[1:3] for line in markdown(report).splitlines() if "=" in line[:6]]
    assert [[cell.strip() for cell in line] for line in shown] == expected
    assert [line[0] for line in as_lines(parts_table(report, [512, 512], 2))[1:]] == [
        r for _, r in expected
    ]
