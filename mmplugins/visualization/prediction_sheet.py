"""A sheet of pictures: on the left what is there, on the right what the detector found."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from mmengine.dataset import pseudo_collate
from torch import nn

from .figures import save_figure

PAIRS_PER_ROW = 2
CELL_INCHES = 3.0


@dataclass
class Boxes:
    """Boxes in one picture.

    Attributes:
        corners: ``float[N, 4]``, ``x0, y0, x1, y1`` in pixels of the original picture.
        labels: ``int[N]``, indices of classes.
        scores: ``float[N]`` in 0..1, or None for ground truth.
    """

    corners: np.ndarray
    labels: np.ndarray
    scores: np.ndarray | None = None

    def above(self, threshold: float) -> Boxes:
        """Those whose score is at least ``threshold``."""
        if self.scores is None:
            return self
        keep = self.scores >= threshold
        return Boxes(self.corners[keep], self.labels[keep], self.scores[keep])


@dataclass
class Example:
    """One picture ``uint8[H, W, 3]`` in RGB, with what is there and what was found."""

    picture: np.ndarray
    truth: Boxes
    found: Boxes


@torch.no_grad()
def detection_examples(model: nn.Module, dataset: Any, count: int) -> list[Example]:
    """Run a detector on pictures spread evenly over a data set.

    Args:
        model: A detector of mmdet, on its device.
        dataset: A test data set of mmdet, with its pipeline.
        count: Number of pictures, or all if there are fewer.
    """
    import mmcv

    model.eval()
    count = min(count, len(dataset))
    examples = []
    for index in np.linspace(0, len(dataset) - 1, count).round().astype(int).tolist():
        info = dataset.get_data_info(index)
        there = [item for item in info["instances"] if not item.get("ignore_flag")]
        found = model.test_step(pseudo_collate([dataset[index]]))[0].pred_instances.cpu().numpy()
        examples.append(
            Example(
                mmcv.imread(info["img_path"], channel_order="rgb"),
                Boxes(
                    np.array([item["bbox"] for item in there], np.float32).reshape(-1, 4),
                    np.array([item["bbox_label"] for item in there], np.int64),
                ),
                Boxes(found.bboxes, found.labels, found.scores),
            )
        )
    return examples


def prediction_sheet(
    examples: Sequence[Example],
    classes: Sequence[str],
    palette: Sequence[tuple[int, int, int]],
    path: str | os.PathLike,
    threshold: float = 0.3,
) -> Path:
    """Draw pairs of ground truth and prediction as a PNG.

    Args:
        examples: What to draw, in this order.
        classes: Names of the classes.
        palette: A colour (RGB, 0..255) for each.
        path: The picture to write.
        threshold: Lowest score that is drawn. Defaults to 0.3.

    Returns:
        ``path``.

    Raises:
        ValueError: If there are no examples.
    """
    if not examples:
        raise ValueError("prediction_sheet got no examples: expected at least one")
    shown = [replace(example, found=example.found.above(threshold)) for example in examples]
    across = min(PAIRS_PER_ROW, len(examples))
    down = -(-len(examples) // across)
    cells = (across * 2, down)
    figure = Figure(
        figsize=(cells[0] * CELL_INCHES, cells[1] * CELL_INCHES + 0.6), layout="constrained"
    )
    grid: list[list[Axes]] = figure.subplots(down, across * 2, squeeze=False).tolist()
    for axes in itertools.chain(*grid):
        axes.set_axis_off()
    for number, example in enumerate(shown):
        row, pair = divmod(number, across)
        left, right = grid[row][2 * pair : 2 * pair + 2]
        if row == 0:
            left.set_title("ground truth", fontsize=10)
            right.set_title(f"prediction (score of at least {threshold:g})", fontsize=10)
        for axes, boxes in ((left, example.truth), (right, example.found)):
            axes.imshow(example.picture, interpolation="bilinear")
            _draw(axes, boxes, palette)
    used = sorted({int(k) for e in shown for k in (*e.truth.labels, *e.found.labels)})
    if used:
        figure.legend(
            handles=[Rectangle((0, 0), 1, 1, color=_colour(palette, k)) for k in used],
            labels=[classes[k] for k in used],
            loc="outside lower center",
            ncols=min(len(used), 3 * across),
            frameon=False,
        )
    return save_figure(figure, path, dpi=110)


def _draw(axes: Axes, boxes: Boxes, palette: Sequence[tuple[int, int, int]]) -> None:
    """Outline boxes, the surest on top; scores stand inside, colours tell the classes."""
    order = range(len(boxes.labels)) if boxes.scores is None else np.argsort(boxes.scores)
    for k in order:
        (x0, y0, x1, y1), colour = boxes.corners[k], _colour(palette, int(boxes.labels[k]))
        for width, edge in ((3.2, "white"), (1.8, colour)):  # a rim that shows on any ground
            axes.add_patch(
                Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, linewidth=width, edgecolor=edge)
            )
        if boxes.scores is not None:
            axes.annotate(
                f"{boxes.scores[k]:.2f}",
                (x0, y0),
                (1.5, -1.5),
                textcoords="offset points",
                va="top",
                fontsize=7,
                color="white",
                bbox=dict(boxstyle="square,pad=0.15", facecolor=colour, edgecolor="none"),
                annotation_clip=True,
            )


def _colour(palette: Sequence[tuple[int, int, int]], label: int) -> tuple[float, ...]:
    return tuple(channel / 255 for channel in palette[int(label) % len(palette)])
