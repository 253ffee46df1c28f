"""The sheet shows what is there on the left and what was found on the right."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import nn

from mmplugins.visualization import prediction_sheet

RED, BLUE, GREEN = (230, 20, 20), (20, 20, 230), (20, 200, 20)


class Detector(nn.Module):
    """Finds class 1 in the middle of every picture, and is less sure of class 2 around it."""

    def test_step(self, data):
        found = InstanceData(
            bboxes=torch.tensor([[16.0, 16, 48, 48], [4.0, 4, 60, 60]]),
            labels=torch.tensor([1, 2]),
            scores=torch.tensor([0.75, 0.25]),
            masks=torch.zeros(2, 64, 64, dtype=torch.bool),
        )
        return [DetDataSample(pred_instances=found) for _ in data["inputs"]]


class Pictures:
    """A data set of pictures that differ in their grey; class 0 is in all but the first."""

    metainfo = dict(classes=("a", "b", "c"), palette=[RED, BLUE, GREEN])

    def __init__(self, folder, count=5):
        self.paths = [str(folder / f"{k}.png") for k in range(count)]
        self.asked = []
        for k, path in enumerate(self.paths):
            cv2.imwrite(path, np.full((64, 64, 3), 100 + 10 * k, np.uint8))

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        return dict(inputs=torch.zeros(3, 64, 64))

    def get_data_info(self, index):
        self.asked.append(index)
        crowd = dict(bbox=[0, 0, 30, 30], bbox_label=2, ignore_flag=1)
        thing = dict(bbox=[8, 8, 56, 56], bbox_label=0, ignore_flag=0)
        return dict(img_path=self.paths[index], instances=[crowd, thing][: 1 + (index > 0)])


def share(region: np.ndarray, colour) -> float:
    """Which part of a region is of about this hue; boxes are drawn a little see-through."""
    likely = region.astype(int)
    others = [k for k in range(3) if k != int(np.argmax(colour))]
    return float((likely[..., np.argmax(colour)] - likely[..., others].max(-1) > 80).mean())


def test_truth_is_left_and_what_is_surely_found_right(tmp_path):
    model = Detector().train()
    path = prediction_sheet(model, Pictures(tmp_path, 2), tmp_path / "sheet.png", 2)
    sheet = cv2.imread(str(path))[..., ::-1]
    first, second = np.array_split(sheet, 2, axis=1)
    for pair, red in ((first, False), (second, True)):  # of the first, a crowd is all that is there
        left, right = np.array_split(pair, 2, axis=1)
        assert (share(left, RED) > 0.003) is red and share(left, BLUE) == 0
        assert share(right, BLUE) > 0.003 and share(right, RED) == 0
        assert share(pair, GREEN) == 0  # a crowd, and a score of 0.25
    assert not model.training


def test_pictures_are_spread_over_the_data(tmp_path):
    data = Pictures(tmp_path)
    for count, chosen in ((3, [0, 2, 4]), (9, [0, 1, 2, 3, 4]), (1, [0])):
        data.asked.clear()
        prediction_sheet(Detector(), data, tmp_path / f"{count}.png", count)
        assert data.asked == chosen


@pytest.mark.parametrize(("pictures", "count"), [(5, 0), (0, 3)])
def test_no_pictures(tmp_path, pictures, count):
    with pytest.raises(ValueError, match="a sheet of 0 pictures: expected at least one"):
        prediction_sheet(Detector(), Pictures(tmp_path, pictures), tmp_path / "sheet.png", count)
    assert not (tmp_path / "sheet.png").exists()
