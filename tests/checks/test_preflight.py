"""All checks together: healthy configs pass, nothing is left behind, trainings are the same."""

from __future__ import annotations

import io
import os
import random
import re
from copy import deepcopy

import numpy as np
import pytest
import torch
from breaking import LOADERS, SPEC, changed, faults, point_at
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer
from rich.console import Console

from mmplugins.checks import CHECKS, preflight, summary, table_of
from mmplugins.datasets.shapes import METAINFO


@pytest.mark.parametrize("name", ["retinanet", "mask_rcnn", "semantic_fpn"])
def test_healthy_configs_pass(healthy, name):
    results = preflight(healthy[name])
    assert [str(r) for r in results if r.status not in ("ok", "not run")] == []
    assert [r.name for r in results] == [check.name for check in CHECKS]
    # From random weights, so there are none to check; all else has run.
    assert [r.name for r in results if r.status == "not run"] == ["weights"]


@pytest.mark.parametrize(
    "name, data_set", [("retinanet", "CocoDataset"), ("semantic_fpn", "BaseSegDataset")]
)
def test_a_data_set_may_have_a_name_that_only_its_scope_knows(healthy, name, data_set):
    cfg = deepcopy(healthy[name])
    for loader in LOADERS:
        del cfg[loader].dataset["generate"]
        cfg[loader].dataset.update(type=data_set, metainfo=dict(classes=METAINFO["classes"]))
        if name == "semantic_fpn":
            cfg[loader].dataset.reduce_zero_label = True
    results = preflight(cfg)
    assert [str(r) for r in results if r.status not in ("ok", "not run")] == []
    assert [r.name for r in results if r.status == "not run"] == ["weights"]


def test_the_module_of_a_visualizer_may_register_parts_of_the_model(healthy, tmp_path, monkeypatch):
    (tmp_path / "own_drawing.py").write_text(
        "from mmdet.models import DetDataPreprocessor\n"
        "from mmengine.registry import MODELS\n"
        "from mmengine.visualization import Visualizer\n"
        "class OwnVisualizer(Visualizer): ...\n"
        "@MODELS.register_module(force=True)\n"
        "class OwnPreprocessor(DetDataPreprocessor): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    cfg = deepcopy(healthy["retinanet"])
    cfg.visualizer.type = "own_drawing.OwnVisualizer"
    cfg.model.data_preprocessor.type = "OwnPreprocessor"
    assert [str(r) for r in preflight(cfg, data=False) if r.status == "failure"] == []


@pytest.mark.parametrize("name", ["retinanet", "semantic_fpn"])
def test_no_state_moves_and_nothing_is_printed(healthy, name, capsys):
    cfg = healthy[name]
    before = cfg.pretty_text
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    owners = (MMLogger, MessageHub, Visualizer, DefaultScope)
    instances = [list(owner._instance_dict) for owner in owners]
    preflight(cfg)
    after = random.random(), np.random.rand(), torch.rand(())
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    assert after == (random.random(), np.random.rand(), torch.rand(()))
    assert [list(owner._instance_dict) for owner in owners] == instances
    assert cfg.pretty_text == before
    assert capsys.readouterr().out == ""


def files_below(folder):
    return {
        (os.path.join(parent, name), os.stat(os.path.join(parent, name)).st_mtime_ns)
        for parent, folders, files in os.walk(folder)
        for name in [*folders, *files]
    }


def test_nothing_is_written(healthy, shapes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = files_below(shapes)
    cfg = changed(healthy["mask_rcnn"], {"work_dir": "work"})
    # An evaluator that would write its findings, if it were let.
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        evaluator.outfile_prefix = str(tmp_path / "found")
    assert faults(cfg, full=True) == []
    assert os.listdir(tmp_path) == []
    assert files_below(shapes) == before


def test_shapes_that_are_not_made_yet_stay_so(healthy, tmp_path):
    cfg = deepcopy(healthy["retinanet"])
    point_at(cfg, tmp_path / "data" / "shapes")
    results = preflight(cfg)
    assert [str(r) for r in results if r.status not in ("ok", "not run")] == []
    assert os.listdir(tmp_path) == []
    # The number of pictures is that of the data to be made: 12 give 6 batches, 36 in 6 epochs.
    cfg.param_scheduler[0].end = 12 * SPEC["num_train"] // 2 + 1
    (found,) = faults(cfg)
    assert "training has only 72 (6 per epoch)" in found.message


def test_large_pictures_are_tried_small_and_counted_large(healthy):
    cfg = changed(
        healthy["retinanet"], {"train_dataloader.dataset.pipeline[2].scale": (1280, 1280)}
    )
    small, large = ({r.name: r.message for r in preflight(c)} for c in (healthy["retinanet"], cfg))
    assert "2 pictures as 320x320" in large["training step"]

    def activations(said):
        number, unit = re.search(r"activations ([\d.]+) (\w+)", said["memory"]).groups()
        return float(number) * {"MiB": 1, "GiB": 1024}[unit]

    # 100 times the pixels of 128x128; what does not grow with them is little.
    assert activations(large) == pytest.approx(100 * activations(small), rel=0.1)


def test_the_table_shows_every_result_as_it_is(healthy):
    cfg = changed(healthy["retinanet"], {"model.neck.in_channels": [1, 2, 3]})
    results = preflight(cfg)
    text = io.StringIO()
    Console(file=text, width=200).print(table_of(results))
    text = text.getvalue()
    for result in results:
        assert result.name in text and result.status in text
    assert "in_channels=[1, 2, 3]" in text  # and not taken for markup
    assert summary(results).startswith(f"{sum(r.status == 'ok' for r in results)} ok, 1 failure")
