"""What is left in the work dir at the end, and on the TensorBoard."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from random_training import run, tiny
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mmplugins.engine import test as run_test
from mmplugins.engine.config.settings import draw_predictions


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    torch.set_num_threads(1)
    return tmp_path_factory.mktemp("results")


@pytest.mark.parametrize(
    ("task", "kind", "columns", "metric", "last"),
    [
        pytest.param(
            *("detection", "bbox", ["AP", "AP50", "AP75"], "coco/bbox_mAP", "epoch_1.pth"),
            marks=pytest.mark.slow,
        ),
        ("segmentation", "pixels", ["IoU", "Acc"], "mIoU", "iter_2.pth"),
    ],
)
def test_tables_and_curves(folder, tmp_path, capsys, task, kind, columns, metric, last):
    short = dict(detection={"train_cfg.max_epochs": 1}, segmentation={"train_cfg.max_iters": 2})
    cfg = tiny(task, folder, tmp_path, **short[task])
    cfg.default_hooks.results = dict(type="ResultsHook")
    cfg.visualizer.vis_backends = [dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")]
    run(cfg)
    shown = capsys.readouterr().out
    assert f"{kind}, by class" in shown and "results.md" in shown
    found = json.loads((tmp_path / "results.json").read_text())
    rows = found["per_class"][kind]
    assert found["iteration"] == dict(detection=5, segmentation=2)[task]
    assert len(rows) == 4 and all(list(row) == columns for row in rows.values())
    known = [row[columns[0]] for row in rows.values() if row[columns[0]] is not None]
    precision = 5.1e-4 if task == "detection" else 5.1e-3
    assert sum(known) / len(known) == pytest.approx(found["metrics"][metric], abs=precision)
    text = (tmp_path / "results.md").read_text()
    assert f"| {metric} |" in text and text.count("\n| ") >= 4 + len(found["metrics"])
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")

    (events,) = tmp_path.glob("*/vis_data")
    board = EventAccumulator(str(events))
    board.Reload()
    assert {"loss", "lr", metric} <= set(board.Tags()["scalars"])
    assert all(event.value > 0 for event in board.Scalars("loss"))

    cfg.load_from = str(tmp_path / last)
    draw_predictions(cfg, show_dir=str(tmp_path / "drawn"))
    cfg.train_dataloader.dataset.data_root = "not/needed"
    run_test(cfg)
    drawn = list((tmp_path / "drawn").iterdir())
    assert len(drawn) == 2 and {one.suffix for one in drawn} <= {".jpg", ".png"}
    again = json.loads((tmp_path / "test_results.json").read_text())
    assert again["metrics"] == pytest.approx(found["metrics"])
    assert again["checkpoint"] == cfg.load_from and again["per_class"] == found["per_class"]
    assert json.loads((tmp_path / "results.json").read_text()) == found
