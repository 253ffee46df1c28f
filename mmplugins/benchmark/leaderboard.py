"""What trainings of many backbones come to: scores with their spread, beside what they cost.

``make_board`` returns JSON-able data::

    kind     'leaderboard'
    environment  machine and versions of the call that put the results together
    trained_on  machines and versions of the trained trials, each once; empty if none
    budget   what trained trials have in common, or null
    cost     {'environment', 'settings', 'size', 'batch'} of the benchmark, or null
    tasks    one per task and recipe: task, title, score, config, and
      rows   best first: label, backbone, family, steps, source ('trained' or work dirs),
             scores [{seed, score, seconds, metrics}], mean, deviation, lowest, highest,
             place {place, tied} or null, failures [{seed, reason}],
             cost {row, whole, parameters, backbone_parameters, macs, backbone_macs, inference,
             memory, failure} or null

Scores are in percent, costs as in :mod:`.report`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from matplotlib.figure import Figure
from rich.table import Table

from mmplugins.utils import write_whole

from .environment import differences, summary
from .html_report import Section
from .plots import Point, accuracy_against_latency
from .ranks import Rank, ranks, table_order, written
from .text_tables import markdown_text, terminal_tables
from .trials import TASKS
from .work_dirs import own_backbone

SEEDS_TO_RANK = 3
"""With fewer seeds, two rows of equal worth lie apart by chance too often."""

NOTES = (
    "Scores are means and standard deviations over seeds, in percent. A row's place (#) is one "
    "more than the number of rows that are surely better: whose worst seed is above its best; = "
    "marks rows that are not told apart from some other."
)
NO_PLACES = f"No places: they take {SEEDS_TO_RANK} seeds or more of a row."


def make_board(
    results: Sequence[Mapping[str, Any]],
    environment: Mapping[str, Any],
    budget: Mapping[str, Any] | None = None,
    report: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Put results together, see the module for the structure.

    Args:
        results: Of :func:`.trials.run_trial` and :func:`.work_dirs.read_work_dir`. Those of one
            recipe, backbone and number of steps are seeds of one row.
        environment: Of :func:`.environment.describe_environment`.
        budget: What the trained ones have in common.
        report: A benchmark with rows ``CONFIG.py@BACKBONE`` or ``BACKBONE``, for the costs at its
            largest size.
    """
    groups: dict[tuple, list[Mapping[str, Any]]] = {}
    for result in results:
        kind = result["source"] == "trained"
        key = result["task"] or "", result["config"], result["label"], result["steps"], kind
        groups.setdefault(key, []).append(result)
    tasks: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for key, group in groups.items():
        tasks.setdefault(key[:2], []).append(_row(group, report))
    for rows in tasks.values():
        _put_in_order(rows)
    order = [*TASKS, ""]
    return dict(
        kind="leaderboard",
        environment=dict(environment),
        trained_on=_different(r["environment"] for r in results if r.get("environment")),
        budget=dict(budget) if budget else None,
        cost=_cost_of_report(report) if report else None,
        tasks=[
            dict(
                task=task,
                title=TASKS[task].title if task else "Unknown task",
                score=TASKS[task].score if task else "score",
                config=config,
                rows=rows,
            )
            for (task, config), rows in sorted(
                tasks.items(), key=lambda item: (order.index(item[0][0]), item[0][1])
            )
        ],
    )


