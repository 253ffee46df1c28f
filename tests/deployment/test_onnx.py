"""Backbones in deployed form through torch.onnx.export, run by onnxruntime at sizes never seen."""

import re
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from mmengine.utils import digit_version

from mmplugins.benchmark.rows import parse_row
from mmplugins.benchmark.subjects import Subject

GUIDE = Path(__file__).parents[2] / "docs/speed.md"
SIZES = ((64, 96), (96, 160), (50, 71))


OLD = digit_version(torch.__version__) < digit_version("2.6")


@pytest.mark.skipif(OLD, reason="torch.onnx.export with open sizes came with torch 2.6")
@pytest.mark.slow
@pytest.mark.parametrize("name", ["poolformer_s12", "caformer_s18"])
def test_the_guides_export_computes_the_same_at_every_size(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    backbone = Subject(parse_row(name)).model
    (code,) = re.findall(r"```python\n(side = .*?)```", GUIDE.read_text(), re.S)
    exec(code.replace("512, 512", "64, 96"), dict(torch=torch, backbone=backbone))
    session = onnxruntime.InferenceSession("backbone.onnx")
    for size in SIZES:
        images = torch.randn(1, 3, *size)
        with torch.no_grad():
            expected = backbone(images)
        found = session.run(None, {"images": images.numpy()})
        for theirs, ours in zip(found, expected, strict=True):
            error = np.abs(theirs - ours.numpy()).max()
            assert error <= 1e-5 * ours.abs().max()
