"""Plots of a benchmark report: accuracy against latency, growth, stages, memory.

All take the structure of :func:`.report.make_report` and return a figure, or None where the report
has nothing to show. :func:`plots_of` makes all that apply, :func:`save_plots` writes them.
"""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from mmplugins.backbones.catalog import families
from mmplugins.engine.config.backbone_choice import parse_backbone
from mmplugins.visualization.figures import save_figure

from .environment import summary
from .labelling import label_points
from .palette import family_style, part_color
from .report import case_name, rows_in_order
from .text_tables import MIB
from .work_dirs import name_of

DPI = 150
LONGEST = 44
"""Characters of a label."""
TEXT, FAINT = "#222222", "#666666"


@dataclass(frozen=True)
class Point:
    """A row in a plot of accuracy against latency.

    Attributes:
        label: What stands beside it.
        family: Gives colour and marker; points of a family are joined if their score rises with
            latency, as it does for the sizes of one network.
        latency: Seconds, as (10th percentile, median, 90th percentile).
        score: As (lowest, mean, highest) of the seeds; three times the same for one value.
        front: Whether no other point is better in both; such points are joined by steps.
    """

    label: str
    family: str
    latency: tuple[float, float, float]
    score: tuple[float, float, float]
    front: bool = False


def short_label(row: Mapping[str, Any]) -> str:
    """A row's label for a plot: configs without folder and ending, backbones by a short name."""
    label = row["row"]
    if row.get("whole"):
        label = label.replace(row["name"], Path(row["name"]).stem, 1).replace("@", " @ ")
    if (backbone := row.get("backbone", "")).startswith(("dict(", "{")):
        label = label.replace(backbone, name_of(parse_backbone(backbone)), 1)
    return label if len(label) <= LONGEST else f"{label[: LONGEST - 1]}…"


def accuracy_against_latency(
    points: Sequence[Point], score: str, title: str, note: str = ""
) -> Figure | None:
    """Score over latency on a logarithmic axis, with the spread of both.

    Args:
        points: The rows.
        score: Label of the vertical axis, for example ``'box AP on shapes'``.
        title: Heading: what was timed.
        note: Small print below.
    """
    if not points:
        return None
    figure, axes = _figure(7.2, 4.8, title, note)
    groups: dict[str, list[Point]] = {}
    for point in sorted(points, key=lambda p: p.latency[1]):
        groups.setdefault(point.family, []).append(point)
    styles = {family: family_style(family) for family in groups}
    for family, group in groups.items():
        color, marker = styles[family]
        xs, ys = [1e3 * p.latency[1] for p in group], [p.score[1] for p in group]
        across, along = (
            _arms([[1e3 * v for v in p.latency] for p in group]),
            _arms([p.score for p in group]),
        )
        if ys == sorted(ys):  # else they are no series of sizes
            axes.plot(xs, ys, color=color, alpha=0.35, linewidth=1.2, zorder=2)
        axes.errorbar(
            xs, ys, along, across, fmt=marker, color=color, markersize=6.5, markeredgecolor="white",
            markeredgewidth=0.7, elinewidth=1, capsize=2.5, zorder=3, label=family,
        )  # fmt: skip
    if front := sorted((1e3 * p.latency[1], p.score[1]) for p in points if p.front):
        axes.step(*zip(*front, strict=True), where="post", color=FAINT, linewidth=1, zorder=1)
    axes.set(xlabel="latency, ms (log scale)", ylabel=score)
    _log_axis(axes.xaxis, [1e3 * v for p in points for v in p.latency], 0.25)
    low, high = (pick(v for p in points for v in p.score) for pick in (min, max))
    margin = 0.12 * (high - low) or max(abs(high), 1) * 0.05  # room for labels
    axes.set_ylim(low - margin, high + margin)
    if len(groups) > 1:
        handles = [
            Line2D([], [], color=color, marker=marker, label=family, markersize=5.5)
            for family, (color, marker) in styles.items()
        ]
        _legend(axes, handles)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    label_points(
        axes,
        [p.label for p in points],
        [1e3 * p.latency[1] for p in points],
        [p.score[1] for p in points],
        [styles[p.family][0] for p in points],
        [spot for p in points for spot in _along_bars(p)],
    )
    return figure


