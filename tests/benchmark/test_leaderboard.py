"""Boards of made-up results: means, ranks, costs, tables; read back from what is written."""

from __future__ import annotations

import csv
import io
import json

import pytest
from made_up import write_results

from mmplugins.benchmark.board_plots import board_plots, board_section
from mmplugins.benchmark.board_tables import (
    board_csv,
    board_markdown,
    notes_of_board,
    table_of,
    write_board,
)
from mmplugins.benchmark.leaderboard import make_board, read_board, read_runs
from mmplugins.benchmark.protocol_files import load_protocol
from mmplugins.benchmark.report import make_report
from mmplugins.benchmark.results import read_results
from mmplugins.engine import SettingError

MACHINE = dict(
    processor="A Processor", gpu=None, threads=2, packages={}, date="2026-01-02 03:04:05"
)
PROTOCOL = load_protocol("shapes-quick").plain()
PROTOCOL["budget"] |= dict(steps=9, batch=2, image_size=64)


def result(label, seed, score, **changes):
    found = dict(
        task="semantic", set="net", config="net", backbone=label, label=label, start="random",
        family="poolformer", lr=None, seed=seed, selected=dict(step=9, score=score),
        source="trained", metrics={"mIoU": score}, score=score, seconds=5.0, failure=None,
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
        results, MACHINE, PROTOCOL, make_report(read_results(write_results(tmp_path / "r.jsonl")))
    )


def rows_of(board):
    return {row["label"]: row for row in board["tables"][0]["rows"]}


def test_mean_and_spread(board):
    row = rows_of(board)["poolformer_s12"]
    assert (row["mean"], row["deviation"], row["lowest"], row["highest"]) == (52, 2, 50, 54)
    assert [s["seed"] for s in row["runs"]] == [0, 1, 2]
    assert rows_of(board)["lost"]["mean"] is None


def test_ranks_only_where_seeds_tell(board):
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
    scores = dict(wide=(30.0, 50.0, 70.0), a=(59.0, 60.0, 61.0), b=(52.0, 53.0, 54.0))
    results = [result(k, i, v) for k, s in scores.items() for i, v in enumerate(s)]
    board = make_board(results, MACHINE)
    assert [row["rank"]["rank"] for row in board["tables"][0]["rows"]] == [1, 1, 1]
    order = [row["label"] for row in board["tables"][0]["rows"]]
    assert table_of(board["tables"][0])["backbone"].tolist() == order == ["a", "b", "wide"]
    lines = list(csv.DictReader(io.StringIO(board_csv(board))))[::3]
    assert [line["label"] for line in lines] == order
    assert all((line["rank"], line["tied"]) == ("1", "True") for line in lines)
    shown = [line for line in board_markdown(board).splitlines() if "1= |" in line]
    assert [line.split("|")[2].strip() for line in shown] == order


def test_the_same_seed_thrice_is_one_seed():
    """Without a seed of its own, a training is one of chance and counts."""
    same = [result("a", 0, 50.0, source="x")] * 3
    same += [
        result(k, None, v + i, source="x") for k, v in (("b", 60.0), ("c", 90.0)) for i in range(3)
    ]
    rows = rows_of(make_board(same, MACHINE))
    assert rows["a"]["rank"] is None and rows["b"]["rank"] == dict(rank=2, tied=False)


def test_ranks_withheld_are_said_so(board):
    (note,) = [note for note in notes_of_board(board) if "Not enough runs" in note]
    assert "poolformer_s24 (2 of 3)" in note and "caformer" not in note
    one = make_board([result("a", 0, 50.0)], MACHINE)
    assert any("a (1 of 3)" in note for note in notes_of_board(one))
    shown = ["backbone", "mIoU", "seeds", "steps", "train s"]
    assert list(table_of(one["tables"][0]).columns) == shown


def test_the_rate_is_chosen_on_validation_and_the_test_reported():
    results = [
        result("a", seed, test, lr=lr, selected=dict(step=9, score=val))
        for seed in range(3)
        for lr, val, test in ((1e-3, 50.0 + seed, 10.0 + seed), (1e-2, 40.0, 90.0))
    ]
    results.append(result("a", 9, 99.0, lr=1.0, selected=dict(step=9, score=99.0)))
    row = rows_of(make_board(results, MACHINE))["a"]
    assert row["lr"] == 1e-3 and row["mean"] == 11  # 1.0 has one seed only


