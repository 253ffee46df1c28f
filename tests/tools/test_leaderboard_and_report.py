"""The leaderboard and report tools: two tiny backbones and a lost one, three steps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from leaderboard_commands import ARCH, BACKBONES, COMMON
from programs import load

LOST = f"lost=dict(type='PoolFormer', {ARCH}, in_channels=4)"


def test_from_backbones_to_a_report(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tool, out = load("tools/leaderboard.py"), tmp_path / "leaderboard"
    assert tool.main([*BACKBONES, LOST, *COMMON]) == 2
    said = capsys.readouterr().out
    assert "3/3" in said and "4 channels" in said
    board = json.loads((out / "leaderboard.json").read_text())
    rows = {row["label"]: row for row in board["tables"][0]["rows"]}
    assert set(rows) == {"pool", "conv", "lost"}
    for label in ("pool", "conv"):
        (score,) = rows[label]["runs"]
        cost = rows[label]["cost"]
        assert score["score"] == rows[label]["mean"] and score["seconds"] > 0
        assert cost["whole"] and cost["parameters"] > cost["backbone_parameters"] > 0
        assert cost["macs"] > cost["backbone_macs"] > 0 and cost["inference"]["rounds"] == 1
    assert "4 channels" in rows["lost"]["failures"][0]["reason"]
    names = {path.suffix for path in out.glob("leaderboard*")}
    assert names == {".json", ".md", ".csv", ".html", ".png", ".svg"}

    # A second call trains nothing anew.
    before = {path: path.stat().st_mtime_ns for path in out.rglob("result.json")}
    monkeypatch.setattr(tool, "run_experiment", lambda *_: pytest.fail("trained again"))
    assert len(before) == 3 and tool.main([*BACKBONES, *COMMON]) == 0
    assert tool.main([*BACKBONES, *COMMON[:3], "4", *COMMON[4:]]) == 1
    assert "steps: 3, now 4" in capsys.readouterr().out
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())

    # What others do, and what readers get.
    assert tool.main([*BACKBONES, *COMMON, "--seeds", "2", "--plan"]) == 0
    assert len(Path("leaderboard/plan.txt").read_text().splitlines()) == 2
    assert tool.main(["--show", "--publish", "paper"]) == 2  # one training has failed
    names = {path.name for path in Path("paper").iterdir()}
    assert {"README.md", "protocol.yml", "environment.txt", "commands.txt", "runs"} <= names
    assert len(list(Path("paper/runs").glob("*.json"))) == 3
    assert tool.main(["--show", "--publish", "paper"]) == 1
    assert "nothing is overwritten" in capsys.readouterr().out

    work_dir = str(next(out.glob("runs/semantic/pool/random/lr-recipe/seed0")))
    assert tool.main(["--read", work_dir, "--out", "read"]) == 0
    (row,) = json.loads(Path("read/leaderboard.json").read_text())["tables"][0]["rows"]
    assert row["mean"] == pytest.approx(rows["pool"]["mean"]) and row["source"] == [work_dir]

    report = load("tools/report.py")
    files = [str(out / "cost.jsonl"), str(out / "leaderboard.json")]
    assert report.main([*files, "--out", "all.html", "--plots", "plots/all"]) == 0
    page = Path("all.html").read_text()
    assert "lost" in page and page.count("<img ") == len(list(Path("plots").glob("*.svg")))
    assert report.main([files[0], "--out", files[0]]) == 1  # never over results
    assert report.main(["missing.jsonl"]) == 1
    files.append(str(Path("elsewhere/cost.jsonl")))
    assert report.main([*files, "--out", "two.html", "--plots", "two"]) == 1
    assert "two files are called 'cost'" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rounds", "0"], "rounds=0"),
        (["--cost-size", "0", "64"], "sizes=((0, 64),): expected 1 or more"),
        (["--workers", "0"], "--workers=0: expected a whole number of 1 or more"),
        (["--compare", "lost.json"], "lost.json: no such file"),
        (["--seeds", "0"], "seeds=0: expected a whole number of 1 or more"),
        (["--device", "abacus"], "abacus"),
        (["--publish", "."], "nothing is overwritten"),
        ([], "cost.jsonl was measured otherwise"),
    ],
)
def test_what_speaks_against_measuring_is_said_before_training(
    options, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    head = dict(kind="head", schema=2, environment=dict(processor="another one"), settings={})
    Path("leaderboard").mkdir()
    Path("leaderboard/cost.jsonl").write_text(json.dumps(head) + "\n")
    tool = load("tools/leaderboard.py")
    monkeypatch.setattr(tool, "run_experiment", lambda *_: pytest.fail("trained"))
    assert tool.main([BACKBONES[0], *COMMON, *options]) == 1
    assert message in capsys.readouterr().out


def test_nothing_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert load("tools/leaderboard.py").main([]) == 1
    assert "Nothing to do" in capsys.readouterr().out and not any(tmp_path.iterdir())
