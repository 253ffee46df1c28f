"""Labels of the points of a plot, ranked so that they cover neither each other nor the points."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.transforms import Bbox

GAP = 7.0
"""Nearest distance of a label from its point, in typographic points."""
RINGS = (1.0, 2.0, 3.2, 4.6, 6.2, 8.0)
"""Distances that are tried, in gaps."""
DIRECTIONS = 16


def label_points(
    axes: Axes,
    labels: Sequence[str],
    xs: Sequence[float],
    ys: Sequence[float],
    colors: Sequence[str],
    obstacles: Sequence[tuple[Bbox, float]] = (),
    fontsize: float = 8.0,
) -> list[Bbox]:
    """Write a label near each point: the nearest place that is free, with a line if it is far.

    The axes' limits and the figure's layout must be final.

    Args:
        axes: Where to.
        labels: The texts.
        xs: Their points, in data.
        ys: Their points, in data.
        colors: Of the texts.
        obstacles: What else is drawn: boxes in pixels, and how much it matters to cover them;
            another label matters 1.
        fontsize: In typographic points.

    Returns:
        The boxes of the labels, in pixels.
    """
    figure = axes.figure
    renderer = FigureCanvasAgg(figure).get_renderer()
    unit = figure.dpi / 72
    points = axes.transData.transform(list(zip(xs, ys, strict=True)))
    frame = axes.get_window_extent(renderer)
    dots = [(around(x, y, 4 * unit), 1.0) for x, y in points] + list(obstacles)
    taken: list[Bbox] = []
    # Crowded points choose first, as they have the fewest free places.
    crowd = [sum(math.dist(p, q) < 60 * unit for q in points) for p in points]
    for i in sorted(range(len(labels)), key=lambda i: -crowd[i]):
        text = axes.annotate(
            labels[i], (xs[i], ys[i]), (0, 0), textcoords="offset points", fontsize=fontsize,
            color=colors[i], ha="center", va="center", annotation_clip=False,
        )  # fmt: skip
        extent = text.get_window_extent(renderer)
        width, height = extent.width, extent.height
        best = None
        for ring in RINGS:
            for dx, dy in _offsets(ring * GAP * unit, width, height):
                x, y = points[i] + (dx, dy)
                box = Bbox.from_bounds(x - width / 2, y - height / 2, width, height)
                cost = _outside(box, frame) + sum(_overlap(box, each) for each in taken)
                cost += sum(weight * _overlap(box, dot) for dot, weight in dots)
                if best is None or cost < 0.9 * best[0]:  # further away only if worth it
                    best = cost, ring, dx, dy, box
            if best[0] == 0:
                break
        _, ring, dx, dy, box = best
        text.xyann = dx / unit, dy / unit
        taken.append(box)
        if ring > RINGS[1]:
            _line(axes, points[i], box, colors[i])
    return taken


def _offsets(distance: float, width: float, height: float) -> list[tuple[float, float]]:
    """Centres of a box around a point whose border is about so far from it, right first."""
    angles = sorted(
        (2 * math.pi * k / DIRECTIONS for k in range(DIRECTIONS)),
        key=lambda a: min(a, 2 * math.pi - a),
    )
    return [
        ((distance + width / 2) * math.cos(a), (distance + height / 2) * math.sin(a))
        for a in angles
    ]


def _line(axes: Axes, point: Sequence[float], box: Bbox, color: str) -> None:
    end = min(max(point[0], box.x0), box.x1), min(max(point[1], box.y0), box.y1)
    ends = axes.transData.inverted().transform([point, end])
    (line,) = axes.plot(*zip(*ends, strict=True), color=color, linewidth=0.6, alpha=0.7, zorder=1)
    line.set_in_layout(False)


def around(x: float, y: float, radius: float) -> Bbox:
    """A square box around a point."""
    return Bbox.from_extents(x - radius, y - radius, x + radius, y + radius)


def _overlap(a: Bbox, b: Bbox) -> float:
    width = min(a.x1, b.x1) - max(a.x0, b.x0)
    height = min(a.y1, b.y1) - max(a.y0, b.y0)
    return max(width, 0) * max(height, 0)


def _outside(box: Bbox, frame: Bbox) -> float:
    return box.width * box.height - _overlap(box, frame)


def spread_out(places: Sequence[float], gap: float) -> list[float]:
    """Places moved along a line by as little as needed to be ``gap`` apart, in the same order."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    groups: list[list[int]] = []
    centres: list[float] = []
    for i in order:
        groups.append([i])
        centres.append(places[i])
        # A group that touches the one below joins it, and both share their middle.
        while len(groups) > 1:
            reach = gap * (len(groups[-1]) + len(groups[-2])) / 2
            if centres[-1] - centres[-2] >= reach - 1e-9:
                break
            last, centre = groups.pop(), centres.pop()
            total = len(last) + len(groups[-1])
            centres[-1] = (centre * len(last) + centres[-1] * len(groups[-1])) / total
            groups[-1] += last
    moved = [0.0] * len(places)
    for group, centre in zip(groups, centres, strict=True):
        for k, i in enumerate(group):
            moved[i] = centre + gap * (k - (len(group) - 1) / 2)
    return moved
