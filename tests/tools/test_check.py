"""``tools/check.py``: the table, the exit status, and no file."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from programs import ROOT


@pytest.fixture
def check(tmp_path, monkeypatch, capsys, end):
    """What the tool ends with, and what it prints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "1000")

    return lambda *args: (end("check", *args), capsys.readouterr().out)


def test_a_healthy_config(detection, check, tmp_path):
    status, said = check(detection, "--full", "--work-dir", tmp_path / "work")
    assert status == 0 and "6 of 6 pictures read" in said
    assert said.rstrip().endswith("not run") and "failure" not in said
    assert os.listdir(tmp_path) == []


def test_a_broken_config(detection, check):
    status, said = check(detection, "--cfg-options", "model.neck.type=FNP")
    assert status == 1 and "model.neck.type: 'FNP' is not there" in said
    assert "1 failure" in said.splitlines()[-1]


def test_another_backbone(detection, check):
    status, said = check(detection, "--backbone", "timm/resnet18")
    assert status == 0
    assert "TimmBackbone puts out channels [128, 256, 512] at strides [8, 16, 32]" in said


def test_an_absent_config(check):
    status, _ = check("none.py")
    assert status.startswith("error: config 'none.py' does not exist")


@pytest.mark.slow
def test_as_a_program(detection, tmp_path):
    command = [sys.executable, ROOT / "tools/check.py", detection]
    command += ["--cfg-options", "model.neck.type=FNP"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 1 and "'FNP' is not there" in done.stdout, done.stderr
