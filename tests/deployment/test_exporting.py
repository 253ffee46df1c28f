"""Exported files: verified before they have their name, complete, and right at other sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmengine.utils import digit_version
from small_recipes import CLASSES, PALETTE, checkpoint_of, config_of, picture
from torch import nn

import mmplugins
from mmplugins.deployment import runtime
from mmplugins.deployment.errors import ExportError
from mmplugins.deployment.exporting import export_graph
from mmplugins.inference import InputError, exporting
from mmplugins.inference.exporting import export_verified
from mmplugins.utils import WriteError

pytestmark = pytest.mark.skipif(
    digit_version(torch.__version__) < digit_version("2.6"), reason="open sizes came with 2.6"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("exporting")


@pytest.fixture(scope="module")
def pictures(folder):
    sizes = [(64, 96), (72, 108), (150, 70)]
    return [str(picture(folder / f"{k}.png", s, seed=k)) for k, s in enumerate(sizes)]


def trained(recipe, folder):
    return checkpoint_of(config_of(recipe, folder), f"{recipe}.pth")


@pytest.fixture(scope="module")
def segmentor(folder, pictures):
    """A checkpoint, and its ONNX file."""
    checkpoint, lines = trained("semantic_fpn", folder), []
    path = folder / "segmentor.onnx"
    model = mmplugins.load_model(checkpoint, device="cpu")
    found = export_verified(model, path, pictures=pictures[:1], tell=lines.append)
    assert found.objects > 1000 and found.logits < 1e-4
    assert any("96x64" in line for line in lines) and any("67x45" in line for line in lines)
    return checkpoint, path


@pytest.mark.slow
def test_a_file_predicts_without_anything_else(segmentor, pictures):
    """Also at sizes of which the trace knew nothing: mmseg's own heads bake theirs in."""
    checkpoint, path = segmentor
    exported = mmplugins.load_model(path, threads=1)
    assert exported.classes == CLASSES and list(exported.palette) == PALETTE
    expected = mmplugins.predict(mmplugins.load_model(checkpoint, device="cpu"), pictures)
    for found, there in zip(mmplugins.predict(exported, pictures), expected, strict=True):
        assert found.size == there.size and len(np.unique(there.label_map)) > 1
        assert (found.label_map != there.label_map).mean() < 1e-3


def test_the_file_says_what_it_is(segmentor):
    import onnx

    model = onnx.load(segmentor[1])
    onnx.checker.check_model(model)
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
    known = runtime.load_exported(segmentor[1]).description
    assert known["mean"] == pytest.approx([123.675, 116.28, 103.53]) and known["opset"] == 20
    assert {"mmplugins", "torch", "mmengine"} <= set(known["versions"])
    assert "SemanticFPN" not in known["config"] and "FPNHead" in known["config"]


def test_existing_files_stay(segmentor, pictures):
    checkpoint, path = segmentor
    before = path.read_bytes()
    with pytest.raises(InputError, match="segmentor.onnx exists: give another --out"):
        export_verified(mmplugins.load_model(checkpoint, device="cpu"), path, pictures=pictures)
    assert path.read_bytes() == before


def test_nothing_is_traced_for_a_wrong_name_or_place(segmentor, pictures, monkeypatch):
    checkpoint, path = segmentor
    monkeypatch.setattr(exporting, "export_model", None)
    model = mmplugins.load_model(checkpoint, device="cpu")
    with pytest.raises(InputError, match=r"m.xml for format 'onnx': expected a name in .onnx"):
        export_verified(model, path.with_name("m.xml"), pictures=pictures)
    with pytest.raises(WriteError, match=r"segmentor.onnx/below cannot be written to: Not a dir"):
        export_verified(model, path / "below/model.onnx", pictures=pictures)


def test_a_file_that_differs_gets_no_name(segmentor, pictures, folder, monkeypatch):
    checkpoint, path = segmentor

    def other(model, aside, description, format):
        aside.write_bytes(path.read_bytes())

    monkeypatch.setattr(exporting, "export_model", other)
    model = mmplugins.load_model(checkpoint, device="cpu")
    with torch.no_grad():
        model.runtime.model.decode_head.conv_seg.weight.mul_(1.1)
    target = folder / "wrong.onnx"
    with pytest.raises(ExportError, match="does not compute what the model does: logits differ"):
        export_verified(model, target, pictures=pictures[:1])
    assert not target.exists() and not list(folder.glob(".wrong*"))


