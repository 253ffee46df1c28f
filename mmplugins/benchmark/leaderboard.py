"""What trainings of many backbones come to: scores with their spread, beside what they cost.

``make_board`` returns JSON-able data::

    kind, schema   'leaderboard', 2
    environment    machine and versions of the call that put the results together
    trained_on     machines and versions of the trainings, each once
    protocol       of :meth:`.protocol.Protocol.plain`, or null
    cost           {environment, settings, size, batch} of the benchmark, or null
    missing        names of the runs that have no result yet
    tables   one per start and set, and per start one over all its sets (set null); each has
             start, set, task, title, score, config, and
      rows   best first: label, backbone, family, lr, source ('trained' or work dirs), steps,
             runs [{set, seed, score, chosen, step, seconds, metrics}],
             mean, low, high, count, and deviation, lowest, highest (one set) or sets_low,
             sets_high, sets {set: mean} (all sets), rank {rank, tied} or null,
             failures [{set, seed, lr, reason}], cost (:func:`.board_costs.cost_of`), pareto
      pairs  [{row, other, difference, p, probability, verdict}]
    agreement  [{order, other, rows, tau, p}] between tables, null below three rows in common

Scores are in percent, costs as in :mod:`.report`, intervals of 95 %.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mmplugins.engine import SettingError

from .board_costs import cost_of, cost_of_report
from .environment import differences
from .experiment import TASKS, checked_result
from .ranks import table_order
from .significance import (
    RUNS_TO_RANK,
    agreement,
    choose_rates,
    compare_rows,
    enough,
    pareto_front,
    rank_rows,
    summarize,
    summarize_sets,
)

SCHEMA = 2
RUN_KEYS = ("set", "label", "start", "lr", "seed")


def read_runs(folder: str | Path) -> list[dict[str, Any]]:
    """Results of all runs in a folder of runs, also of a copy that other machines wrote to.

    Raises:
        SettingError: If one is of another version, two are of the same run, or two do not stand in
            one table.
    """
    found: dict[tuple, Path] = {}
    agreed: dict[str, tuple[Any, Path]] = {}
    results = []
    for path in sorted(Path(folder).rglob("result.json")):
        result = checked_result(path)
        if lacking := [key for key in ("protocol", "backbone", *RUN_KEYS) if key not in result]:
            raise SettingError(
                f"{path} is no result of a protocol, {lacking[0]} is missing: remove it"
            )
        for name, value in (
            ("the protocol", result["protocol"]),
            (f"the backbone {result['label']}", result["backbone"]),
            *result.get("settings", {}).items(),
        ):
            before, other = agreed.setdefault(name, (value, path))
            if before != value:
                raise SettingError(
                    f"{other} and {path} do not stand in one table ({name}: {before} and {value}): "
                    "give each a folder of its own"
                )
        if (other := found.setdefault(run_key(result), path)) != path:
            what = ", ".join(str(part) for part in run_key(result) if part is not None)
            raise SettingError(
                f"{other} and {path} are results of the same run ({what}): keep one of them"
            )
        results.append(dict(result, source="trained"))
    # Whatever machines, workers and folders they come from.
    return sorted(results, key=lambda result: [part or 0 for part in run_key(result)])


def run_key(about: Mapping[str, Any]) -> tuple:
    """What tells a run from the others of its protocol."""
    return tuple(about[key] for key in RUN_KEYS)


def make_board(
    results: Sequence[Mapping[str, Any]],
    environment: Mapping[str, Any],
    protocol: Mapping[str, Any] | None = None,
    report: Mapping[str, Any] | None = None,
    others: Mapping[str, Mapping[str, Any]] | None = None,
    missing: Sequence[str] = (),
) -> dict[str, Any]:
    """Put results together, see the module for the structure.

    Args:
        results: Of :func:`read_runs` and :func:`.work_dirs.read_work_dir`.
        environment: Of :func:`.environment.describe_environment`.
        protocol: What the trained ones have in common.
        report: A benchmark with rows ``CONFIG.py@BACKBONE`` or ``BACKBONE``, for the costs at its
            largest size.
        others: Further boards by name, whose orders are compared with this one's.
        missing: Names of the runs that have no result yet.
    """
    results = _apart_by_steps(results)
    runs = pd.DataFrame([_line(i, result) for i, result in enumerate(results)])
    tables = []
    if len(runs):
        starts = list(dict.fromkeys(runs["start"]))
        for start in starts:
            of_start = runs[runs["start"] == start]
            names = _sets_in_order(of_start, results)
            if len(names) > 1 and protocol:
                tables.append(_table(of_start, results, start, None, names, report))
            for name in names:
                of_set = of_start[of_start["set"] == name]
                tables.append(_table(of_set, results, start, name, [name], report))
    orders = _orders(tables)
    for name, other in (others or {}).items():
        orders |= {f"{name}: {key}": order for key, order in _orders(other["tables"]).items()}
    return dict(
        kind="leaderboard",
        schema=SCHEMA,
        environment=dict(environment),
        trained_on=_different(r["environment"] for r in results if r.get("environment")),
        protocol=dict(protocol) if protocol else None,
        cost=cost_of_report(report) if report else None,
        missing=list(missing),
        tables=tables,
        agreement=_records(agreement(orders)),
    )


def _line(i: int, result: Mapping[str, Any]) -> dict[str, Any]:
    chosen = result.get("selected") or {}
    done = result["failure"] is None
    return dict(
        result=i, set=result["set"], label=result["label"], start=result["start"],
        lr=result["lr"], seed=result["seed"], score=result["score"] if done else None,
        chosen=chosen.get("score", result["score"]) if done else None, done=done,
    )  # fmt: skip


def _apart_by_steps(results: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Trainings that were read, with a label of its own for each number of steps."""
    steps: dict[tuple, set] = {}
    for r in results:
        steps.setdefault((r["set"], r["label"], r["start"]), set()).add(r.get("steps"))
    return [
        dict(r, label=f"{r['label']}, {r['steps']} steps")
        if r["source"] != "trained" and len(steps[r["set"], r["label"], r["start"]]) > 1
        else r
        for r in results
    ]


