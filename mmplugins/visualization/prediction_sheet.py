"""A sheet of test pictures: on the left what is there, on the right what the detector found.

mmdet's visualiser draws the pairs. What it leaves to others is done here: which pictures, all of
them in one file, and small ones enlarged, whose objects its labels would cover.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from mmengine.dataset import pseudo_collate
from mmengine.structures import BaseDataElement, InstanceData
from torch import nn

from .figures import save_figure

PAIRS_PER_ROW = 2
PAIR_INCHES = (6.0, 3.1)
LEAST_SIDE = 512
"""Pixels of the shorter side of a picture, below which it is enlarged by a whole number."""


@torch.no_grad()
def prediction_sheet(
    model: nn.Module,
    dataset: Any,
    path: str | os.PathLike,
    count: int = 8,
    threshold: float = 0.3,
) -> Path:
    """Run a detector on pictures spread evenly over a data set, and draw them as a PNG.

    Args:
        model: A detector of mmdet, on its device; it is brought into eval mode.
        dataset: A test data set of mmdet, with its pipeline.
        path: The picture to write.
        count: Number of pictures, or all if there are fewer. Defaults to 8.
        threshold: Lowest score that is drawn. Defaults to 0.3.

    Returns:
        ``path``.

    Raises:
        ValueError: If that makes no picture.
    """
    from mmdet.visualization import DetLocalVisualizer

    count = min(count, len(dataset))
    if count < 1:
        raise ValueError(f"a sheet of {count} pictures: expected at least one")
    visualizer = DetLocalVisualizer()
    visualizer.dataset_meta = dataset.metainfo
    model.eval()
    across = min(PAIRS_PER_ROW, count)
    down = -(-count // across)
    size = (across * PAIR_INCHES[0], down * PAIR_INCHES[1])
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(down, across, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes in grid[0]:
        axes.set_title(f"ground truth | prediction (score of at least {threshold:g})", fontsize=10)
    chosen = np.linspace(0, len(dataset) - 1, count).round().astype(int).tolist()
    for axes, index in zip(grid.flat, chosen, strict=False):
        found = model.test_step(pseudo_collate([dataset[index]]))[0].cpu()
        picture, sample = _pair(dataset.get_data_info(index), found)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*out of bounds")  # boxes that end at the edge
            visualizer.add_datasample("pair", picture, sample, pred_score_thr=threshold)
        axes.imshow(visualizer.get_image())
    return save_figure(figure, path, dpi=150)


def _pair(info: dict[str, Any], found: BaseDataElement) -> tuple[np.ndarray, BaseDataElement]:
    """A picture ``uint8[H, W, 3]`` in RGB, and its boxes: the true, no crowds, and those found."""
    import mmcv
    from mmdet.structures import DetDataSample

    picture = mmcv.imread(info["img_path"], channel_order="rgb")
    factor = -(-LEAST_SIDE // min(picture.shape[:2]))
    height, width = (factor * side for side in picture.shape[:2])
    there = [item for item in info["instances"] if not item.get("ignore_flag")]
    truth = InstanceData(
        bboxes=factor * torch.tensor([item["bbox"] for item in there]).reshape(-1, 4),
        labels=torch.tensor([item["bbox_label"] for item in there], dtype=torch.long),
    )
    named = {name: found.pred_instances[name] for name in ("bboxes", "labels", "scores")}
    named["bboxes"] = factor * named["bboxes"]
    sample = DetDataSample(gt_instances=truth, pred_instances=InstanceData(**named))
    return mmcv.imresize(picture, (width, height)), sample