def _different(environments: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The environments that differ in more than the date, each as it was first met."""
    found: list[dict[str, Any]] = []
    for environment in environments:
        if all(differences(other, environment) for other in found):
            found.append(dict(environment))
    return found


def _row(group: Sequence[Mapping[str, Any]], report: Mapping[str, Any] | None) -> dict[str, Any]:
    done = sorted((r for r in group if r["failure"] is None), key=_by_seed)
    values, first = [r["score"] for r in done], group[0]
    sources = [r["source"] for r in group]
    return dict(
        label=first["label"], backbone=first["backbone"], family=first["family"],
        steps=first["steps"], source="trained" if "trained" in sources else sources,
        scores=[{k: r[k] for k in ("seed", "score", "seconds", "metrics")} for r in done],
        mean=mean(values) if values else None,
        deviation=stdev(values) if len(values) > 1 else None,
        lowest=min(values, default=None),
        highest=max(values, default=None),
        failures=[dict(seed=r["seed"], reason=r["failure"]) for r in group if r["failure"]],
        cost=_cost(first, report) if report else None,
    )  # fmt: skip


def _by_seed(result: Mapping[str, Any]) -> tuple[bool, int]:
    return result["seed"] is None, result["seed"] or 0


def _put_in_order(rows: list[dict[str, Any]]) -> None:
    """Give places to the rows that have enough seeds, and sort all by :mod:`.places`."""
    ranked = {str(i): row for i, row in enumerate(rows) if _seeds(row) >= SEEDS_TO_RANK}
    found = ranks(ranked, lambda one, other: one["lowest"] > other["highest"])
    for i, row in enumerate(rows):
        row["rank"] = found[str(i)]._asdict() if str(i) in found else None
    rows.sort(
        key=lambda row: table_order(row["rank"], None if row["mean"] is None else -row["mean"])
    )


def _seeds(row: Mapping[str, Any]) -> int:
    """Different seeds with a score; each training that had none of its own is one."""
    seeds = [score["seed"] for score in row["scores"]]
    return len({seed for seed in seeds if seed is not None}) + seeds.count(None)


def _case_to_show(report: Mapping[str, Any]) -> tuple[list[int], int] | None:
    """The largest size, at the smallest batch."""
    return max(report["cases"], key=lambda c: (c[0][0] * c[0][1], -c[1]), default=None)


def _cost_of_report(report: Mapping[str, Any]) -> dict[str, Any]:
    size, batch = _case_to_show(report) or (None, None)
    return dict(
        environment=report["environment"], settings=report["settings"], size=size, batch=batch
    )


def _cost(result: Mapping[str, Any], report: Mapping[str, Any]) -> dict[str, Any] | None:
    """Cost of a row: of the whole model, if the report has it, else of the backbone."""
    read = result["source"] != "trained"

    def fits(row: Mapping[str, Any]) -> bool:
        if row.get("options"):
            return False
        if row.get("whole"):
            if Path(row["name"]).stem != result["config"]:
                return False
            # A config measured with its own backbone, and a training of it as it is.
            if read and not row["backbone"] and row["family"] == result["family"]:
                return own_backbone(row["name"]) in (None, result["backbone"])
            return row["backbone"] == result["backbone"]
        return row.get("name") == result["backbone"]

    found = [row for row in report["rows"] if fits(row)]
    if not found:
        # Of a row that could not be built, there is its label only.
        wanted = result["config"], result["backbone"]
        parts = ((row["row"].partition("@"), row["failure"]) for row in report["rows"])
        lost = [why for (name, _, b), why in parts if (Path(name).stem, b) == wanted and why]
        return dict(failure=lost[0]) if lost else None
    row = max(found, key=lambda r: (r["whole"], bool(r["backbone"])))
    size, batch = _case_to_show(report) or (None, None)
    case = next((c for c in row["cases"] if [c["size"], c["batch"]] == [size, batch]), {})
    parts, macs = row["parameters"]["by_part"], case.get("macs") or {}
    whole = row["whole"]
    return dict(
        row=row["row"], whole=whole, parameters=row["parameters"]["total"],
        backbone_parameters=parts.get("backbone") if whole else row["parameters"]["total"],
        macs=macs.get("total"),
        backbone_macs=macs.get("by_part", {}).get("backbone") if whole else macs.get("total"),
        inference=case.get("inference"), memory=case.get("memory", {}),
        failure=row["failure"] or "; ".join(case.get("failures", {}).values()) or None,
    )  # fmt: skip


def table_of_task(
    task: Mapping[str, Any], cost: Mapping[str, Any] | None = None
) -> list[list[str]]:
    """The table of a task as text, heading first, best first; empty columns are left out.

    Args:
        task: Of a board.
        cost: The board's ``cost``, whose size stands in the heading of the latency.
    """
    size = cost["size"] if cost else None
    latency = f"ms at {size[0]}x{size[1]}" if size else "ms"
    heading = ["#", "backbone", task["score"], "min - max", "seeds", "steps", "params M",
               "backbone M", "MACs G", latency, "p10 - p90", "train s", "note"]  # fmt: skip
    ranked = any(row["rank"] for row in task["rows"])
    lines = [_line(row, ranked) for row in task["rows"]]
    keep = [i for i in range(len(heading)) if any(line[i] != "-" for line in lines)]
    return [[line[i] for i in keep] for line in [heading, *lines]]


def _line(row: Mapping[str, Any], ranked: bool) -> list[str]:
    """A row's cells; where others are ``ranked``, it says why it is not."""
    cost = row["cost"] or {}
    times, count = cost.get("inference"), len(row["scores"])
    score = "failed" if row["mean"] is None else f"{row['mean']:.1f}"
    if row["deviation"] is not None:
        score += f" ± {row['deviation']:.1f}"
    seconds = [s["seconds"] for s in row["scores"] if s["seconds"] is not None]
    notes = [f"seed {f['seed']} failed: {f['reason']}" for f in row["failures"]]
    if ranked and not row["rank"] and row["scores"]:
        notes.append(f"no place: {_seeds(row)} of {SEEDS_TO_RANK} seeds")
    notes += [f"cost: {cost['failure']}"] if cost.get("failure") else []
    notes += [] if row["source"] == "trained" else [f"read from {', '.join(row['source'])}"]
    return [
        written(row["rank"]),
        row["label"],
        score,
        f"{row['lowest']:.1f} - {row['highest']:.1f}" if count > 1 else "-",
        str(count),
        str(row["steps"] or "-"),
        _scaled(cost.get("parameters"), 1e6, 2),
        _scaled(cost.get("backbone_parameters"), 1e6, 2),
        _scaled(cost.get("macs"), 1e9, 2),
        _scaled(times and times["median"], 1e-3, 1),
        f"{times['p10'] * 1e3:,.1f} - {times['p90'] * 1e3:,.1f}" if times else "-",
        f"{mean(seconds):,.0f}" if seconds else "-",
        "; ".join(notes) or "-",
    ]


def _scaled(value: float | None, unit: float, digits: int) -> str:
    return "-" if value is None else f"{value / unit:,.{digits}f}"


def tables_of(board: Mapping[str, Any]) -> list[tuple[str, list[list[str]]]]:
    """All tables of a board with their titles."""
    return [
        (f"{task['title']}, {task['config']}", table_of_task(task, board["cost"]))
        for task in board["tasks"]
    ]


def notes_of_board(board: Mapping[str, Any]) -> list[str]:
    """How the scores and costs came about."""
    notes, budget, cost = [NOTES], board["budget"], board["cost"]
    if not any(row["rank"] for task in board["tasks"] for row in task["rows"]):
        notes.append(NO_PLACES)
    if budget:
        parts = [f"{budget['steps']} steps of {budget['batch']} pictures"]
        parts += [f"{budget['image_size']} pixels"] if budget["image_size"] else []
        parts += [f"learning rate {budget['lr']}"] if budget["lr"] else []
        parts += ["mixed precision"] if budget["amp"] else []
        parts += [f"{name}={value}" for name, value in budget["options"].items()]
        machines = [summary(environment) for environment in board["trained_on"]]
        where = f"; on {'; and on '.join(dict.fromkeys(machines))}" if machines else ""
        notes.append(f"Trained for {', '.join(parts)}{where}.")
    if cost and cost["size"]:
        height, width = cost["size"]
        rounds = cost["settings"].get("rounds", "?")
        notes.append(
            f"Cost at {height}x{width}, batch {cost['batch']}, in one interleaved run of {rounds} "
            f"rounds on {summary(cost['environment'])}."
        )
    return notes


def board_markdown(board: Mapping[str, Any]) -> str:
    """All tables of a board, and the notes, as Markdown."""
    return markdown_text(tables_of(board), notes_of_board(board))


def board_csv(board: Mapping[str, Any]) -> str:
    """One line per trained model, with plain numbers, as CSV; rows in the order of the tables."""
    lines = []
    for task in board["tasks"]:
        for row in task["rows"]:
            cost = row["cost"] or {}
            base = {k: row[k] for k in ("label", "backbone", "family", "steps")}
            base |= row["rank"] or dict.fromkeys(Rank._fields)
            costs = {k: cost.get(k) for k in ("parameters", "backbone_parameters", "macs")}
            costs["latency_median"] = (cost.get("inference") or {}).get("median")
            head = dict(task=task["task"], config=task["config"], **base)
            for s in row["scores"]:
                one = dict(seed=s["seed"], score=s["score"], seconds=s["seconds"], failure=None)
                lines.append({**head, **one, **costs})
            for f in row["failures"]:
                one = dict(seed=f["seed"], score=None, seconds=None, failure=f["reason"])
                lines.append({**head, **one, **costs})
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]) if lines else ["task"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def board_tables(board: Mapping[str, Any]) -> list[Table]:
    """All tables of a board for the terminal."""
    return terminal_tables(tables_of(board))


def write_board(board: Mapping[str, Any], folder: str | Path) -> None:
    """Write ``leaderboard.json``, ``.md`` and ``.csv``, aside first; older ones are replaced."""
    stem = Path(folder) / "leaderboard"
    write_whole(stem.with_suffix(".json"), json.dumps(board, indent=1, default=str) + "\n")
    write_whole(stem.with_suffix(".md"), board_markdown(board))
    write_whole(stem.with_suffix(".csv"), board_csv(board))


def read_board(path: str | Path) -> dict[str, Any]:
    """Read a board that :func:`write_board` wrote.

    Raises:
        ValueError: If the file is something else.
    """
    board = json.loads(Path(path).read_text(encoding="utf-8"))
    if not isinstance(board, dict) or board.get("kind") != "leaderboard":
        raise ValueError(f"{path}: no leaderboard (a benchmark is read from its .jsonl)")
    return board


def board_plots(board: Mapping[str, Any]) -> dict[str, Figure]:
    """Score against latency of each task, where both are known."""
    made = {}
    for task in board["tasks"]:
        points = []
        for row in task["rows"]:
            times = (row["cost"] or {}).get("inference")
            if times and row["mean"] is not None:
                score = row["lowest"], row["mean"], row["highest"]
                latency = times["p10"], times["median"], times["p90"]
                points.append(Point(row["label"], row["family"] or "", latency, score))
        if points:
            size, batch = board["cost"]["size"], board["cost"]["batch"]
            made[f"{task['task']}_{task['config']}"] = accuracy_against_latency(
                points,
                f"{task['score']} in %",
                f"{task['title']}: score against latency",
                f"{size[0]}x{size[1]}, batch {batch}, {summary(board['cost']['environment'])}. "
                "Bars: all seeds; 10th to 90th percentile.",
            )
    return made


def board_section(board: Mapping[str, Any], title: str) -> Section:
    """A board as a part of an HTML report."""
    plots = [(figure.axes[0].get_title("left"), figure) for figure in board_plots(board).values()]
    environment = {
        **_all_of(board["trained_on"] or [board["environment"]]),
        **(board["budget"] or {}),
    }
    return Section(title, tables_of(board), plots, notes_of_board(board), environment)


def _all_of(environments: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One environment of several: where they differ, all that there are."""
    found = {}
    for key in dict.fromkeys(key for environment in environments for key in environment):
        values = [environment.get(key) for environment in environments]
        same = all(value == values[0] for value in values)
        found[key] = values[0] if same else " or ".join(dict.fromkeys(map(_text, values)))
    return found


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {part}" for name, part in value.items())
    return str(value)