def _sets_in_order(runs: pd.DataFrame, results: Sequence[Mapping[str, Any]]) -> list[str]:
    order = [*TASKS, None]
    tasks: dict[str, str] = {}
    for line in runs.itertuples():
        task = results[line.result]["task"]
        tasks[line.set] = tasks.get(line.set) or task
    return sorted(tasks, key=lambda name: (order.index(tasks[name]), name))


def _table(
    runs: pd.DataFrame,
    results: Sequence[Mapping[str, Any]],
    start: str,
    name: str | None,
    sets: Sequence[str],
    report: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """A table of one set, or over all of them if it has no name."""
    done = choose_rates(runs[runs["done"]])
    rows, scores = [], {}
    for label, lines in runs.groupby("label", sort=False):
        good = done[done["label"] == label]
        by_set = {s: good[good["set"] == s]["score"].tolist() for s in sets}
        by_set = {s: values for s, values in by_set.items() if values}
        # Of trainings that were read, two of one seed say less than two of two.
        apart = good[~good.duplicated(["set", "seed"]) | good["seed"].isna()]
        row = _row(label, lines, good, results, report if name or len(sets) == 1 else None)
        if name is not None:
            row |= summarize(by_set.get(name, []))
        else:
            row["sets"] = {s: sum(v) / len(v) for s, v in by_set.items()}
            whole = len(by_set) == len(sets)
            row |= summarize_sets(by_set) if whole else summarize([])
        rows.append(row)
        scores[label] = {s: apart[apart["set"] == s]["score"].tolist() for s in by_set}
    found = rank_rows({k: v for k, v in scores.items() if v}) if scores else {}
    for row in rows:
        rank = found.get(row["label"])
        row["rank"] = rank._asdict() if rank else None
    rows.sort(key=lambda r: table_order(r["rank"], None if r["mean"] is None else -r["mean"]))
    points = {
        row["label"]: (row["cost"]["inference"]["median"], row["mean"])
        for row in rows
        if row["mean"] is not None and (row["cost"] or {}).get("inference")
    }
    front = pareto_front(points)
    for row in rows:
        row["pareto"] = row["label"] in front if points else None
    tasks = [results[i]["task"] for i in runs["result"]]
    task = next((t for t in tasks if t), None) if name is not None else None
    return dict(
        start=start,
        set=name,
        task=task,
        title=TASKS[task].title if task else "Unknown task" if name else "Mean over sets",
        score=TASKS[task].score if task else "score",
        config=results[runs["result"].iloc[0]]["config"] if name else None,
        rows=rows,
        pairs=_records(compare_rows({k: v for k, v in scores.items() if v})),
    )


def _row(label, lines, good, results, report) -> dict[str, Any]:
    every = [results[i] for i in lines["result"]]
    used = [results[i] for i in good["result"]]
    first = used[0] if used else every[0]
    sources = [r["source"] for r in every]
    rates = list(dict.fromkeys(r["lr"] for r in used))
    return dict(
        label=label, backbone=first["backbone"], family=first["family"],
        lr=rates[0] if len(rates) == 1 else None,
        source="trained" if "trained" in sources else sources,
        steps=_one([_steps(r) for r in used]),
        runs=[
            dict(set=r["set"], seed=r["seed"], score=r["score"],
                 chosen=(r.get("selected") or {}).get("score"), step=_steps(r),
                 seconds=r["seconds"], metrics=r["metrics"])
            for r in sorted(used, key=lambda r: (r["set"], r["seed"] is None, r["seed"] or 0))
        ],
        failures=[
            dict(set=r["set"], seed=r["seed"], lr=r["lr"], reason=r["failure"])
            for r in every if r["failure"]
        ],
        cost=cost_of(first, report) if report else None,
    )  # fmt: skip


def _steps(result: Mapping[str, Any]) -> int | None:
    return (result.get("selected") or {}).get("step", result.get("steps"))


def _one(values: Sequence[Any]) -> Any:
    """The value that all share, or None."""
    return values[0] if values and all(value == values[0] for value in values) else None


def _records(data: pd.DataFrame) -> list[dict[str, Any]]:
    """Lines of a frame as plain data, with null for NaN."""
    return json.loads(data.to_json(orient="records", double_precision=12))


def table_name(table: Mapping[str, Any]) -> str:
    """A name of a table among those of its board."""
    return ", ".join(part for part in (table["set"] or "mean over sets", table["start"]) if part)


def _orders(tables: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    return {
        table_name(table): {r["label"]: r["mean"] for r in table["rows"] if r["mean"] is not None}
        for table in tables
    }


def _different(environments: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Those that differ in more than the date, each as it was first met."""
    found: list[dict[str, Any]] = []
    for each in environments:
        if all(differences(other, each) for other in found):
            found.append(dict(each))
    return found


def missing_runs(table: Mapping[str, Any]) -> list[str]:
    """Rows of a table that have scores and too few of them to be compared."""
    sets = {run["set"] for row in table["rows"] for run in row["runs"]}
    lacking = []
    for row in table["rows"]:
        by_set = {s: [r["score"] for r in row["runs"] if r["set"] == s] for s in sets}
        if row["runs"] and not enough(by_set):
            fewest = min(map(len, by_set.values()))
            lacking.append(f"{row['label']} ({fewest} of {RUNS_TO_RANK})")
    return lacking


def read_board(path: str | Path) -> dict[str, Any]:
    """Read a board that :func:`.board_tables.write_board` wrote.

    Raises:
        ValueError: If there is no such file, or it is something else or of an earlier version.
    """
    try:
        board = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such file: expected a leaderboard.json") from error
    except ValueError:  # neither JSON nor UTF-8
        board = None
    if not isinstance(board, dict) or board.get("kind") != "leaderboard":
        raise ValueError(f"{path}: no leaderboard (a benchmark is read from its .jsonl)")
    if board.get("schema") != SCHEMA:
        raise ValueError(
            f"{path} was written by another version of mmplugins (schema {board.get('schema', 1)}, "
            f"this one reads {SCHEMA}): show it with that version"
        )
    return board