def test_sets_have_a_mean_and_their_orders_are_compared():
    results = [
        result(k, seed, base + shift + seed, set=name, config=name)
        for name, shift in (("one", 0.0), ("two", 20.0), ("three", 40.0))
        for k, base in (("a", 10.0), ("b", 20.0), ("c", 30.0))
        for seed in range(3)
    ]
    board = make_board(results[:-3], MACHINE, PROTOCOL)  # c lacks a set
    total = board["tables"][0]
    assert total["set"] is None and [t["set"] for t in board["tables"][1:]] == [
        "one",
        "three",
        "two",
    ]
    rows = {row["label"]: row for row in total["rows"]}
    assert rows["a"]["mean"] == 31 and rows["a"]["sets"] == dict(one=11, two=31, three=51)
    assert (
        rows["a"]["sets_low"] < rows["a"]["low"] < 31 < rows["a"]["high"] < rows["a"]["sets_high"]
    )
    assert rows["c"]["mean"] is None and rows["c"]["rank"] is None
    assert [row["label"] for row in total["rows"]] == ["b", "a", "c"]
    taus = {(one["order"], one["other"]): one["tau"] for one in board["agreement"]}
    assert taus["one, random", "two, random"] == 1 and taus["one, random", "three, random"] is None
    other = make_board(results, MACHINE, PROTOCOL, others={"earlier": board})
    assert ("two, random", "earlier: two, random") in {
        (one["order"], one["other"]) for one in other["agreement"]
    }


def test_starts_are_tables_of_their_own(board):
    results = [result("a", i, 50.0 + i, start=s) for s in ("frozen", "random") for i in range(3)]
    tables = make_board(results, MACHINE)["tables"]
    assert [(t["start"], len(t["rows"])) for t in tables] == [("frozen", 1), ("random", 1)]


def test_the_front_is_listed(board):
    front = [label for label, row in rows_of(board).items() if row["pareto"]]
    assert front == ["caformer_s18", "poolformer_s12", "poolformer_s24"]
    (note,) = [note for note in notes_of_board(board) if "front" in note]
    assert note.endswith("poolformer_s12, poolformer_s24, caformer_s18.")


def write_result(folder, **changes):
    folder.mkdir(parents=True)
    data = dict(result("a", 0, 1.0), schema=2, protocol="p", environment=MACHINE) | changes
    (folder / "result.json").write_text(json.dumps(data))


def test_results_of_a_folder(tmp_path):
    write_result(tmp_path / "a", seed=1)
    write_result(tmp_path / "b")
    write_result(tmp_path / "b/c", lr=1e-3)
    found = [(r["lr"], r["seed"]) for r in read_runs(tmp_path)]  # in an order of their own
    assert found == [(None, 0), (None, 1), (1e-3, 0)]
    write_result(tmp_path / "c")
    with pytest.raises(SettingError, match=r"of the same run \(net, a, random, 0"):
        read_runs(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            dict(protocol="q"),
            "one/result.json and .*one table .the protocol: p and q.: give",
        ),
        (dict(settings=dict(steps=9)), "in one table .steps: 8 and 9"),
        (dict(backbone="b"), "in one table .the backbone a: a and b"),
        (dict(score=None), "two/result.json is no result .its score is None.: remove"),
        (dict(score=float("nan")), "no result .its score is nan"),
        (dict(score="50"), "no result .its score is '50'"),
        (dict(schema=None), "another version of mmplugins"),
    ],
)
def test_results_that_do_not_stand_in_one_table(changes, message, tmp_path):
    own = dict(settings=dict(steps=8), backbone="a")
    write_result(tmp_path / "one", **own)
    write_result(tmp_path / "other", seed=2, backbone="a")  # of before settings were noted
    write_result(tmp_path / "two", seed=1, **own | changes)
    with pytest.raises(SettingError, match=message):
        read_runs(tmp_path)


def test_the_same_board_from_one_folder_and_from_three(tmp_path):
    """Of three workers' folders that were copied into one."""
    for k, (label, lr, seed) in enumerate(
        (label, lr, seed) for label in "cab" for lr in (1e-3, 2e-3) for seed in range(3)
    ):
        own = dict(
            label=label, backbone=label, lr=lr, seed=seed, score=50.0 + seed + (label == "b")
        )
        write_result(tmp_path / "one" / label / str(lr) / str(seed), **own)
        write_result(tmp_path / f"three/{(7 * k) % 3}" / label / str(lr) / str(seed), **own)
    one, three = (make_board(read_runs(tmp_path / k), MACHINE, PROTOCOL) for k in ("one", "three"))
    assert one == three and len(one["tables"][0]["pairs"]) == 3


def test_runs_without_a_result_are_said():
    board = make_board([result("a", 0, 1.0)], MACHINE, PROTOCOL, missing=["net/a/random/seed1"])
    said = "Without a result yet: 1 of the runs (net/a/random/seed1)."
    assert said in notes_of_board(board)
    assert not any("result yet" in n for n in notes_of_board(make_board([], MACHINE, PROTOCOL)))


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
    rows = rows_of(make_board(results, MACHINE, None, report))
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
    report = dict(environment=MACHINE, settings={}, cases=[], rows=[row])
    results = [result(f"poolformer_{arch}", 0, 50.0, source="x") for arch in ("s12", "s36")]
    rows = rows_of(make_board(results, MACHINE, None, report))
    assert rows["poolformer_s12"]["cost"]["backbone_parameters"] == 5
    assert rows["poolformer_s36"]["cost"] is None


