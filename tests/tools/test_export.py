"""Words of tools/export.py, and exported files in tools/test.py."""

from __future__ import annotations

import pytest
import torch
from small_recipes import CLASSES, checkpoint_of, config_of

from mmplugins.deployment.errors import ExportError
from mmplugins.engine import SettingError
from mmplugins.inference import InputError
from mmplugins.utils import WriteError


def test_a_backend_runs_its_own_files(detection, folder, call):
    with pytest.raises(SettingError, match=r"--backend onnxruntime runs .onnx files, got"):
        checkpoint = folder / "some.pth"
        checkpoint.write_bytes(b"")
        call("test", detection, checkpoint, "--backend", "onnxruntime", "--work-dir", folder / "w")
    (folder / "text.onnx").write_text("text")
    with pytest.raises(ExportError, match="text.onnx cannot be loaded by onnxruntime"):
        call("test", detection, folder / "text.onnx", "--work-dir", folder / "w")


def test_results_of_a_test_that_cannot_be_written_are_told_before(detection, folder, call):
    place = folder / "a_file"
    place.write_text("")
    model = folder / "text.onnx"
    model.write_text("text")
    with pytest.raises(SettingError, match="a_file/w' cannot be written .Not a directory"):
        call("test", detection, model, "--work-dir", place / "w")


def test_absent_checkpoints_are_named(detection, call):
    with pytest.raises(InputError, match="checkpoint 'none.pth' does not exist"):
        call("export", detection, "none.pth")


def test_wrong_names_and_models_are_refused_before_the_work(detection, folder, call):
    checkpoint = checkpoint_of(config_of("semantic_fpn", folder))
    (folder / "file").write_text("")
    for words, message in (
        (("--int8", "--out", folder / "m.onnx"), "m.onnx for format 'openvino': .* name in .xml"),
        (("--out", folder / "file/m.onnx"), "file cannot be written to: Not a directory"),
    ):
        with pytest.raises((InputError, WriteError), match=message):
            call("export", checkpoint, *words)


def test_exported_files_are_not_exported_or_packed(folder, call, monkeypatch):
    from mmplugins.deployment import runtime
    from mmplugins.deployment.runtime import Exported

    checkpoint = checkpoint_of(config_of("semantic_fpn", folder))
    text = torch.load(checkpoint)["meta"]["cfg"]
    about = dict(task="segmentation", classes=CLASSES, config=text, outputs=[], kind="map")
    made = Exported(folder / "m.onnx", about, None)
    made.path.write_bytes(b"")
    monkeypatch.setattr(runtime, "load_exported", lambda *args, **options: made)
    for tool, out in (("export", folder / "n.onnx"), ("package_model", folder / "packed")):
        with pytest.raises(InputError, match="m.onnx is exported already: expected a config and"):
            call(tool, made.path, "--out", out)


@pytest.mark.slow
def test_int8_with_metric_and_latency_before_and_after(detection, folder, call, capsys):
    for package in ("onnx", "openvino", "nncf"):
        pytest.importorskip(package)
    call("train", detection, "--work-dir", folder / "trained")
    checkpoint = folder / "trained/epoch_1.pth"
    options = ("--calibration", 4, "--out", folder / "int8.xml")
    capsys.readouterr()
    call("export", detection, checkpoint, "--int8", *options)
    said, errors = capsys.readouterr()
    assert errors == ""  # NNCF and OpenVINO talk there
    assert "Quantising on 4 pictures" in said and "times as fast" in said
    assert "float32, validation data" in said and "int8, validation data" in said
    assert "Largest differences from float32:" in said
    talk = ("annotations", "index", "DONE", "Evaluat", "Average", "INFO", "mmengine")
    assert not [word for word in talk if word in said]  # pycocotools and the loggers
    assert (folder / "int8.xml").is_file() and (folder / "int8.bin").is_file()
    assert not list(folder.glob(".int8*"))
