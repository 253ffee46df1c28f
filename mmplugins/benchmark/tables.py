"""A report as tables: for the terminal, as Markdown, as CSV."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
from rich.table import Table

from .environment import summary
from .ranks import written
from .report import case_name, rows_in_order
from .text_tables import MIB, Titled, frame, markdown_text, scaled, terminal_tables

NOTES = (
    "Times are medians of {rounds} interleaved rounds, with the 10th and 90th percentile. A row's "
    "rank (#) is one more than the number of rows that are surely faster: with a difference that "
    "is certain within rounds (98 %) and above 2 %; = marks rows that are not told apart from some "
    "other. Bound: the convolutions, matrix products and attention alone. MACs are "
    "multiply-accumulates, pooling not among them."
)


def _time(case: dict[str, Any], what: str) -> str:
    if case[what] is None:
        return "failed" if what in case["failures"] else "-"
    return scaled(case[what]["median"], 1e-3, _digits(case[what]["median"]))


def _spread(case: dict[str, Any], what: str) -> str:
    times = case[what]
    if times is None:
        return "-"
    digits = _digits(times["median"])
    return f"{times['p10'] * 1e3:,.{digits}f} - {times['p90'] * 1e3:,.{digits}f}"


def _best(case: dict[str, Any], what: str) -> str:
    if case[what] is None:
        return "-"
    return scaled(case[what]["best"], 1e-3, _digits(case[what]["median"]))


def _digits(seconds: float) -> int:
    """Digits after the point of milliseconds, for three figures or so."""
    return 0 if seconds >= 0.2 else 1 if seconds >= 0.01 else 2


def _memory(case: dict[str, Any], what: str) -> str:
    return scaled(case["memory"].get(what, {}).get("peak"), MIB, 0)


Cell = Callable[[dict[str, Any], dict[str, Any]], str]

COLUMNS: dict[str, Cell] = {
    "#": lambda row, case: written(case["rank"].get("inference")),
    "row": lambda row, case: row["row"],
    "params M": lambda row, case: scaled(row.get("parameters", {}).get("total"), 1e6, 2),
    "MACs G": lambda row, case: scaled((case["macs"] or {}).get("total"), 1e9, 2),
    "ms": lambda row, case: _time(case, "inference"),
    "p10 - p90": lambda row, case: _spread(case, "inference"),
    "best": lambda row, case: _best(case, "inference"),
    "images/s": lambda row, case: scaled(case["images_per_second"], 1, 1),
    "x bound": lambda row, case: scaled((case["above_lower_bound"] or {}).get("ratio"), 1, 2),
    "MiB": lambda row, case: _memory(case, "inference"),
    "J": lambda row, case: scaled((case["energy"] or {}).get("joules"), 1, 2),
    "train ms": lambda row, case: _time(case, "training"),
    "train MiB": lambda row, case: _memory(case, "training"),
}
"""Columns of the tables; those that no row fills are left out."""

PARTS = {
    "stages": "Milliseconds by stage",
    "operations": "Milliseconds by kind of operation",
    "operations of training": "Milliseconds by kind of operation in a training step",
}
"""What is measured part by part, and the titles of its tables."""


def table_of(report: Mapping[str, Any], size: list[int], batch: int) -> pd.DataFrame:
    """The table of one size and batch as text, rows by :mod:`.ranks`."""
    return frame(
        [
            {name: cell(row, case) for name, cell in COLUMNS.items()}
            for row, case in rows_in_order(report, size, batch)
        ]
    )


def parts_table(
    report: Mapping[str, Any], size: list[int], batch: int, what: str = "stages"
) -> pd.DataFrame:
    """Milliseconds by part of one size and batch as text, empty if none were taken.

    Args:
        report: As :func:`.report.make_report` returns it.
        size: Height and width.
        batch: Number of images.
        what: A key of :data:`PARTS`. Defaults to ``'stages'``.
    """
    return frame(
        [
            {"row": row["row"]}
            | {name: scaled(value, 1e-3, 1) for name, value in case[what]["parts"].items()}
            for row, case in rows_in_order(report, size, batch)
            if case[what]
        ]
    )


def growth_table(report: Mapping[str, Any]) -> pd.DataFrame:
    """Exponents of latency against pixels as text, empty if no row has three sizes."""
    return frame(
        [
            {
                "row": fit["row"], "batch": str(fit["batch"]),
                "exponent": f"{fit['exponent']:.2f}", "98 %": _bounds(fit),
            }
            for fit in sorted(report["growth"], key=lambda fit: fit["exponent"])
        ]
    )  # fmt: skip


def _bounds(fit: dict[str, Any]) -> str:
    if fit["high"] is None:
        return "too few rounds"
    return f"{fit['low']:.2f} - {fit['high']:.2f}"


def failures_of(report: Mapping[str, Any]) -> list[str]:
    """One line for everything that could not be measured."""
    lines = [f"{row['row']}: {row['failure']}" for row in report["rows"] if row["failure"]]
    for row in report["rows"]:
        for case in row["cases"]:
            where = case_name(case["size"], case["batch"])
            lines += [
                f"{row['row']}, {what} at {where}: {reason}"
                for what, reason in case["failures"].items()
            ]
    return lines


def sections(report: Mapping[str, Any]) -> list[Titled]:
    """All tables of a report with their titles."""
    found = []
    for size, batch in report["cases"]:
        title = case_name(size, batch)
        found.append((title, table_of(report, size, batch)))
        for what, name in PARTS.items():
            found.append((f"{name}, {title}", parts_table(report, size, batch, what)))
    found.append(("Latency ~ pixels ** exponent", growth_table(report)))
    return [(title, data) for title, data in found if len(data)]


def notes_of(report: Mapping[str, Any]) -> list[str]:
    """What stands below the tables: how it was measured, on what, and what failed."""
    notes = [
        NOTES.format(rounds=report["settings"].get("rounds", "?")),
        summary(report["environment"]),
    ]
    if report["settings"].get("peers"):
        notes.append("Backbones are without output norms, with the same weights as their peers.")
    return notes + [f"Not measured: {line}" for line in failures_of(report)]


def rich_tables(report: Mapping[str, Any]) -> list[Table]:
    """All tables of a report for the terminal."""
    return terminal_tables(sections(report))


def markdown(report: Mapping[str, Any]) -> str:
    """All tables of a report, and the notes, as Markdown."""
    return markdown_text(sections(report), notes_of(report))


def csv_text(report: Mapping[str, Any]) -> str:
    """One line per row, size and batch, in seconds, bytes and plain numbers, as CSV."""
    lines = [
        _csv_line(row, case)
        for size, batch in report["cases"]
        for row, case in rows_in_order(report, size, batch)
    ]
    return (
        pd.DataFrame(lines, dtype=object).to_csv(index=False, lineterminator="\n") if lines else ""
    )


def _csv_line(row: dict[str, Any], case: dict[str, Any]) -> dict[str, Any]:
    line = dict(
        row=row["row"],
        family=row.get("family"),
        dtype=row.get("dtype"),
        options=" ".join(row.get("options", [])),
        height=case["size"][0],
        width=case["size"][1],
        batch=case["batch"],
        parameters=row.get("parameters", {}).get("total"),
        trainable=row.get("parameters", {}).get("trainable"),
        macs=(case["macs"] or {}).get("total"),
        pooling=(case["macs"] or {}).get("pooling"),
    )
    for what in ("inference", "training", "lower_bound"):
        for name in ("median", "best", "p10", "p90"):
            line[f"{what}_{name}"] = (case[what] or {}).get(name)
    line["rounds"] = (case["inference"] or {}).get("rounds")
    line["above_lower_bound"] = (case["above_lower_bound"] or {}).get("ratio")
    for what in ("inference", "training"):
        line[f"{what}_peak_bytes"] = case["memory"].get(what, {}).get("peak")
        line[f"{what}_rank"] = case["rank"].get(what, {}).get("rank")
        line[f"{what}_tied"] = case["rank"].get(what, {}).get("tied")
    line["joules"] = (case["energy"] or {}).get("joules")
    line["saved_bytes"] = case["memory"].get("training", {}).get("saved")
    reasons = [f"{what}: {reason}" for what, reason in case["failures"].items()]
    line["failure"] = "; ".join([row["failure"]] if row["failure"] else reasons)
    return line