class Rows(nn.Module):
    """A map at stride 16 as rows, which torch.export guards against maps with a side of one."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3, 2, 1)

    def forward(self, images):
        maps = nn.functional.max_pool2d(self.layer(images), 1, 8)
        return (maps.permute(0, 2, 3, 1).reshape(maps.shape[0], -1, 4),)


@pytest.mark.parametrize("format", exporting.FORMATS)
def test_pictures_smaller_than_a_stride(format, folder):
    if format == "openvino":
        pytest.importorskip("openvino")
    path = folder / f"rows{exporting.FORMATS[format]}"
    about = dict(task="detection", kind="boxes", classes=[], config="")
    rows = Rows().eval()
    found = runtime.load_exported(
        export_graph(rows, path, about, format, outputs=["rows"]), trust=True
    )
    for size in ((1, 1), (16, 40), (70, 9), (64, 64)):
        images = torch.rand(2, 3, *size)
        with torch.no_grad():
            np.testing.assert_allclose(found(images.numpy())["rows"], rows(images)[0], atol=1e-6)


def test_files_of_somebody_else(folder):
    from onnx import TensorProto, helper, save

    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in "ab"]
    graph = helper.make_graph([helper.make_node("Neg", ["a"], ["b"])], "g", value[:1], value[1:])
    save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
        folder / "theirs.onnx",
    )
    for name in ("text.onnx", "text.pt2"):
        (folder / name).write_text("text")
    with pytest.raises(ExportError, match=r"theirs.onnx was not written by tools/export.py"):
        mmplugins.load_model(folder / "theirs.onnx")
    with pytest.raises(ExportError, match=r"text.onnx cannot be loaded by onnxruntime"):
        mmplugins.load_model(folder / "text.onnx")
    with pytest.raises(ExportError, match=r"text.pt2 is read by torch.* runs pickles .* --trust"):
        mmplugins.load_model(folder / "text.pt2")
    with pytest.raises(ExportError, match=r"text.pt2 cannot be loaded by torch.export: File is"):
        mmplugins.load_model(folder / "text.pt2", trust=True)
    with pytest.raises(InputError, match=r"none.onnx does not exist"):
        mmplugins.load_model(folder / "none.onnx")
    with pytest.raises(ExportError, match=r"only OpenVINO has it"):
        mmplugins.load_model(folder / "theirs.onnx", precision="bf16")


def test_pictures_to_verify_on_are_needed(segmentor, folder):
    with pytest.raises(InputError, match="no pictures to verify the export on.* --pictures"):
        export_verified(
            mmplugins.load_model(
                segmentor[0],
                device="cpu",
                options={"test_dataloader.dataset.data_root": str(folder / "none")},
            ),
            folder / "unverified.onnx",
        )
    with pytest.raises(InputError, match="the config names no folder of test data: give some"):
        exporting.pictures_of(mmplugins.load_model(segmentor[0], device="cpu"))


RECIPES = ("retinanet", "fcos", "faster_rcnn", "mask_rcnn", "cascade_mask_rcnn", "upernet")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "format"),
    [
        *((recipe, format) for recipe in RECIPES for format in ("onnx", "openvino")),
        *((recipe, "torch-export") for recipe in ("mask_rcnn", "upernet")),
    ],
)
def test_every_recipe_in_every_format(recipe, format, folder, pictures):
    if format == "openvino":
        pytest.importorskip("openvino")
    model = mmplugins.load_model(trained(recipe, folder), device="cpu")
    path = folder / f"{recipe}{exporting.FORMATS[format]}"
    export_verified(model, path, format, pictures=pictures[:1])
    expected = mmplugins.predict(model, pictures)
    exported = mmplugins.load_model(path, trust=format == "torch-export")
    for found, there in zip(mmplugins.predict(exported, pictures), expected, strict=True):
        if there.label_map is not None:
            assert (found.label_map != there.label_map).mean() < 1e-3
            continue
        assert len(found) == len(there) > 3
        np.testing.assert_allclose(found.scores, there.scores, atol=1e-4)
