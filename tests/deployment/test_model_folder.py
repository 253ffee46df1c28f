"""Model folders: written, loaded, pushed without a net, refused where they are no plain data."""

from __future__ import annotations

import json
import shutil

import huggingface_hub
import numpy as np
import pytest
import torch
from small_recipes import CLASSES, checkpoint_of, config_of, picture

import mmplugins
from mmplugins.checkpoint import CheckpointError
from mmplugins.deployment.exporting import describe
from mmplugins.deployment.model_folder import model_card, push, read_folder, write_folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A checkpoint, and its model folder."""
    folder = tmp_path_factory.mktemp("folders")
    checkpoint = checkpoint_of(config_of("retinanet", folder))
    model = mmplugins.load_model(checkpoint, device="cpu")
    network = model.runtime.model
    about = describe("", model.task, model.classes, model.palette, network.data_preprocessor)
    card = model_card("shapes", model.config, about, {"coco/bbox_mAP": 0.25})
    return checkpoint, write_folder(folder / "model", network, model.config, about, card)


def test_a_folder_finds_what_the_checkpoint_finds(made, tmp_path):
    checkpoint, folder = made
    image = picture(tmp_path / "one.png")
    (expected,) = mmplugins.predict(mmplugins.load_model(checkpoint, device="cpu"), image)
    loaded = mmplugins.load_model(folder, device="cpu")
    (found,) = mmplugins.predict(loaded, image)
    assert loaded.classes == CLASSES and len(found) > 3
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    assert {file.suffix for file in folder.iterdir()} == {".safetensors", ".py", ".json", ".md"}


def test_the_card_tells_of_the_run(made):
    card = (made[1] / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: mmplugins\npipeline_tag: object-detection\n---\n")
    for text in ("| model | RetinaNet |", "disc, bar, cross", "| coco/bbox_mAP | 0.25 |"):
        assert text in card
    assert "started from | random weights" in card and "mean 123.675, 116.28, 103.53" in card


def test_nothing_is_replaced_unasked(made):
    _, folder = made
    model = mmplugins.load_model(folder, device="cpu")
    with pytest.raises(FileExistsError, match="holds model.safetensors, config.py"):
        write_folder(folder, model.runtime.model, model.config, {}, "")


def spoilt(made, tmp_path):
    return shutil.copytree(made[1], tmp_path / "spoilt")


def test_pickles_are_refused(made, tmp_path):
    folder = spoilt(made, tmp_path)
    torch.save({}, folder / "more.pth")
    with pytest.raises(CheckpointError, match=r"holds more.pth, which may be pickles"):
        mmplugins.load_model(folder)
    (folder / "more.pth").replace(folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="is no safetensors file: not opened"):
        mmplugins.load_model(folder)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("open('/tmp/mmplugins_was_here', 'w')", "is not plain data"),
        ("model['neck'] = dict(type='os.system')", "is not plain data"),
        (
            "model = dict(type='os.system', backbone=dict(type='PoolFormer'))",
            "do not have: type='os.",
        ),
        ("custom_imports = dict(imports=['antigravity'])", "do not have: custom_imports="),
    ],
)
def test_configs_that_would_run_code_are_refused(line, message, made, tmp_path):
    folder = spoilt(made, tmp_path)
    with (folder / "config.py").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(CheckpointError, match=message):
        mmplugins.load_model(folder)


def test_other_folders_are_named(made, tmp_path):
    with pytest.raises(CheckpointError, match=r"is no model folder, it lacks model.safetensors"):
        mmplugins.load_model(tmp_path)
    folder = spoilt(made, tmp_path)
    (folder / "model.json").write_text("{}")
    with pytest.raises(CheckpointError, match="model.json cannot be used, KeyError: 'classes'"):
        read_folder(folder)


def test_pushing_sends_the_four_files(made, monkeypatch):
    asked = []

    class Hub:
        def create_repo(self, repo, **options):
            asked.append(("create", repo, options))

        def upload_folder(self, **options):
            asked.append(("upload", options))
            return "https://hub.test/commit"

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    assert push(made[1], "me/shapes") == "https://hub.test/commit"
    assert asked[0] == ("create", "me/shapes", dict(private=True, exist_ok=True))
    sent = asked[1][1]
    assert sent["repo_id"] == "me/shapes" and len(sent["allow_patterns"]) == 4
    with pytest.raises(CheckpointError, match="is no model folder"):
        push(made[0].parent, "me/shapes")
    assert len(asked) == 2


def test_the_tool_writes_the_runs_results(made, tmp_path, monkeypatch, capsys):
    import runpy
    import sys
    from pathlib import Path

    results = tmp_path / "results.json"
    results.write_text(json.dumps(dict(epoch=3, metrics={"coco/bbox_mAP": 0.5})))
    tool = Path(__file__).parents[2] / "tools/package_model.py"
    out = tmp_path / "packed"
    words = [str(tool), str(made[0]), "--out", str(out), "--results", str(results)]
    monkeypatch.setattr(sys, "argv", words)
    runpy.run_path(str(tool), run_name="__main__")
    assert f"Wrote {out}" in capsys.readouterr().out
    card = (out / "README.md").read_text()
    assert "| coco/bbox_mAP | 0.5 |" in card and "epoch |" not in card
