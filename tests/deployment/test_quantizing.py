"""What becomes int8 and what stays in float, on a small model of OpenVINO made by hand."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest

from mmplugins.deployment import load_exported
from mmplugins.deployment.errors import ExportError
from mmplugins.deployment.exporting import KEY, save_openvino
from mmplugins.deployment.quantizing import quantize_file, sensitive

ov = pytest.importorskip("openvino")
ABOUT = dict(task="detection", kind="boxes", classes=["a"], config="", outputs=["best", "boxes"])


def detector():
    """Two convolutions, and a head of one for scores and one for boxes, which are selected."""
    from openvino import opset13 as op

    random = np.random.default_rng(0)

    def layer(x, channels, width, name):
        weight = random.normal(0, 0.3, (width, channels, 3, 3)).astype(np.float32)
        return op.convolution(x, op.constant(weight), [1, 1], [1, 1], [1, 1], [1, 1], name=name)

    images = op.parameter([-1, 3, 16, 16], np.float32, name="images")
    stem = op.relu(layer(images, 3, 8, "stem"), name="stem_relu")
    tower = op.relu(layer(stem, 8, 8, "tower"), name="tower_relu")
    flat = op.constant(np.array([0, -1], np.int64))
    scores = op.reshape(layer(tower, 8, 1, "cls"), flat, True, name="flat_scores")
    best = op.topk(scores, op.constant(np.int64(4)), 1, "max", "value", name="top")
    boxes = op.reshape(layer(tower, 8, 1, "reg"), flat, True, name="flat_boxes")
    taken = op.gather_elements(boxes, best.output(1), 1, name="taken")
    # A refinement on what was selected: its layer reads numbers that say where, not features.
    where = op.concat(
        [op.constant(np.zeros((1, 1), np.float32)), op.constant(np.ones((1, 3), np.float32))], 1
    )
    region = op.multiply(where, op.reduce_sum(taken, op.constant(np.int64([0, 1])), False))
    region.set_friendly_name("region")
    features = op.roi_align(
        tower, region, op.constant(np.int64([0])), 2, 2, 0, 1.0, "avg", "half_pixel", name="align"
    )
    second = layer(features, 8, 4, "second")
    last = layer(op.relu(second, name="second_relu"), 4, 1, "last")
    return ov.Model([best.output(0), taken.output(0), last.output(0)], [images], "small")


def test_the_last_layers_and_all_after_them_stay_in_float():
    kept = set(sensitive(detector()))
    assert kept >= {"cls", "reg", "last", "flat_scores", "flat_boxes", "top", "taken", "region"}
    assert not kept & {"stem", "stem_relu", "tower", "tower_relu", "align", "second"}


@pytest.fixture
def plain(tmp_path):
    return save_openvino(detector(), tmp_path / "plain.xml", json.dumps(ABOUT))


def test_quantises_what_is_left_and_tells_nobody(plain, tmp_path, monkeypatch):
    pytest.importorskip("nncf")
    from nncf.telemetry import decorator

    class Spy:
        def __getattr__(self, name):
            raise AssertionError(f"telemetry.{name} was called")

    spy = Spy()
    monkeypatch.setattr(decorator, "telemetry", spy)
    random = np.random.default_rng(1)
    names = list("abcd")
    asked = []

    def read(name):
        asked.append(name)
        return random.uniform(0, 1, (1, 3, 16, 16)).astype(np.float32)

    path = quantize_file(plain, tmp_path / "int8.xml", names, read)
    assert set(asked) == set(names) and decorator.telemetry is spy
    model = ov.Core().read_model(path)
    by_name = {op.get_friendly_name(): op for op in model.get_ordered_ops()}
    before = {
        name: by_name[name].input_value(0).get_node().get_type_name()
        for name in ("stem", "tower", "second", "cls", "reg", "last")
    }
    assert before["stem"] == before["tower"] == before["second"] == "FakeQuantize"
    weights = {name: by_name[name].input_value(1).get_node().get_type_name() for name in before}
    assert {name for name, kind in weights.items() if kind == "Constant"} == {"cls", "reg", "last"}
    assert json.loads(model.get_rt_info([KEY]).astype(str)) == dict(ABOUT, precision="int8")
    images = read("a")
    plainly, quantised = (load_exported(file)(images) for file in (plain, path))
    difference = np.abs(plainly["best"] - quantised["best"]).max()
    assert 0 < difference < 0.05 * np.abs(plainly["best"]).max()


def test_nncf_and_pictures_are_needed(plain, tmp_path, monkeypatch):
    with pytest.raises(ExportError, match="no pictures to calibrate on"):
        quantize_file(plain, tmp_path / "int8.xml", [])
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "nncf" else find(name)
    )
    with pytest.raises(ExportError, match=r"nncf is not installed: pip install mmplugins\[int8\]"):
        quantize_file(plain, tmp_path / "int8.xml", ["a"])
    assert not list(tmp_path.glob("*int8*"))


def test_files_that_are_no_models_of_openvino(plain, tmp_path):
    page = tmp_path / "page.xml"
    page.write_text("<html/>")
    with pytest.raises(ExportError, match=r"page.xml is no model of OpenVINO"):
        load_exported(page)
    plain.with_suffix(".bin").unlink()
    with pytest.raises(ExportError, match=r"plain.xml has no weights: .*plain.bin belongs beside"):
        load_exported(plain)
