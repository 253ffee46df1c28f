"""Rows in other runtimes compute what their eager rows do; what is measured of them."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.utils import digit_version
from small_recipes import CLASSES, config_of
from torch import nn
from torch.utils._pytree import tree_flatten

from mmplugins.benchmark import count_parameters, make_report, read_results, subjects
from mmplugins.benchmark.results import ResultFile
from mmplugins.benchmark.rows import Row, parse_row
from mmplugins.benchmark.session import MEASURES, Session, Settings
from mmplugins.benchmark.speed import times_in_turns
from mmplugins.benchmark.subjects import Subject
from mmplugins.deployment.errors import ExportError

pytestmark = pytest.mark.skipif(
    digit_version(torch.__version__) < digit_version("2.6"), reason="open sizes came with 2.6"
)

SIZE = (70, 96)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runtimes")


def tensors(found) -> list[np.ndarray]:
    if isinstance(found, dict) and all(isinstance(v, np.ndarray) for v in found.values()):
        return list(found.values())
    return [x.numpy() for x in tree_flatten(found)[0]]


def both(text: str, other: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """What an eager row and the same in a runtime put out for the same pictures."""
    eager, exported = Subject(parse_row(f"{text}:deploy")), Subject(parse_row(f"{text}:{other}"))
    images = eager.images(SIZE, 2)
    assert torch.equal(images, exported.images(SIZE, 2))
    return tensors(eager.infer(images)), tensors(exported.infer(images))


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.slow
def test_a_detector_in_onnxruntime(folder, monkeypatch):
    """It computes what the eager row does; what PyTorch would have to watch is not measured."""
    text = str(config_of("retinanet", folder))
    export, made = subjects.export_row, []
    monkeypatch.setattr(subjects, "export_row", lambda *row: made.append(export(*row)) or made[0])
    expected, found = both(text, "onnxruntime")
    assert len(found) == len(expected) == 10  # logits and deltas of five levels
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape and relative(ours, theirs) < 1e-4

    monkeypatch.setattr(subjects, "export_row", lambda *row: made[0])  # which takes seconds
    settings = Settings(sizes=(SIZE,), rounds=2, measures=MEASURES[:-1])
    path = folder / "results.jsonl"
    rows = [parse_row(text), parse_row(f"{text}:onnxruntime")]
    Session(rows, settings, ResultFile(path, {}, settings.fixed())).run()
    eager, exported = make_report(read_results(path))["rows"]
    assert (exported["options"], exported["dtype"]) == (["onnxruntime"], "float32")
    (case,), (other,) = exported["cases"], eager["cases"]
    assert case["inference"]["rounds"] == 2 and not case["failures"] and not exported["failure"]
    assert case["macs"]["total"] == other["macs"]["total"]
    assert case["training"] is case["lower_bound"] is case["stages"] is case["operations"] is None
    assert case["memory"] == {} and set(other["memory"]) == {"inference", "training"}


def test_a_backbone_in_openvino():
    pytest.importorskip("openvino")
    expected, found = both("poolformer_s12", "openvino")
    assert [x.shape[1] for x in found] == [64, 128, 320, 512]
    for ours, theirs in zip(found, expected, strict=True):
        assert relative(ours, theirs) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["mask_rcnn", "cascade_mask_rcnn", "semantic_fpn", "upernet"])
def test_other_recipes_in_onnxruntime(recipe, folder):
    text = str(config_of(recipe, folder))
    eager, exported = (Subject(parse_row(f"{text}:{o}")) for o in ("deploy", "onnxruntime"))
    images = eager.images(SIZE)
    expected, found = eager.infer(images), list(exported.infer(images).values())
    if "rcnn" not in recipe:
        assert relative(found[0], expected.numpy()) < 1e-4
        return
    if recipe == "cascade_mask_rcnn":
        (_, (logits,), (deltas,)), stages = expected
        theirs = logits, deltas, *(stage["mask_preds"] for stage in stages)
    else:
        theirs = expected
    assert len(found[0]) == 60  # proposals, filled up to their limit
    for ours, other in zip(found, theirs, strict=True):
        assert 10 < len(other) <= 60 and relative(ours[: len(other)], other.numpy()) < 1e-3


def test_exported_files_are_rows(folder):
    """The file runs, with all that is in it; its parameters are those of the config inside."""
    from mmplugins.deployment.exporting import export_graph

    config = config_of("semantic_fpn", folder)
    text = Config.fromfile(config).pretty_text
    about = dict(task="segmentation", kind="map", classes=CLASSES, config=text)
    path = export_graph(Brightest().eval(), folder / "model.onnx", about, outputs=["labels"])
    subject = Subject(parse_row(str(path)))
    images = subject.images(SIZE)
    assert images.min() >= 0 and 200 < images.max() < 256
    found = subject.infer(images)
    np.testing.assert_array_equal(found["labels"], images.argmax(1).numpy())
    folded = Subject(Row(str(config), deploy=True))
    assert count_parameters(subject.model) == count_parameters(folded.model)


class Brightest(nn.Module):
    """A graph that is quickly exported."""

    def forward(self, images):
        return images.argmax(1)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("openvino", r"openvino not installed: pip install mmplugins\[openvino\]"),
        ("onnxruntime", r"onnxruntime not installed: pip install mmplugins\[export\]"),
    ],
)
def test_absent_runtimes_are_named_with_the_command(option, message, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == option else find(name)
    )
    with pytest.raises(ExportError, match=message):
        Subject(parse_row(f"poolformer_s12:{option}"))


def test_runtimes_are_measured_on_processors():
    with pytest.raises(ValueError, match="openvino is measured on CPUs; use --device cpu"):
        Subject(parse_row("poolformer_s12:openvino"), "cuda")


def test_calls_in_turns():
    order = []
    calls = {name: lambda name=name: order.append(name) or sum(range(20_000)) for name in "ab"}
    times = times_in_turns(calls, rounds=3)
    assert {name: sorted(each) for name, each in times.items()} == dict(a=[0, 1, 2], b=[0, 1, 2])
    assert all(seconds > 0 for each in times.values() for seconds in each.values())
    assert order.index("b") < len(order) - 1 - order[::-1].index("a")  # not one after the other
