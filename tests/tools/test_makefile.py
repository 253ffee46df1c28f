"""The commands of the README exist."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def make(*args: str) -> str:
    done = subprocess.run(["make", *args], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout


def test_help_is_the_default_and_lists_the_commands():
    said = make()
    for target in ("demo", "test", "lint", "clean"):
        assert f"make {target} " in said


def test_lint_needs_ruff_alone(tmp_path):
    plan = make("--dry-run", "lint", f"VIRTUAL_ENV={tmp_path}")
    (install,) = [line for line in plan.splitlines() if "pip install" in line]
    assert install.split()[-3:] == ["--constraint", "requirements/openmmlab.lock.txt", "ruff"]


def test_a_line_has_its_own_environment_and_lock():
    plan = make("--dry-run", "test", "LINE=onedl", "VIRTUAL_ENV=")
    assert "-m venv .venv-onedl" in plan
    assert "--constraint requirements/onedl.lock.txt" in plan and '".[onedl,test]"' in plan
