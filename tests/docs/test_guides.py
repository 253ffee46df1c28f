"""The guides on prediction, large pictures and export work as they are written, on a tiny model."""

from __future__ import annotations

import io
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.utils import digit_version
from small_recipes import checkpoint_of, config_of, picture

ROOT = Path(__file__).parents[2]

CLASSES = ("person", "car", "dog")  # of which the guide names two

LONG = ("tools/export.py", "tools/test.py", "tools/predict.py model.onnx")
"""Begins of commands that trace a model, or need what such a command made."""


def commands(page: str) -> list[str]:
    """Every command of a guide but installation, continued lines as one, without remarks."""
    text = re.sub(r"\\\n\s*", "", (ROOT / f"docs/{page}.md").read_text())
    blocks = "\n".join(re.findall(r"```bash\n(.*?)```", text, flags=re.S))
    lines = (line.partition("  #")[0].strip() for line in blocks.splitlines())
    return [line for line in lines if line and not line.startswith("pip install ")]


def is_long(line: str) -> bool:
    return any(f"python {begin}" in line for begin in LONG)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with what the guides name: pictures, a film, a slide, a trained model."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.jpg", "below/b.jpg", "c.png"):
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(path, seed=len(name))
    picture(tmp_path / "slide.tif", (700, 1400))
    film = cv2.VideoWriter("film.mp4", cv2.VideoWriter_fourcc(*"mp4v"), 5, (64, 48))
    for k in range(2):
        film.write(np.full((48, 64, 3), 80 * k, np.uint8))
    film.release()
    config = config_of("retinanet", tmp_path)
    checkpoint = checkpoint_of(config)
    content = torch.load(checkpoint)
    content["meta"]["dataset_meta"] = dict(classes=CLASSES)
    torch.save(content, checkpoint)
    trained = tmp_path / "work_dirs/demo/epoch_12.pth"
    trained.parent.mkdir(parents=True)
    shutil.copy(checkpoint, trained)
    return dict(CONFIG=str(config), CHECKPOINT=str(checkpoint))


@pytest.fixture
def run(place, monkeypatch, capsys):
    """Function that runs one command of a guide in this process; returns what it wrote."""

    def run(line: str) -> str:
        *before, command = line.removesuffix(" | head").split(" | ")
        if before:
            given = subprocess.run(["bash", "-c", before[0]], capture_output=True, text=True)
            monkeypatch.setattr(sys, "stdin", io.StringIO(given.stdout))
        python, tool, *words = shlex.split(command)
        assert python == "python"
        shutil.rmtree("predictions", ignore_errors=True)
        monkeypatch.setattr(sys, "argv", [tool, *(place.get(word, word) for word in words)])
        capsys.readouterr()
        runpy.run_path(str(ROOT / tool), run_name="__main__")
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize("page", ["inference", "large_images"])
def test_commands_of_prediction(page, run):
    lines = commands(page)
    assert lines and not any(map(is_long, lines))
    for line in lines:
        said = run(line)
        if "--json -" in line:
            assert "c.png" in said and len(said.splitlines()) == 1
        else:
            out = Path("film" if "film.mp4" in line else "predictions")
            assert len(list((out / "pictures").iterdir())) == (1 if "slide" in line else 2)
            assert (out / "predictions.json").is_file()


def test_the_python_of_the_guide(place, capsys):
    (code,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs/inference.md").read_text(), flags=re.S
    )
    exec(code, {})
    assert "pictures/a.jpg" in capsys.readouterr().out


def test_commands_on_model_folders(run):
    lines = [line for line in commands("export") if not is_long(line)]
    assert [line.split()[1] for line in lines] == ["tools/package_model.py", "tools/predict.py"]
    for line in lines:
        run(line)
    assert Path("predictions/predictions.json").is_file()


@pytest.mark.slow
@pytest.mark.skipif(
    digit_version(torch.__version__) < digit_version("2.6"), reason="open sizes came with 2.6"
)
def test_commands_of_export(run, place):
    """Evaluation and int8, which need data, are tested where there are some."""
    for package in ("onnx", "onnxruntime", "openvino"):
        pytest.importorskip(package)
    lines = [line for line in commands("export") if is_long(line)]
    for line in lines:
        if "--int8" in line or "tools/test.py" in line:
            continue
        if "tools/export.py" in line:
            line += " --pictures pictures/a.jpg" + (
                " --out model.onnx" if "--out" not in line else ""
            )
        run(line)
    assert Path("model.onnx").is_file() and Path("model.xml").is_file()
    assert Path("model.pt2").is_file() and Path("predictions/predictions.json").is_file()