def _along_bars(point: Point) -> list[tuple[float, float]]:
    """Spots of a point's two bars, in milliseconds and score."""
    low, x, high = (1e3 * v for v in point.latency)
    bottom, y, top = point.score
    shares = [k / 8 for k in range(9)]
    across = [(low + (high - low) * share, y) for share in shares] if high > low else []
    return across + [(x, bottom + (top - bottom) * share) for share in shares if top > bottom]


def published_accuracy(report: Mapping[str, Any], size: list[int], batch: int) -> Figure | None:
    """ImageNet-1K accuracy, as the papers give it, against the latency of backbones."""
    found = []
    for row, case in _cases(report, size, batch, "inference"):
        accuracy = published_top1(row.get("name", "")) if not row.get("whole") else None
        if accuracy is not None:
            found.append((row, case["inference"], accuracy))
    options = [row["options"] for row, *_ in found]
    alike = [o for o in (options or [[]])[0] if all(o in others for others in options)]
    points = []
    for row, times, accuracy in found:
        own = ",".join(o for o in row["options"] if o not in alike)
        latency = times["p10"], times["median"], times["p90"]
        label = f"{row['name']}:{own}" if own else row["name"]
        points.append(Point(label, row["family"], latency, (accuracy,) * 3))
    of_all = f"All rows: {', '.join(alike)}. " if alike else ""
    return accuracy_against_latency(
        points,
        "ImageNet-1K top-1 in %, published, at 224x224",
        f"Accuracy against latency, {case_name(size, batch)}",
        f"{summary(report['environment'])}. {of_all}Bars: 10th to 90th percentile.",
    )


def published_top1(name: str) -> float | None:
    """Published ImageNet-1K accuracy of a backbone by its name, in percent, if it is known."""
    family, _, arch = name.removeprefix("timm/").partition("_")
    known = families().get(family)
    return known.variants[arch].top1 if known and arch in known.variants else None


def latency_against_pixels(report: Mapping[str, Any], batch: int) -> Figure | None:
    """Latency over pixels on logarithmic axes, with the line and exponent fitted to it."""
    fits = [fit for fit in report["growth"] if fit["batch"] == batch]
    if not fits:
        return None
    rows = {row["row"]: row for row in report["rows"]}
    figure, axes = _figure(
        7.2,
        max(4.4, 0.24 * len(fits) + 1.6),
        f"Latency against resolution, batch {batch}",
        f"{summary(report['environment'])}. Bars: p10 to p90; lines: latency ~ pixels^e.",
    )
    ends, everything, pixels = [], [], set()
    lines = Counter[str]()
    for fit in fits:
        row = rows[fit["row"]]
        color, marker = family_style(row.get("family"))
        cases = [c for c in row["cases"] if c["batch"] == batch and c["inference"]]
        found = sorted((c["size"][0] * c["size"][1], c["inference"]) for c in cases)
        xs = [size for size, _ in found]
        times = [[1e3 * t[q] for q in ("p10", "median", "p90")] for _, t in found]
        ys = [middle for _, middle, _ in times]
        slope = fit["exponent"]
        level = sum(math.log(y) - slope * math.log(x) for x, y in zip(xs, ys, strict=True))
        line = [math.exp(level / len(xs)) * x**slope for x in (xs[0], xs[-1])]
        style = ("-", "--", ":", "-.")[lines[color] % 4]
        lines[color] += 1
        axes.plot((xs[0], xs[-1]), line, color=color, linestyle=style, linewidth=1.3, alpha=0.7)
        axes.errorbar(
            xs, ys, yerr=_arms(times), fmt=marker, color=color, markersize=5.5, capsize=2.5,
            markeredgecolor="white", markeredgewidth=0.6, elinewidth=1,
        )  # fmt: skip
        label = f"{short_label(row)}  e = {slope:.2f}"
        handle = Line2D(
            [], [], color=color, linestyle=style, marker=marker, markersize=5.5, label=label
        )  # fmt: skip
        ends.append((line[1], handle))
        everything += [v for time in times for v in time]
        pixels |= set(xs)
    ends.sort(key=lambda end: -end[0])  # as the lines end, from above
    _legend(axes, [handle for _, handle in ends])
    axes.set(xlabel="image, pixels (log scale)", ylabel="latency, ms (log scale)")
    _log_axis(axes.yaxis, everything, 0.06)
    ticks = sorted(pixels)
    axes.set_xscale("log")
    axes.set_xlim(ticks[0] / 1.15, ticks[-1] * 1.15)
    names = {c[0][0] * c[0][1]: f"{c[0][0]}x{c[0][1]}" for c in report["cases"]}
    axes.xaxis.set(major_locator=FixedLocator(ticks), minor_locator=NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: names.get(round(x), "")))
    return figure


