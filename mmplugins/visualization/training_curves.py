"""How a training went: its loss and its validation metrics over the iterations."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from .figures import save_figure

RUN = ".run"
"""File in the log folder of a run with its number in the work dir."""

_HEADLINE = re.compile(r"(bbox|segm)_mAP(_50)?$|mIoU$")


@dataclass
class Curves:
    """What mmengine's local visualisation backend has kept of a training.

    Attributes:
        loss: Pairs of iteration and smoothed training loss.
        metrics: For each validation metric, pairs of iteration and value.
    """

    loss: list[tuple[int, float]] = field(default_factory=list)
    metrics: dict[str, list[tuple[int, float]]] = field(default_factory=dict)


def read_curves(work_dir: str | os.PathLike) -> Curves:
    """Read all runs of a work dir, the first and those that resumed it, in the order of steps.

    Names of folders are times, which a clock that is set back turns round. A run that begins at a
    later step went on from the one before.

    Raises:
        FileNotFoundError: If there is no ``*/vis_data/scalars.json`` with a training in it.
        ValueError: If such a file holds something else.
    """
    curves = Curves()
    for _, records in _runs(Path(work_dir)):
        iteration = 0
        for record in records:
            if "loss" in record:
                iteration = int(record["iter"])
                _append(curves.loss, iteration, record["loss"])
                continue
            # Filed under the iteration or, by mmengine's default, under the epoch.
            at = max(int(record.get("step", 0)), iteration)
            for name, value in record.items():
                if _HEADLINE.search(name):
                    _append(curves.metrics.setdefault(name, []), at, value)
    if not curves.loss:
        raise FileNotFoundError(
            f"no training log below {work_dir}: expected <time>/vis_data/scalars.json, which the "
            "LocalVisBackend of the config's visualizer writes"
        )
    return curves


def _runs(work_dir: Path) -> list[tuple[Path, list[dict[str, Any]]]]:
    """Logs of the runs, by number (see :data:`RUN`), else by their first step, then by name."""
    runs = [(path, list(_records(path))) for path in work_dir.glob("*/vis_data/scalars.json")]

    def order(run: tuple[Path, list[dict[str, Any]]]) -> tuple[int, int, str]:
        path, records = run
        first = next((int(one["iter"]) for one in records if "loss" in one), 0)
        return run_number(path.parents[1]), first, str(path)

    return sorted(runs, key=order)


def run_number(folder: Path) -> int:
    """Which run of its work dir a log folder is of, from 1; 0 if it does not say."""
    try:
        return int((folder / RUN).read_text()[:20])
    except (OSError, ValueError):
        return 0


def _records(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a log; the last may have been cut off when the training was stopped.

    Raises:
        ValueError: If another line is no JSON.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            yield json.loads(line)
        except json.JSONDecodeError as error:
            if number < len(lines):
                raise ValueError(f"{path}, line {number}: not JSON ({error})") from error


def _append(points: list[tuple[int, float]], at: int, value: float) -> None:
    """Add a point; a resumed run repeats what came after its checkpoint, and replaces it."""
    while points and points[-1][0] >= at:
        points.pop()
    points.append((at, value))


def training_curves(work_dir: str | os.PathLike, path: str | os.PathLike) -> Path:
    """Plot the loss and the headline metrics (AP, AP50, mIoU) of a work dir as a PNG.

    Args:
        work_dir: Where the training was.
        path: The picture to write.

    Returns:
        ``path``.

    Raises:
        FileNotFoundError: If the work dir holds no training log.
    """
    curves = read_curves(work_dir)
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    loss_axes, metric_axes = figure.subplots(1, 2, sharex=True)
    loss_axes.plot(*zip(*curves.loss, strict=True), color="tab:red")
    loss_axes.set(title="Training loss", xlabel="iteration", ylim=(0, None))
    for name, points in curves.metrics.items():
        label = name.rsplit("/", 1)[-1].replace("_mAP_50", " AP50").replace("_mAP", " AP")
        metric_axes.plot(*zip(*points, strict=True), marker="o", markersize=4, label=label)
        at, value = points[-1]
        metric_axes.annotate(
            f"{value:.3g}", (at, value), (4, 4), textcoords="offset points", fontsize=9
        )
    metric_axes.set(title="Validation", xlabel="iteration", ylim=(0, None))
    if curves.metrics:
        metric_axes.legend(loc="upper left", frameon=False)
    for axes in (loss_axes, metric_axes):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    return save_figure(figure, path, dpi=130)
