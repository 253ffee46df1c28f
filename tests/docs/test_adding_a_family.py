"""The guide to a new family, done word for word in a copy: the contract then holds the family."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "adding_a_family.md").read_text()
FAMILY, REGISTRATION = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)


DEPTHS, DIMS = (2, 2, 6, 2), (64, 128, 320, 512)


def parameters() -> int:
    """Those of the guide's S12, counted by hand: convolutions and biases, norms, mixers, MLPs."""
    stem = 3 * 64 * 7 * 7 + 64
    downsampling = sum(9 * d * e + e for d, e in zip(DIMS, DIMS[1:], strict=False))
    blocks = sum(
        n * (4 * d + 2 * (7 * d + d) + 8 * d * d + 5 * d) for n, d in zip(DEPTHS, DIMS, strict=True)
    )
    return stem + downsampling + blocks


@pytest.fixture
def copy(tmp_path):
    """A checkout with the family of the guide in it."""
    ignore = shutil.ignore_patterns("__pycache__", ".mim")
    shutil.copytree(ROOT / "mmplugins", tmp_path / "mmplugins", ignore=ignore)
    shutil.copytree(ROOT / "tests" / "backbones", tmp_path / "tests" / "backbones", ignore=ignore)
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path / "tests")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    room = tmp_path / "mmplugins" / "backbones"
    (room / "stripformer.py").write_text(FAMILY)
    offered = (room / "__init__.py").read_text()
    last = "from .token_mixers import TOKEN_MIXERS\n"
    assert last in offered
    offered = offered.replace(last, last + REGISTRATION)
    (room / "__init__.py").write_text(offered.replace('"sMLPNet",', '"StripFormer", "sMLPNet",'))
    contract = tmp_path / "tests" / "backbones" / "test_contract.py"
    counted = f"BODY = {{\n    'stripformer': dict(s12={parameters()}),"
    contract.write_text(contract.read_text().replace("BODY = {", counted, 1))
    return tmp_path


def run(folder: Path, *arguments: str) -> str:
    """Run Python on the copy in place of the installed package."""
    environment = os.environ | {"PYTHONPATH": str(folder), "MMPLUGINS_HOOK": "off"}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_the_family_of_the_guide_keeps_the_contract(copy):
    code = "import mmplugins as m; print(m.__file__, 'stripformer_s12' in m.list_backbones())"
    file, known = run(copy, "-c", code).split()
    assert Path(file).is_relative_to(copy) and known == "True"
    contract = "tests/backbones/test_contract.py"
    said = run(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", contract, "-k", "stripformer")
    passed = int(re.search(r"(\d+) passed", said)[1])
    assert passed >= 20, said
