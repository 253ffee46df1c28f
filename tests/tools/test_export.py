"""Words of tools/export.py, and exported files in tools/test.py."""

from __future__ import annotations

import pytest

from mmplugins.deployment.errors import ExportError
from mmplugins.engine import SettingError
from mmplugins.inference import InputError


def test_a_backend_runs_its_own_files(detection, folder, call):
    with pytest.raises(SettingError, match=r"--backend onnxruntime runs .onnx files, got"):
        checkpoint = folder / "some.pth"
        checkpoint.write_bytes(b"")
        call("test", detection, checkpoint, "--backend", "onnxruntime", "--work-dir", folder / "w")
    (folder / "text.onnx").write_text("text")
    with pytest.raises(ExportError, match="text.onnx cannot be loaded by onnxruntime"):
        call("test", detection, folder / "text.onnx", "--work-dir", folder / "w")


def test_absent_checkpoints_are_named(detection, call):
    with pytest.raises(InputError, match="checkpoint 'none.pth' does not exist"):
        call("export", detection, "none.pth")
