"""The sheet shows boxes where they are, in the colour of their class."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import nn

from mmplugins.visualization import Boxes, Example, detection_examples, prediction_sheet

RED, BLUE = (230, 20, 20), (20, 20, 230)


def boxes(corners, labels, scores=None):
    scores = None if scores is None else np.array(scores)
    return Boxes(np.array(corners, np.float32).reshape(-1, 4), np.array(labels, int), scores)


def share(region: np.ndarray, colour) -> float:
    return float((np.abs(region.astype(int) - colour).max(-1) < 30).mean())


def test_sheet_draws_truth_left_and_sure_predictions_right(tmp_path):
    grey = np.full((64, 64, 3), 128, np.uint8)
    example = Example(
        grey,
        boxes([[8, 8, 56, 56]], [0]),
        boxes([[8, 8, 56, 56], [20, 20, 40, 40]], [1, 0], [0.9, 0.1]),
    )
    path = prediction_sheet([example], ["a", "b"], [RED, BLUE], tmp_path / "sheet.png")
    sheet = cv2.imread(str(path))[..., ::-1]
    top = sheet[: int(sheet.shape[0] * 0.85)]  # above the legend
    left, right = np.array_split(top, 2, axis=1)
    assert share(left, RED) > 0.003 and share(left, BLUE) == 0
    assert share(right, BLUE) > 0.003 and share(right, RED) == 0  # 0.1 is below the threshold


def test_legend_names_what_is_drawn(tmp_path, monkeypatch):
    """Not what was found with too low a score; and a sheet without any box has none."""
    figures = []

    def keep(figure, path, **_):
        figures.append(figure)
        Path(path).touch()

    monkeypatch.setattr(Figure, "savefig", keep)
    grey, nothing = np.full((64, 64, 3), 128, np.uint8), boxes([], [])
    found = boxes([[8, 8, 56, 56]] * 3, [0, 1, 2], [0.9, 0.1, 0.3])
    for example in (Example(grey, nothing, found), Example(grey, nothing, boxes([], [], []))):
        prediction_sheet([example], "abc", [RED, BLUE, RED], tmp_path / "sheet.png")
    named, bare = ([t.get_text() for f in each.legends for t in f.texts] for each in figures)
    assert (named, bare) == (["a", "c"], [])


def test_no_examples(tmp_path):
    with pytest.raises(ValueError, match="no examples"):
        prediction_sheet([], [], [], tmp_path / "sheet.png")


class OneBox(nn.Module):
    """Finds class 1 in the middle of every picture."""

    def test_step(self, data):
        found = InstanceData(
            bboxes=torch.tensor([[16.0, 16, 48, 48]]),
            labels=torch.tensor([1]),
            scores=torch.tensor([0.75]),
        )
        return [DetDataSample(pred_instances=found) for _ in data["inputs"]]


class FivePictures:
    """A data set of pictures that differ in their grey."""

    def __init__(self, folder):
        self.paths = [str(folder / f"{k}.png") for k in range(5)]
        for k, path in enumerate(self.paths):
            cv2.imwrite(path, np.full((64, 64, 3), 10 * k, np.uint8))

    def __len__(self):
        return 5

    def __getitem__(self, index):
        return dict(inputs=torch.zeros(3, 64, 64))

    def get_data_info(self, index):
        crowd = dict(bbox=[0, 0, 9, 9], bbox_label=0, ignore_flag=1)
        thing = dict(bbox=[1, 2, 3, 4], bbox_label=index % 2, ignore_flag=0)
        return dict(img_path=self.paths[index], instances=[crowd, thing][: 1 + (index > 0)])


def test_examples_are_spread_and_leave_crowds_out(tmp_path):
    examples = detection_examples(OneBox(), FivePictures(tmp_path), 3)
    assert [int(e.picture[0, 0, 0]) for e in examples] == [0, 20, 40]
    assert [e.truth.corners.tolist() for e in examples] == [[], [[1, 2, 3, 4]], [[1, 2, 3, 4]]]
    assert all(e.found.labels.tolist() == [1] and e.found.scores == [0.75] for e in examples)
    assert len(detection_examples(OneBox(), FivePictures(tmp_path), 9)) == 5