def time_by_stage(report: Mapping[str, Any], size: list[int], batch: int) -> Figure | None:
    """Bars of the time of each row, split by stage or part."""
    found = list(_cases(report, size, batch, "stages"))
    if not found:
        return None
    found.sort(key=lambda pair: pair[1]["stages"]["median"])
    figure, axes = _bars(
        found,
        f"Time by stage, {case_name(size, batch)}",
        f"{summary(report['environment'])}. Medians; line: 10th to 90th percentile of the sum.",
    )
    names = list(dict.fromkeys(name for _, case in found for name in case["stages"]["parts"]))
    names.sort(key=_part_order)
    lengths = [sum(case["stages"]["parts"].values()) * 1e3 for _, case in found]
    starts = [0.0] * len(found)
    for k, name in enumerate(names):
        widths = [1e3 * case["stages"]["parts"].get(name, 0.0) for _, case in found]
        color = part_color(name, k)
        bars = axes.barh(range(len(found)), widths, 0.66, starts, color=color, label=name)
        shares = [
            f"{100 * width / length:.0f}%" if width > 0.09 * max(lengths) else ""
            for width, length in zip(widths, lengths, strict=True)
        ]
        ink = "white" if _is_dark(color) else TEXT
        axes.bar_label(bars, shares, label_type="center", fontsize=7.5, color=ink)
        starts = [start + width for start, width in zip(starts, widths, strict=True)]
    spreads = [[t["p10"], t["median"], t["p90"]] for t in (case["stages"] for _, case in found)]
    arms = [[1e3 * v for v in arm] for arm in _arms(spreads)]
    axes.errorbar(
        starts, range(len(found)), xerr=arms, fmt="none", ecolor=TEXT, elinewidth=1, capsize=2.5
    )
    axes.set_xlabel("latency, ms")
    _legend_below(axes)
    return figure


def memory(report: Mapping[str, Any], size: list[int], batch: int) -> Figure | None:
    """Bars of the peak memory of inference and of a training step."""
    found = [pair for pair in _cases(report, size, batch) if pair[1]["memory"]]
    if not found:
        return None

    def peak(case: Mapping[str, Any], what: str) -> float:
        return case["memory"].get(what, {}).get("peak", 0) / MIB

    found.sort(key=lambda pair: peak(pair[1], "inference"))
    methods = {m["method"] for _, case in found for m in case["memory"].values() if "method" in m}
    figure, axes = _bars(
        found,
        f"Peak memory, {case_name(size, batch)}",
        f"{summary(report['environment'])}. Counted by: {', '.join(sorted(methods)) or 'unknown'}.",
    )
    for what, shift, alpha in (("inference", 0.19, 0.45), ("training", -0.19, 1.0)):
        values = {i: peak(case, what) for i, (_, case) in enumerate(found) if peak(case, what)}
        colors = [family_style(found[i][0].get("family"))[0] for i in values]
        at = [i + shift for i in values]
        bars = axes.barh(at, list(values.values()), 0.36, color=colors, alpha=alpha, linewidth=0)
        axes.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=7.5, color=TEXT)
    for what, alpha in (("inference", 0.45), ("training step", 1.0)):
        axes.barh(0, 0, color=FAINT, alpha=alpha, label=what)
    axes.margins(x=0.1)
    axes.set_xlabel("peak memory, MiB")
    _legend_below(axes)
    return figure


