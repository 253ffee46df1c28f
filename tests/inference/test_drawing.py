"""Drawings: all objects, whatever the memory; large pictures reduced."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from mmplugins.inference import Prediction, drawing
from mmplugins.inference.results import encode

SIZE = (80, 120)


@pytest.fixture
def found() -> Prediction:
    masks = np.zeros((3, *SIZE), bool)
    masks[0, 5:30, 5:30] = masks[1, 40:70, 10:50] = masks[2, 10:60, 70:110] = True
    boxes = np.array([[5, 5, 30, 30], [10, 40, 50, 70], [70, 10, 110, 60]], np.float32)
    scores, labels = np.array([0.9, 0.8, 0.7], np.float32), np.array([0, 1, 0])
    return Prediction("a", SIZE, boxes, scores, labels, encode(masks))


def drawer_of(task: str) -> drawing.Drawer:
    return drawing.Drawer(SimpleNamespace(task=task, classes=("a", "b"), palette=()))


@pytest.fixture
def drawer() -> drawing.Drawer:
    return drawer_of("detection")


def test_masks_that_do_not_fit_the_memory_together_are_drawn_one_by_one(found, drawer, monkeypatch):
    grey = np.full((*SIZE, 3), 128, np.uint8)
    held: list[bool] = []
    real = drawer._visualizer.draw_binary_masks
    monkeypatch.setattr(
        drawer._visualizer, "draw_binary_masks", lambda *a, **k: (held.append(True), real(*a, **k))
    )
    monkeypatch.setattr("mmdet.visualization.palette.jitter_color", tuple)  # left to chance else
    monkeypatch.setattr("mmdet.visualization.local_visualizer.jitter_color", tuple)
    drawings = []
    for limit in (drawing._MASKS, 1):
        monkeypatch.setattr(drawing, "_MASKS", limit)
        drawings.append(drawer.draw(grey, found).astype(int))
        for y, x in ((20, 20), (60, 40), (50, 100)):
            assert np.abs(drawings[-1][y, x] - 128).max() > 20
        assert np.abs(drawings[-1][:, 55:65] - 128).max() == 0
    assert held == [True]
    inner = drawings[0][55:68, 15:45] - drawings[1][55:68, 15:45]  # no box, no name, no edge
    assert np.abs(inner).max() <= 1
    np.testing.assert_array_equal(drawer.draw(grey, found[:0]), grey)


def test_large_pictures_are_reduced(found, drawer, monkeypatch):
    monkeypatch.setattr(drawing, "LARGEST", 60)
    drawn = drawer.draw(np.full((*SIZE, 3), 128, np.uint8), found).astype(int)
    assert drawn.shape == (40, 60, 3)
    for y, x in ((10, 10), (30, 20), (25, 50)):
        assert np.abs(drawn[y, x] - 128).max() > 20


def test_label_maps_down_to_one_pixel():
    drawer = drawer_of("segmentation")
    for size in ((1, 1), (1, 40), SIZE):
        labels = np.zeros(size, np.uint8)
        labels[:, size[1] // 2 :] = 1
        drawn = drawer.draw(
            np.full((*size, 3), 128, np.uint8), Prediction("a", size, label_map=labels)
        )
        assert drawn.shape == (*size, 3) and np.abs(drawn.astype(int) - 128).max() > 20


def test_names_of_classes_stand_where_mmseg_puts_them():
    from mmseg.visualization import SegLocalVisualizer

    random = np.random.default_rng(0)
    for _ in range(20):
        mask = (random.random((9, 13)) > random.random()).astype(np.uint8)
        mask[4, 4] = 1
        expected = SegLocalVisualizer._get_center_loc(None, mask)
        np.testing.assert_array_equal(drawing._middle(mask), expected)
