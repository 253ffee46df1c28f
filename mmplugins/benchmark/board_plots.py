"""A leaderboard as plots, and as a part of an HTML report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from .board_tables import notes_of_board, tables_of
from .environment import summary
from .html_report import Section
from .leaderboard import table_name
from .plots import Point, accuracy_against_latency
from .text_tables import as_words


def board_plots(board: Mapping[str, Any]) -> dict[str, Figure]:
    """Score against latency of each table with the Pareto front, where both are known."""
    made = {}
    for table in board["tables"]:
        points = []
        for row in table["rows"]:
            times = (row["cost"] or {}).get("inference")
            if times and row["mean"] is not None:
                low, high = (row["mean"] if row[k] is None else row[k] for k in ("low", "high"))
                latency = times["p10"], times["median"], times["p90"]
                points.append(
                    Point(
                        row["label"], row["family"] or "", latency, (low, row["mean"], high),
                        bool(row["pareto"]),
                    )
                )  # fmt: skip
        if points:
            size, batch = board["cost"]["size"], board["cost"]["batch"]
            name = "_".join(part for part in (table["set"] or "all", table["start"]) if part)
            figure = accuracy_against_latency(
                points,
                f"{table['score']} in %",
                f"{table_name(table)}: {table['score']} against latency",
                f"{size[0]}x{size[1]}, batch {batch}, {summary(board['cost']['environment'])}. "
                "Bars: 95 % interval over seeds; 10th to 90th percentile. Steps: the front.",
            )
            if figure is not None:
                made[name.replace(" ", "-")] = figure
    return made


def board_section(board: Mapping[str, Any], title: str) -> Section:
    """A board as a part of an HTML report."""
    protocol = board["protocol"] or {}
    about = {**protocol.get("budget", {}), **_all_of(board["trained_on"] or [board["environment"]])}
    return Section(title, tables_of(board), board_plots(board), notes_of_board(board), about)


def _all_of(environments: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One environment of several: where they differ, all that there are."""
    found = {}
    for key in dict.fromkeys(key for each in environments for key in each):
        values = [each.get(key) for each in environments]
        same = all(value == values[0] for value in values)
        found[key] = values[0] if same else " or ".join(dict.fromkeys(map(as_words, values)))
    return found
