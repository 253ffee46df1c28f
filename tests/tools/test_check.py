"""``tools/check.py``: the table, the exit status, and no file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def check(folder, *args):
    command = [sys.executable, str(ROOT / "tools/check.py"), *map(str, args)]
    environment = os.environ | {"COLUMNS": "1000"}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, cwd=folder, env=environment
    )


def test_a_healthy_config(detection, tmp_path):
    done = check(tmp_path, detection, "--full", "--work-dir", tmp_path / "work")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 of 6 pictures read" in done.stdout
    assert done.stdout.rstrip().endswith("not run") and "failure" not in done.stdout
    assert os.listdir(tmp_path) == []


def test_a_broken_config(detection, tmp_path):
    done = check(tmp_path, detection, "--cfg-options", "model.neck.type=FNP")
    assert done.returncode == 1, done.stderr
    assert "model.neck.type: 'FNP' is not there" in done.stdout
    assert "1 failure" in done.stdout.splitlines()[-1]


@pytest.mark.slow
def test_another_backbone(detection, tmp_path):
    done = check(tmp_path, detection, "--backbone", "timm/resnet18")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "TimmBackbone puts out channels [128, 256, 512] at strides [8, 16, 32]" in done.stdout


@pytest.mark.slow
def test_an_absent_config(tmp_path):
    done = check(tmp_path, "none.py")
    said = done.stderr.splitlines()[-1]  # below what libraries warn of
    assert done.returncode == 1 and said.startswith("error: config 'none.py' does not exist")
