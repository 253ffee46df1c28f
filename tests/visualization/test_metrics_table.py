"""Test results as a table."""

from __future__ import annotations

import io

import numpy as np
from rich.console import Console

from mmplugins.visualization import metrics_table


def shown(metrics) -> list[list[str]]:
    out = io.StringIO()
    Console(file=out, width=100).print(metrics_table(metrics))
    rows = [line for line in out.getvalue().splitlines() if "┃" in line or "│" in line]
    return [[cell.strip() for cell in row.replace("┃", "│").strip("│").split("│")] for row in rows]


def test_coco_has_one_row_per_kind():
    metrics = {
        "coco/bbox_mAP": 0.3621,
        "coco/bbox_mAP_50": 0.562,
        "coco/bbox_mAP_75": 0.382,
        "coco/bbox_mAP_s": -1.0,
        "coco/bbox_mAP_m": 0.391,
        "coco/bbox_mAP_l": float("nan"),
        "coco/segm_mAP": 0.346,
        "coco/bbox_mAP_copypaste": "0.362 0.562",
    }
    assert shown(metrics) == [
        ["COCO", "AP", "AP50", "AP75", "APs", "APm", "APl"],
        ["bbox", "0.362", "0.562", "0.382", "-", "0.391", "-"],
        ["segm", "0.346", "-", "-", "-", "-", "-"],
    ]


def test_two_sets_are_told_apart():
    rows = shown({"day/bbox_mAP": 0.5, "night/bbox_mAP": 0.25, "night/bbox_mAP_50": 0.4})
    assert [row[:3] for row in rows[1:]] == [["day bbox", "0.500", "-"], ["night bbox", "0.250",
                                                                          "0.400"]]  # fmt: skip


def test_other_metrics_have_one_row_each():
    rows = shown({"aAcc": 78.12, "mIoU": np.float32(37.2)})
    assert rows == [["metric", "value"], ["aAcc", "78.12"], ["mIoU", "37.2"]]


def test_a_detector_that_finds_nothing():
    assert shown({}) == [["metric", "value"], ["none: nothing was found", "-"]]
