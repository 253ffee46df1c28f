"""tools/weights.py as a user runs it, on files and a folder in place of the net."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from programs import ROOT, load
from safetensors import safe_open

import mmplugins  # noqa: F401 - registers the backbones
from mmplugins.backbones import build_backbone
from mmplugins.checkpoint import read_checkpoint


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run the tool in this process, which spares its imports; exit status and what it said."""
    tool = load("tools/weights.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("MMPLUGINS_WEIGHTS", str(tmp_path / "by hand"))

    def call(*args):
        capsys.readouterr()
        status = tool.main([str(arg) for arg in args])
        said = capsys.readouterr()
        return status, said.out + said.err

    return call


@pytest.fixture
def s12():
    """Numbers under the names of PoolFormer-S12 with a classifier, in timm's layout."""
    with torch.device("meta"):
        model = build_backbone("poolformer_s12", out_norm=None)
    state = {key: torch.randn(value.shape) for key, value in model.state_dict().items()}
    return state | {
        "head.norm.weight": torch.ones(512),
        "head.norm.bias": torch.ones(512),
        "head.fc.weight": torch.randn(10, 512),
        "head.fc.bias": torch.randn(10),
    }


def test_list(run):
    status, said = run("list", "caformer_s18")
    assert status == 0
    assert len(re.findall(r"caformer_s18\w*", said)) == 5
    assert "huggingface.co" in said and "ImageNet-21K, then 1K, 384" in said
    status, said = run("list", "resnext")
    assert status == 1 and "resnext" in said


def test_get_takes_what_lies_in_the_folder(run, tmp_path):
    status, said = run("get", "metaformer://poolformer_s12")
    assert status == 1 and "HF_HUB_OFFLINE" in said and "poolformer_s12.pth.tar" in said
    (tmp_path / "by hand").mkdir()
    (tmp_path / "by hand" / "poolformer_s12.pth.tar").write_bytes(b"x")
    status, said = run("get", "metaformer://poolformer_s12")
    assert status == 0 and said.strip() == str(tmp_path / "by hand" / "poolformer_s12.pth.tar")


def test_show_says_what_a_file_is(run, s12):
    torch.save(dict(model_ema=s12), "w.pth")
    status, said = run("show", "w.pth")
    assert status == 0
    assert "in 'model_ema'" in said and "float32" in said and "11,407,306 numbers" in said
    assert re.search(r"holds poolformer_s12 .*128 of 128 tensors.*timm layout", said)
    assert re.search(r"stage 2 +62 ", said)


def test_show_against_another_backbone_fails(run, s12):
    torch.save(s12, "w.pth")
    status, said = run("show", "w.pth", "--backbone", "poolformer_s24")
    assert status == 1
    assert "wrong variant: the file holds poolformer_s12" in said
    status, said = run("show", "w.pth", "--backbone", "poolfomer_s24")
    assert status == 1 and "Did you mean 'poolformer_s24'" in said


def test_convert_there_and_back(run, s12):
    torch.save(s12, "timm.pth")
    status, said = run("convert", "timm.pth", "official.safetensors", "--to", "official")
    assert status == 0 and "poolformer_s12" in said and "timm -> official" in said
    with safe_open("official.safetensors", "pt") as file:
        assert "network.6.1.layer_scale_2" in file.keys()  # noqa: SIM118 - not a dict
        assert file.metadata()["layout"] == "official"
    status, _ = run("convert", "official.safetensors", "back.pth", "--to", "timm")
    assert status == 0
    back = read_checkpoint("back.pth")
    assert set(back) == set(s12)
    assert all(torch.equal(back[key], value) for key, value in s12.items())


def test_convert_overwrites_only_if_asked(run, s12):
    torch.save(s12, "w.pth")
    Path("out.pth").write_text("precious")
    status, said = run("convert", "w.pth", "out.pth")
    assert status == 1 and "exists" in said and Path("out.pth").read_text() == "precious"
    status, _ = run("convert", "w.pth", "out.pth", "--overwrite")
    assert status == 0 and len(read_checkpoint("out.pth")) == len(s12)


def test_broken_and_hostile_files(run, s12):
    import argparse

    s12["stem.conv.bias"][0] = float("nan")
    torch.save(s12, "nan.pth")
    for command in (["show", "nan.pth"], ["convert", "nan.pth", "out.pth"]):
        status, said = run(*command)
        assert status == 1 and "NaN" in said and "stem.conv.bias" in said
    assert not Path("out.pth").exists()
    whole = torch.quantize_per_tensor(s12["stem.conv.weight"], 0.1, 0, torch.qint8)
    torch.save({**s12, "stem.conv.bias": torch.zeros(64), "stem.conv.weight": whole}, "int8.pth")
    status, said = run("show", "int8.pth")
    assert status == 1 and "dequantize before saving" in said
    s12["stem.conv.bias"][0] = 0
    torch.save(dict(model=s12, args=argparse.Namespace(lr=1)), "args.pth")
    status, said = run("show", "args.pth")
    assert status == 1 and "argparse.Namespace" in said
    status, _ = run("convert", "args.pth", "clean.safetensors", "--allow-unsafe")
    assert status == 0
    assert run("show", "clean.safetensors")[0] == 0


@pytest.mark.slow
def test_as_a_program(tmp_path):
    """Once for real, in a process of its own: errors go to stderr, the status tells."""
    (tmp_path / "w.pth").write_bytes(b"<html>")
    answer = subprocess.run(
        [sys.executable, ROOT / "tools/weights.py", "show", "w.pth"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | dict(PYTHONPATH=str(ROOT)),
    )
    assert answer.returncode == 1 and answer.stdout == ""
    assert "error: w.pth is a web page" in answer.stderr and "Traceback" not in answer.stderr
