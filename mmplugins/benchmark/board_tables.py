"""A leaderboard as tables: for the terminal, as Markdown, as CSV; and the notes below them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from mmplugins.utils import few, write_whole

from .environment import summary
from .leaderboard import missing_runs, table_name
from .ranks import Rank, written
from .significance import LEVEL, RUNS_TO_RANK
from .text_tables import MIB, NONE, Titled, frame, markdown_text, scaled, terminal_tables

NOTES = (
    "Scores are means over seeds, in percent, with their 95 % interval (t). A row's rank (#) is "
    "one more than the number of rows that are surely better, by the Tukey-Kramer test over all "
    "rows of the table at 95 %; = marks rows that are not told apart from some other."
)
RATES = "The learning rate is the one that was best on validation; its scores are shown."
NOT_ENOUGH = "Not enough runs to rank: {} ({} seeds or more are needed)."
MISSING = "Without a result yet: {} of the runs ({})."
FRONT = "On the front of score against latency, {}: {}."


def table_of(table: Mapping[str, Any], cost: Mapping[str, Any] | None = None) -> pd.DataFrame:
    """A table of a board as text, best first; empty columns are left out.

    Args:
        table: Of a board.
        cost: The board's ``cost``, whose size stands in the heading of the latency.
    """
    size = cost["size"] if cost else None
    latency = f"ms at {size[0]}x{size[1]}" if size else "ms"
    return frame([_line(row, table, latency) for row in table["rows"]])


def _line(row: Mapping[str, Any], table: Mapping[str, Any], latency: str) -> dict[str, str]:
    cost = row["cost"] or {}
    times, energy = cost.get("inference"), cost.get("energy")
    seconds = [run["seconds"] for run in row["runs"] if run["seconds"] is not None]
    score = "failed" if row["failures"] else NONE
    if row["mean"] is not None:
        score = f"{row['mean']:.1f}"
        if row["low"] is not None:
            score += f" ± {row['high'] - row['mean']:.1f}"
    line = {"#": written(row["rank"]), "backbone": row["label"], table["score"]: score}
    if table["set"] is None:
        if row.get("sets_low") is not None:
            line["over sets"] = f"± {row['sets_high'] - row['mean']:.1f}"
        names = list(dict.fromkeys(s for other in table["rows"] for s in other["sets"]))
        line |= {s: f"{row['sets'][s]:.1f}" if s in row["sets"] else NONE for s in names}
    elif row["count"] > 1:
        line["min - max"] = f"{row['lowest']:.1f} - {row['highest']:.1f}"
    line |= {
        "seeds": str(row["count"] or NONE),
        "rate": NONE if row["lr"] is None else f"{row['lr']:g}",
        "steps": str(row["steps"] or NONE),
        "params M": scaled(cost.get("parameters"), 1e6, 2),
        "backbone M": scaled(cost.get("backbone_parameters"), 1e6, 2),
        "MACs G": scaled(cost.get("macs"), 1e9, 2),
        latency: scaled(times and times["median"], 1e-3, 1),
        "MiB": scaled(cost.get("memory", {}).get("inference", {}).get("peak"), MIB, 0),
        "J": scaled(energy and energy["joules"], 1, 2),
        "front": "yes" if row["pareto"] else NONE,
        "train s": f"{sum(seconds) / len(seconds):,.0f}" if seconds else NONE,
        "note": _note(row, cost) or NONE,
    }
    return line


def _note(row: Mapping[str, Any], cost: Mapping[str, Any]) -> str:
    reasons: dict[str, list[str]] = {}
    for f in row["failures"]:
        reasons.setdefault(f["reason"], []).append(f"seed {f['seed']}")
    notes = [f"{few(list(dict.fromkeys(k)))} failed: {reason}" for reason, k in reasons.items()]
    notes += [f"cost: {cost['failure']}"] if cost.get("failure") else []
    notes += [] if row["source"] == "trained" else [f"read from {', '.join(row['source'])}"]
    return "; ".join(notes)


def tables_of(board: Mapping[str, Any]) -> list[Titled]:
    """All tables of a board with their titles."""
    found = [(_title(table), table_of(table, board["cost"])) for table in board["tables"]]
    found += [
        (f"Which is better: {_title(table)}", pairs)
        for table in board["tables"]
        if len(pairs := _pairs(table))
    ]
    agreement = frame(
        [
            {
                "order": one["order"], "other": one["other"], "rows": str(one["rows"]),
                "tau": NONE if one["tau"] is None else f"{one['tau']:.2f}",
                "p": NONE if one["p"] is None else f"{one['p']:.3f}",
            }
            for one in board["agreement"] if one["tau"] is not None
        ]
    )  # fmt: skip
    if len(agreement):
        found.append(("Kendall's tau between the orders", agreement))
    return found


def _title(table: Mapping[str, Any]) -> str:
    parts = [table["title"], table["set"], table["start"]]
    if table["config"] and table["config"] != table["set"]:
        parts.append(table["config"])
    return ", ".join(part for part in parts if part)


def _pairs(table: Mapping[str, Any]) -> pd.DataFrame:
    return frame(
        [
            {
                "row": pair["row"], "other": pair["other"],
                "difference": f"{pair['difference']:+.1f}",
                "P(row beats other)": f"{pair['probability']:.2f}",
                "p": f"{pair['p']:.3f}", "verdict": pair["verdict"],
            }
            for pair in table["pairs"]
        ]
    )  # fmt: skip


def notes_of_board(board: Mapping[str, Any]) -> list[str]:
    """How the scores and costs came about."""
    notes, protocol, cost = [NOTES], board["protocol"], board["cost"]
    for table in board["tables"]:
        if lacking := missing_runs(table):
            who = f"{table_name(table)}: {few(lacking, 8)}"
            notes.append(NOT_ENOUGH.format(who, RUNS_TO_RANK))
        front = [row for row in table["rows"] if row["pareto"]]
        if front:
            front.sort(key=lambda row: row["cost"]["inference"]["median"])
            names = ", ".join(row["label"] for row in front)
            notes.append(FRONT.format(table_name(table), names))
    if missing := board.get("missing"):
        notes.append(MISSING.format(len(missing), few(missing, 3)))
    if protocol:
        notes += _notes_of_protocol(protocol, board["trained_on"])
    if cost and cost["size"]:
        height, width = cost["size"]
        rounds = cost["settings"].get("rounds", "?")
        notes.append(
            f"Cost at {height}x{width}, batch {cost['batch']}, in one interleaved run of {rounds} "
            f"rounds on {summary(cost['environment'])}."
        )
    return notes


def _notes_of_protocol(protocol: Mapping[str, Any], trained_on: list) -> list[str]:
    budget = protocol["budget"]
    length = f"{budget['epochs']} epochs" if budget["epochs"] else f"{budget['steps']} steps"
    parts = [f"{length} of {budget['batch']} pictures"]
    parts += [f"{budget['image_size']} pixels"] if budget["image_size"] else []
    parts += ["mixed precision"] if budget["amp"] else []
    usual = {"decay": "cosine", "warm_up": None}
    parts += [f"{k}={budget[k]}" for k, v in usual.items() if budget.get(k, v) != v]
    parts += [f"{name}={value}" for name, value in budget["options"].items()]
    machines = "; and on ".join(dict.fromkeys(map(summary, trained_on)))
    rates = [rate for rate in protocol["learning_rates"] if rate is not None]
    chosen = "the best of validation" if protocol["select"] == "best" else "the last checkpoint"
    grid = f" Learning rates {', '.join(f'{rate:g}' for rate in rates)}." if rates else ""
    notes = [
        f"Protocol {protocol['name']}: trained for {', '.join(parts)}; {chosen} is scored on the "
        f"{protocol['report']} split.{grid}{f' On {machines}.' if machines else ''}"
    ]
    if len(rates) > 1:
        notes.append(RATES)
    if protocol["source"]:
        notes.append(f"Source: {protocol['source']}.")
    notes += [f"Departs from it: {departure}" for departure in protocol["departures"]]
    return notes


def board_markdown(board: Mapping[str, Any]) -> str:
    """All tables of a board, and the notes, as Markdown."""
    return markdown_text(tables_of(board), notes_of_board(board))


def board_tables(board: Mapping[str, Any]) -> list[Table]:
    """All tables of a board for the terminal."""
    return terminal_tables(tables_of(board))


def board_csv(board: Mapping[str, Any]) -> str:
    """One line per trained model, with plain numbers, as CSV; rows in the order of the tables."""
    lines = []
    for table in board["tables"]:
        if table["set"] is None:
            continue
        for row in table["rows"]:
            cost = row["cost"] or {}
            head = dict(task=table["task"], set=table["set"], config=table["config"])
            head |= dict(start=table["start"], **{k: row[k] for k in ("label", "backbone")})
            head |= dict(family=row["family"]) | (row["rank"] or dict.fromkeys(Rank._fields))
            costs = {k: cost.get(k) for k in ("parameters", "backbone_parameters", "macs")}
            costs["latency_median"] = (cost.get("inference") or {}).get("median")
            costs["joules"] = (cost.get("energy") or {}).get("joules")
            for run in row["runs"]:
                own = {k: run[k] for k in ("seed", "score", "chosen", "step", "seconds")}
                lines.append({**head, "lr": row["lr"], **own, "failure": None, **costs})
            for lost in row["failures"]:
                own = dict(seed=lost["seed"], lr=lost["lr"], failure=lost["reason"])
                lines.append({**head, **own, **costs})
    columns = ["task"] if not lines else None
    return pd.DataFrame(lines, columns=columns, dtype=object).to_csv(
        index=False, lineterminator="\n"
    )


def write_board(board: Mapping[str, Any], folder: str | Path) -> None:
    """Write ``leaderboard.json``, ``.md`` and ``.csv``, aside first; older ones are replaced."""
    stem = Path(folder) / "leaderboard"
    write_whole(stem.with_suffix(".json"), json.dumps(board, indent=1, default=str) + "\n")
    write_whole(stem.with_suffix(".md"), board_markdown(board))
    write_whole(stem.with_suffix(".csv"), board_csv(board))


assert LEVEL == 0.95  # the texts say so