def test_machines_are_those_of_the_trainings():
    """Not that of the last call, which may have trained nothing."""
    first, second = dict(MACHINE, threads=1), dict(MACHINE, threads=3, date="2026-02-02 00:00:00")
    environments = (first, dict(first, date="2026-01-04 00:00:00"), second)
    results = [
        result("a", i, 50.0, environment=environment) for i, environment in enumerate(environments)
    ]
    board = make_board([*results, result("b", 0, 50.0)], MACHINE, PROTOCOL)
    assert board["environment"] == MACHINE and board["trained_on"] == [first, second]
    (note,) = [note for note in notes_of_board(board) if "trained for" in note]
    assert "1 threads, torch ?, 2026-01-02; and on A Processor, 3 threads" in note
    assert "2 threads" not in note
    environment = board_section(board, "Leaderboard").environment
    assert environment["threads"] == "1 or 3" and environment["processor"] == "A Processor"
    unknown = make_board([result("b", 0, 50.0)], MACHINE, PROTOCOL)
    assert "threads" not in "".join(notes_of_board(unknown)) and unknown["trained_on"] == []
    assert board_section(unknown, "Leaderboard").environment["threads"] == 2


def test_a_schedule_of_the_protocols_own_is_said():
    budget = PROTOCOL["budget"] | dict(decay=[0.75, 0.917], warm_up=0)
    for one, said in ((PROTOCOL["budget"], False), (budget, True)):
        board = make_board([result("a", 0, 50.0)], MACHINE, PROTOCOL | dict(budget=one))
        (note,) = [note for note in notes_of_board(board) if "trained for" in note]
        assert ("decay=[0.75, 0.917], warm_up=0" in note) == ("decay" in note) == said


def test_table(board):
    data = table_of(board["tables"][0], board["cost"]).set_index("backbone")
    assert "ms at 768x768" in data.columns
    assert data.at["poolformer_s12", "mIoU"] == "52.0 ± 5.0"  # 4.30 * 2 / 3 ** 0.5
    assert data.at["poolformer_s12", "min - max"] == "50.0 - 54.0"
    assert data.at["caformer_s18", "#"] == "1=" and data.at["poolformer_s24", "#"] == "-"
    assert data.at["poolformer_s24", "seeds"] == "2"
    assert "seed 2 failed" in data.at["poolformer_s24", "note"]
    assert data.at["lost", "mIoU"] == "failed"


def test_what_is_written_is_read_again(board, tmp_path):
    write_board(board, tmp_path / "out")
    assert read_board(tmp_path / "out/leaderboard.json") == json.loads(json.dumps(board))
    text = (tmp_path / "out/leaderboard.md").read_text()
    assert text == board_markdown(board) and "the loss \\| is nan" in text
    assert "9 steps of 2 pictures, 64 pixels" in text and "Cost at 768x768" in text
    lines = list(csv.DictReader(io.StringIO(board_csv(board))))
    assert len(lines) == 13 and sum(bool(line["failure"]) for line in lines) == 2
    (tmp_path / "old.json").write_text('{"kind": "leaderboard"}')
    with pytest.raises(ValueError, match="another version of mmplugins"):
        read_board(tmp_path / "old.json")
    for content in (b"[]", b"{", b"\xff"):
        (tmp_path / "other.json").write_bytes(content)
        with pytest.raises(ValueError, match="other.json: no leaderboard"):
            read_board(tmp_path / "other.json")
    with pytest.raises(ValueError, match="absent.json: no such file: expected a leaderboard.json"):
        read_board(tmp_path / "absent.json")


def test_plot_shows_rows_with_score_and_cost(board):
    section = board_section(board, "Leaderboard")
    (figure,) = section.plots.values()
    shown = {text.get_text() for text in figure.axes[0].texts}
    assert shown == {"poolformer_s12", "caformer_s18", "poolformer_s24"}
    assert section.environment["steps"] == 9


def test_other_steps_and_recipes_are_other_rows():
    """Of trainings that were read; those of one protocol have the same."""
    read = dict(source="x", selected=None)
    results = [
        result("a", 0, 1.0, steps=9, **read), result("a", 1, 2.0, steps=10, **read),
        result("a", 0, 3.0, set="b", config="b", steps=9, **read),
    ]  # fmt: skip
    board = make_board(results, MACHINE)
    assert [len(table["rows"]) for table in board["tables"]] == [1, 2]
    assert board["cost"] is None and board["tables"][1]["rows"][0]["cost"] is None
    assert board_plots(board) == {}


def test_nothing_at_all():
    board = make_board([], MACHINE)
    assert board["tables"] == [] and board_csv(board) == "task\n"
