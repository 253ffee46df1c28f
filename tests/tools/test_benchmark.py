"""The benchmark tool, run over small images; no time is asserted."""

import csv
import json

import pytest
from programs import load

from mmplugins.benchmark.display import Display


@pytest.fixture
def tool(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return load("tools/benchmark.py")


def labels(tool, *arguments):
    return [row.label for row in tool.rows_of(tool.parse_args(list(arguments)))]


def test_measures_shows_and_goes_on(tool, tmp_path, capsys):
    out = tmp_path / "out" / "small.jsonl"
    rows = ["poolformer_s12", "no_such_backbone"]
    common = ["--sizes", "32x64", "--measure", "inference", "memory", "--rounds", "2"]
    assert tool.main([*rows, *common, "--out", str(out)]) == 0
    report = json.loads(out.with_suffix(".json").read_text())
    assert [row["row"] for row in report["rows"]] == rows
    (case,) = report["rows"][0]["cases"]
    assert case["size"] == [32, 64] and case["inference"]["rounds"] == 2
    assert case["memory"]["training"]["peak"] > case["memory"]["inference"]["peak"] > 0
    assert "Unknown backbone 'no_such_backbone'" in report["rows"][1]["failure"]
    assert "poolformer_s12" in out.with_suffix(".md").read_text()
    with out.with_suffix(".csv").open() as file:
        assert len(list(csv.DictReader(file))) == 2
    before = out.read_text()
    assert tool.main(["--show", "--out", str(out)]) == 0
    assert out.read_text() == before
    shown = capsys.readouterr().out
    assert "32x64, batch 1" in shown and "poolformer_s12" in shown
    assert tool.main([*rows[:1], *common, "--seed", "1", "--out", str(out)]) == 1
    assert "seed: 0, now 1" in capsys.readouterr().out and out.read_text() == before


def test_ctrl_c_keeps_what_is_there(tool, tmp_path, monkeypatch, capsys):
    taken = []
    sampled = Display.sampled

    def interrupt(self, sample, seconds):
        sampled(self, sample, seconds)
        taken.append(sample)
        if len(taken) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Display, "sampled", interrupt)
    arguments = ["poolformer_s12", "--sizes", "32", "--measure", "inference", "--rounds", "5"]
    assert tool.main(arguments) == 130
    assert "the same command goes on" in capsys.readouterr().out
    assert tool.main(arguments) == 0 and len(taken) == 5


def test_rows_of_the_arguments(tool):
    assert labels(tool, "a", "b:bf16", "--backbone", "c") == ["a", "b:bf16", "c"]
    assert labels(tool, "x.py", "d", "--backbone", "c", "e:deploy") == [
        "d",
        "x.py@c",
        "x.py@e:deploy",
    ]
    assert labels(tool, "a", "--variants", "plain", "deploy") == ["a", "a:deploy"]
    assert labels(tool, "poolformer_s12", "--peers")[:2] == [
        "poolformer_s12",
        "timm/poolformer_s12",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Nothing to measure"),
        (["a:fast"], "Unknown option 'fast'"),
        (["--show", "--out", "missing.jsonl"], "missing.jsonl"),
        (["a", "--batches", "0"], "expected 1 or more"),
    ],
)
def test_mistakes_end_with_a_message(tool, arguments, message, capsys):
    assert tool.main(arguments) == 1
    assert message in capsys.readouterr().out


def test_sizes(tool):
    assert tool.parse_size("800x1280") == (800, 1280) and tool.parse_size("64") == (64, 64)
    for wrong in ("800x", "0x5", "a", "1x2x3"):
        with pytest.raises(tool.argparse.ArgumentTypeError, match="HEIGHTxWIDTH"):
            tool.parse_size(wrong)
