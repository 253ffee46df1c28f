"""Reading and plotting the log of a training."""

from __future__ import annotations

import json

import cv2
import pytest

from mmplugins.visualization.training_curves import read_curves, training_curves


def log(work_dir, time, records):
    folder = work_dir / time / "vis_data"
    folder.mkdir(parents=True)
    (folder / "scalars.json").write_text("".join(json.dumps(r) + "\n" for r in records))


@pytest.fixture
def work_dir(tmp_path):
    """A training of four logged steps that broke off at 30 and went on from a checkpoint at 20."""
    first = [dict(loss=2.0, iter=10, step=10), dict(loss=1.5, iter=20, step=20)]
    first += [{"coco/bbox_mAP": 0.1, "coco/bbox_mAP_50": 0.2, "coco/bbox_mAP_s": 0.0, "step": 20}]
    log(tmp_path, "20260101_000000", [*first, dict(loss=9.0, iter=30, step=30)])
    second = [dict(loss=1.2, iter=30, step=30), dict(loss=1.0, iter=40, step=40)]
    log(tmp_path, "20260101_000100", [*second, {"coco/bbox_mAP": 0.3, "step": 2}])
    log(tmp_path, "20260101_000200", [])  # a test
    return tmp_path


def test_resumed_run_replaces_what_it_repeats(work_dir):
    curves = read_curves(work_dir)
    assert curves.loss == [(10, 2.0), (20, 1.5), (30, 1.2), (40, 1.0)]
    # The second validation was filed under its epoch: it belongs to the last iteration before it.
    assert curves.metrics == {
        "coco/bbox_mAP": [(20, 0.1), (40, 0.3)],
        "coco/bbox_mAP_50": [(20, 0.2)],
    }


def test_a_line_cut_off_by_a_crash_is_passed_by(work_dir):
    whole = read_curves(work_dir)
    path = work_dir / "20260101_000000/vis_data/scalars.json"
    path.write_text(path.read_text() + '{"loss": 7.0, "it')
    assert read_curves(work_dir) == whole
    path.write_text("nonsense\n" + path.read_text())
    with pytest.raises(ValueError, match=r"scalars\.json, line 1: not JSON"):
        read_curves(work_dir)


def test_plot_is_a_picture(work_dir, tmp_path):
    path = training_curves(work_dir, tmp_path / "out" / "curves.png")
    picture = cv2.imread(str(path))
    assert picture.shape[0] > 300 and picture.shape[1] > 900
    assert picture.std() > 5  # lines on white
    assert [p.name for p in path.parent.iterdir()] == ["curves.png"]


def test_no_log(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"scalars\.json"):
        read_curves(tmp_path)
