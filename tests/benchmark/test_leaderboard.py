"""Boards of made-up results: means, places, costs, tables; read back from what is written."""

from __future__ import annotations

import csv
import io
import json

import pytest
from made_up import write_results

from mmplugins.benchmark.leaderboard import (
    board_csv,
    board_markdown,
    board_plots,
    board_section,
    make_board,
    notes_of_board,
    read_board,
    table_of_task,
    write_board,
)
from mmplugins.benchmark.report import make_report
from mmplugins.benchmark.results import read_results

STAMP = dict(processor="A Processor", gpu=None, threads=2, packages={}, date="2026-01-02 03:04:05")
BUDGET = dict(steps=9, batch=2, image_size=64, lr=None, amp=False, options={})


def result(label, seed, score, **changes):
    found = dict(
        task="semantic", config="net", backbone=label, label=label, family="poolformer", seed=seed,
        steps=9, budget=BUDGET, source="trained", metrics={"mIoU": score}, score=score,
        seconds=5.0, failure=None,
    )  # fmt: skip
    return {**found, **changes}


@pytest.fixture
def board(tmp_path):
    scores = dict(poolformer_s12=(50, 52, 54), caformer_s18=(60, 62, 58), poolformer_s24=(53, 55))
    results = [result(row, i, float(s)) for row, all_ in scores.items() for i, s in enumerate(all_)]
    results += [result("riformer_s12", i, 59.0 + i) for i in range(3)]
    results.append(
        result("poolformer_s24", 2, None, failure="FloatingPointError: the loss | is nan")
    )
    results.append(result("lost", 0, None, failure="SettingError: gone"))
    return make_board(
        results, STAMP, BUDGET, make_report(read_results(write_results(tmp_path / "r.jsonl")))
    )


def rows_of(board):
    return {row["label"]: row for row in board["tasks"][0]["rows"]}


def test_mean_and_spread(board):
    row = rows_of(board)["poolformer_s12"]
    assert (row["mean"], row["deviation"], row["lowest"], row["highest"]) == (52, 2, 50, 54)
    assert [s["seed"] for s in row["scores"]] == [0, 1, 2]
    assert rows_of(board)["lost"]["mean"] is None


def test_places_only_where_seeds_tell(board):
    rows = rows_of(board)
    assert list(rows) == [
        "caformer_s18", "riformer_s12", "poolformer_s12", "poolformer_s24", "lost"
    ]  # fmt: skip
    assert rows["caformer_s18"]["rank"] == rows["riformer_s12"]["rank"]
    assert rows["caformer_s18"]["rank"] == dict(rank=1, tied=True)
    assert rows["poolformer_s12"]["rank"] == dict(rank=3, tied=False)
    assert rows["poolformer_s24"]["rank"] is None and rows["lost"]["rank"] is None


def test_one_order_in_table_and_files():
    """`wide` has the worst mean, and yet no row is surely better than it."""
    scores = dict(wide=(40.0, 55.0, 63.0), a=(58.0, 60.0, 62.0), b=(54.0, 55.0, 56.0))
    board = make_board([result(k, i, v) for k, s in scores.items() for i, v in enumerate(s)], STAMP)
    expected = [("1=", "a"), ("1=", "wide"), ("2=", "b")]
    assert [tuple(line[:2]) for line in table_of_task(board["tasks"][0])[1:]] == expected
    lines = list(csv.DictReader(io.StringIO(board_csv(board))))[::3]
    assert [(line["rank"] + "=", line["label"]) for line in lines] == expected
    assert all(line["tied"] == "True" for line in lines)
    shown = [line for line in board_markdown(board).splitlines() if "= |" in line]
    assert [tuple(line.strip("| ").split(" | ")[:2]) for line in shown] == expected


def test_the_same_seed_thrice_is_one_seed():
    """Without a seed of its own, a training is one of chance and counts."""
    same = [result("a", 0, 50.0)] * 3 + [result("b", None, 60.0 + i) for i in range(3)]
    rows = rows_of(make_board(same, STAMP))
    assert rows["a"]["rank"] is None and rows["b"]["rank"] == dict(rank=1, tied=False)


def test_places_withheld_are_said_so(board):
    (table,) = (table_of_task(task) for task in board["tasks"])
    notes = {line[1]: line[-1] for line in table[1:]}
    assert "no place: 2 of 3 seeds" in notes["poolformer_s24"]
    assert "no place" not in notes["poolformer_s12"] + notes["lost"]
    assert not any("No places" in note for note in notes_of_board(board))
    one = make_board([result("a", 0, 50.0)], STAMP)
    assert any("No places: they take 3 seeds" in note for note in notes_of_board(one))
    assert table_of_task(one["tasks"][0])[0] == ["backbone", "mIoU", "seeds", "steps", "train s"]


def test_cost_is_that_of_the_largest_size(board):
    cost = rows_of(board)["poolformer_s12"]["cost"]
    assert cost["inference"]["median"] == pytest.approx(0.040 * 1.03 * (768 / 512) ** 2)
    assert cost["parameters"] == 12_000_000 and not cost["whole"]
    assert board["cost"]["size"] == [768, 768] and rows_of(board)["riformer_s12"]["cost"] is None


