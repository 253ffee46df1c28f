"""Labels of a plot, placed so that they cover neither each other nor the points."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from adjustText import adjust_text
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg


def label_points(
    axes: Axes,
    labels: Sequence[str],
    xs: Sequence[float],
    ys: Sequence[float],
    colors: Sequence[str],
    obstacles: Sequence[tuple[float, float]] = (),
) -> None:
    """Write a label near each point, with a line to it where it had to move.

    The axes' limits and the figure's layout must be final.

    Args:
        axes: Where to.
        labels: The texts.
        xs: Their points, in data.
        ys: Their points, in data.
        colors: Of the texts.
        obstacles: Further points, in data, that are not to be covered, such as those of bars.
    """
    FigureCanvasAgg(axes.figure)
    # Labels of one height can stay on each other in a crowd: each starts a little higher or lower.
    bottom, top = axes.get_ylim()
    step = 0.01 * (top - bottom)
    texts = [
        axes.text(
            x, y + (k % 3 - 1) * step, label, fontsize=8, color=color, ha="center", va="center"
        )
        for k, (label, x, y, color) in enumerate(zip(labels, xs, ys, colors, strict=True))
    ]
    before = np.random.get_state()
    np.random.seed(0)  # the same points, the same picture
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            adjust_text(
                texts, *map(list, zip(*zip(xs, ys, strict=True), *obstacles, strict=True)),
                target_x=list(xs), target_y=list(ys), ax=axes, expand=(1.1, 1.3),
                force_text=(0.3, 1.0), force_static=(0.2, 0.4), iter_lim=1000,
                arrowprops=dict(arrowstyle="-", color="#888888", linewidth=0.6),
            )  # fmt: skip
    finally:
        np.random.set_state(before)
