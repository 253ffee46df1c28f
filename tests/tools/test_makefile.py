"""The commands of the README exist."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def make(tmp_path):
    """Run make as in a fresh checkout, whatever make this test itself was started by."""
    for name in ("Makefile", "setup.py"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    ours = ("LINE", "PYTHON", "TORCH", "VIRTUAL_ENV")
    fresh = {k: v for k, v in os.environ.items() if k not in ours}
    fresh = {k: v for k, v in fresh.items() if not k.startswith("MAKE") and k != "MFLAGS"}

    def run(*args: str) -> str:
        command = ["make", *args]
        done = subprocess.run(
            command, cwd=tmp_path, env=fresh, capture_output=True, text=True, check=True
        )
        return done.stdout

    return run


def test_help_is_the_default_and_lists_the_commands(make):
    said = make()
    for target in ("demo", "test", "test-all", "lint", "types", "docs", "coverage", "clean"):
        assert f"make {target} " in said


@pytest.mark.parametrize(
    ("target", "packages"),
    [
        ("lint", ["ruff"]),
        ("types", ["mypy", "types-PyYAML"]),
        ("docs", ["mkdocs-material", '"mkdocstrings[python]"']),
    ],
)
def test_what_reads_sources_needs_its_tool_alone(target, packages, make):
    plan = make("--dry-run", target)
    (install,) = [line for line in plan.splitlines() if "pip install" in line]
    asked = install.partition(" --constraint ")[2].split()
    assert asked == ["requirements/openmmlab.lock.txt", *packages]


def test_a_line_has_its_own_environment_and_lock(make):
    plan = make("--dry-run", "test", "LINE=onedl")
    assert "-m venv .venv-onedl" in plan
    assert (
        "--constraint requirements/onedl.lock.txt" in plan
        and '".[onedl,export,tensorboard,test]"' in plan
    )


def test_another_torch_comes_after_the_tested_one(make):
    plan = make("--dry-run", "test", "TORCH=2.4.1")
    installs = [line for line in plan.splitlines() if " -m pip install" in line]
    assert len(installs) == 2 and installs[1].endswith('"torch==2.4.1" torchvision')
    assert "torch==" not in make("--dry-run", "test")