def test_cost_of_a_config_with_its_own_backbone(tmp_path):
    """It is that of a training of the config as it is, of no other backbone in it."""
    lines = [json.loads(line) for line in write_results(tmp_path / "r.jsonl").open()]
    for line in lines:
        if line.get("row") == "poolformer_s12":
            line["row"] = "configs/net.py"
        if line["kind"] == "row" and line["row"] == "configs/net.py":
            line.update(name="configs/net.py", backbone="", whole=True)
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    report = make_report(read_results(tmp_path / "r.jsonl"))
    results = [
        result("poolformer_s12", 0, 50.0, source="work_dirs/net"),
        result("caformer_s36", 0, 50.0, source="work_dirs/other", family="caformer"),
        result("poolformer_s36", 0, 50.0),
    ]
    rows = rows_of(make_board(results, STAMP, None, report))
    assert rows["poolformer_s12"]["cost"]["row"] == "configs/net.py"
    assert rows["poolformer_s12"]["cost"]["whole"]
    assert rows["caformer_s36"]["cost"] is rows["poolformer_s36"]["cost"] is None


def test_cost_of_another_backbone_of_the_family_is_not_taken(tmp_path):
    """A training of net.py with --backbone keeps the config's name."""
    config = tmp_path / "net.py"
    config.write_text("model = dict(backbone=dict(type='PoolFormer', arch='s12'))\n")
    row = dict(row=str(config), name=str(config), backbone="", family="poolformer", whole=True,
               failure=None, parameters=dict(total=7, by_part=dict(backbone=5)),
               cases=[])  # fmt: skip
    report = dict(environment=STAMP, settings={}, cases=[], rows=[row])
    results = [result(f"poolformer_{arch}", 0, 50.0, source="x") for arch in ("s12", "s36")]
    rows = rows_of(make_board(results, STAMP, None, report))
    assert rows["poolformer_s12"]["cost"]["backbone_parameters"] == 5
    assert rows["poolformer_s36"]["cost"] is None


def test_machines_are_those_of_the_trainings():
    """Not that of the last call, which may have trained nothing."""
    first, second = dict(STAMP, threads=1), dict(STAMP, threads=3, date="2026-02-02 00:00:00")
    environments = (first, dict(first, date="2026-01-04 00:00:00"), second)
    results = [
        result("a", i, 50.0, environment=environment) for i, environment in enumerate(environments)
    ]
    board = make_board([*results, result("b", 0, 50.0)], STAMP, BUDGET)
    assert board["environment"] == STAMP and board["trained_on"] == [first, second]
    (note,) = [note for note in notes_of_board(board) if "Trained for" in note]
    assert "1 threads, torch ?, 2026-01-02; and on A Processor, 3 threads" in note
    assert "2 threads" not in note
    environment = board_section(board, "Leaderboard").environment
    assert environment["threads"] == "1 or 3" and environment["processor"] == "A Processor"
    unknown = make_board([result("b", 0, 50.0)], STAMP, BUDGET)
    assert "threads" not in "".join(notes_of_board(unknown)) and unknown["trained_on"] == []
    assert board_section(unknown, "Leaderboard").environment["threads"] == 2


def test_table(board):
    heading, *lines = table_of_task(board["tasks"][0], board["cost"])
    assert "ms at 768x768" in heading
    by_name = {line[1]: dict(zip(heading, line, strict=True)) for line in lines}
    assert by_name["poolformer_s12"]["mIoU"] == "52.0 ± 2.0"
    assert by_name["poolformer_s12"]["min - max"] == "50.0 - 54.0"
    assert by_name["caformer_s18"]["#"] == "1=" and by_name["poolformer_s24"]["#"] == "-"
    assert by_name["poolformer_s24"]["seeds"] == "2"
    assert "seed 2 failed" in by_name["poolformer_s24"]["note"]
    assert by_name["lost"]["mIoU"] == "failed"


def test_what_is_written_is_read_again(board, tmp_path):
    write_board(board, tmp_path / "out")
    assert read_board(tmp_path / "out/leaderboard.json") == json.loads(json.dumps(board))
    text = (tmp_path / "out/leaderboard.md").read_text()
    assert text == board_markdown(board) and "the loss \\| is nan" in text
    assert "9 steps of 2 pictures, 64 pixels" in text and "Cost at 768x768" in text
    lines = list(csv.DictReader(io.StringIO(board_csv(board))))
    assert len(lines) == 13 and sum(bool(line["failure"]) for line in lines) == 2
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(ValueError, match="no leaderboard"):
        read_board(tmp_path / "other.json")


def test_plot_shows_rows_with_score_and_cost(board):
    (figure,) = board_plots(board).values()
    shown = {text.get_text() for text in figure.axes[0].texts}
    assert shown == {"poolformer_s12", "caformer_s18", "poolformer_s24"}
    section = board_section(board, "Leaderboard")
    assert len(section.plots) == 1 and section.environment["steps"] == 9


def test_other_steps_and_recipes_are_other_rows():
    results = [result("a", 0, 1.0), result("a", 1, 2.0, steps=10), result("a", 0, 3.0, config="b")]
    board = make_board(results, STAMP)
    assert [len(task["rows"]) for task in board["tasks"]] == [1, 2]
    assert board["cost"] is None and board["tasks"][1]["rows"][0]["cost"] is None
    assert board_plots(board) == {}


def test_nothing_at_all():
    board = make_board([], STAMP)
    assert board["tasks"] == [] and board_csv(board) == "task\n"