def plots_of(report: Mapping[str, Any]) -> dict[str, Figure]:
    """All plots that a report has data for, by a name for files."""
    made: dict[str, Figure | None] = {}
    for size, batch in report["cases"]:
        where = f"{size[0]}x{size[1]}_batch{batch}"
        made[f"accuracy_{where}"] = published_accuracy(report, size, batch)
        made[f"stages_{where}"] = time_by_stage(report, size, batch)
        made[f"memory_{where}"] = memory(report, size, batch)
    for batch in dict.fromkeys(batch for _, batch in report["cases"]):
        made[f"growth_batch{batch}"] = latency_against_pixels(report, batch)
    return {name: figure for name, figure in made.items() if figure is not None}


def save_plots(plots: Mapping[str, Figure], stem: str | Path) -> list[Path]:
    """Write each plot to ``<stem>_<name>.png`` and ``.svg``; returns the files."""
    stem = Path(stem)
    return [
        save_figure(figure, stem.with_name(f"{stem.name}_{name}.{each}"), dpi=DPI)
        for name, figure in plots.items()
        for each in ("png", "svg")
    ]


def _cases(report: Mapping[str, Any], size: list[int], batch: int, what: str | None = None):
    for row, case in rows_in_order(report, size, batch):
        if what is None or case[what]:
            yield row, case


def _figure(width: float, height: float, title: str, note: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, fontsize=11, loc="left", color=TEXT, pad=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.22, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9, color=FAINT)
    if note:
        note = textwrap.fill(note, int(16 * width))  # of so small a print
        figure.supxlabel(note, fontsize=7.5, color=FAINT, x=0.01, ha="left")
    return figure, axes


def _bars(found: Sequence, title: str, note: str) -> tuple[Figure, Axes]:
    figure, axes = _figure(7.2, 0.42 * len(found) + 1.9, title, note)
    axes.grid(axis="y", visible=False)
    axes.set_yticks(range(len(found)), [short_label(row) for row, _ in found])
    axes.set_ylim(-0.6, len(found) - 0.4)
    return figure, axes


def _arms(values: Sequence[Sequence[float]]) -> list[list[float]]:
    """Lengths of error bars below and above, of (low, middle, high)."""
    return [[max(m - low, 0) for low, m, _ in values], [max(high - m, 0) for _, m, high in values]]


def _log_axis(axis: Any, values: Sequence[float], margin: float) -> None:
    """Make an axis logarithmic around some values, with plain numbers at 1, 2 and 5."""
    low, high = min(values), max(values)
    room = max(math.log10(high / low) * margin, 0.06)
    limits = low / 10**room, high * 10**room
    axis.axes.set(**{f"{axis.axis_name}scale": "log", f"{axis.axis_name}lim": limits})
    span = limits[1] / limits[0]
    steps = (1, 2, 5) if span > 20 else (1, 2, 3, 5, 7) if span > 4 else (1, 1.5, *range(2, 10))
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.4g}"))
    axis.set_minor_formatter(NullFormatter())


def _legend(axes: Axes, handles: Sequence[Line2D]) -> None:
    axes.figure.legend(
        handles=handles,
        loc="outside right upper",
        frameon=False,
        fontsize=8,
        labelspacing=0.5,
        handlelength=2.8,
    )


def _legend_below(axes: Axes) -> None:
    figure: Any = axes.figure
    axes.legend(
        loc="upper left", bbox_to_anchor=(0, -0.42 / (figure.get_figheight() - 1.5)),
        ncols=6, frameon=False, fontsize=8, borderaxespad=0, handlelength=1.2,
    )  # fmt: skip


def _part_order(name: str) -> int:
    order = ("stem", "up to stage 0", "stage 0", "stage 1", "stage 2", "stage 3", "backbone",
             "neck", "head")  # fmt: skip
    return order.index(name) if name in order else len(order)


def _is_dark(color: str) -> bool:
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return 0.299 * red + 0.587 * green + 0.114 * blue < 140
