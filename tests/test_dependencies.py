"""What setup.py asks for is what the package imports, and the lock files hold all of it."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LINES = ("openmmlab", "onedl")
DISTRIBUTIONS = {"PIL": "pillow", "yaml": "pyyaml"}
"""Names of distributions that differ from what is imported."""
FROM_THE_LINES = {"mmengine", "mmcv", "mmdet", "mmseg", "cv2"}
"""From an extra, under names that differ by line; OpenCV comes with them."""
WHERE_INSTALLED = {
    "mlflow", "mmpretrain", "nncf", "onnxruntime", "onnxscript", "openvino", "pynvml", "submitit",
    "triton",
}  # fmt: skip
"""Imported behind a look at whether they are there."""


def asked() -> dict[str, list[Requirement]]:
    """Requirements of setup.py by extra, those of the package itself under an empty name."""
    (call,) = (
        node.value
        for node in ast.parse((ROOT / "setup.py").read_text()).body
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and getattr(node.value.func, "id", "") == "setup"
    )
    values = {keyword.arg: keyword.value for keyword in call.keywords}
    found = {"": ast.literal_eval(values["install_requires"])}
    found |= ast.literal_eval(values["extras_require"])
    return {extra: [Requirement(line) for line in lines] for extra, lines in found.items()}


def imported() -> set[str]:
    """Top-level modules that package and tools import, the standard library left out."""
    modules = set()
    for folder in ("mmplugins", "tools"):
        for file in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Import):
                    modules |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    modules.add(node.module.partition(".")[0])
    return modules - set(sys.stdlib_module_names) - {"mmplugins"}


def locked(line: str) -> dict[str, list[Requirement]]:
    """What a lock file pins, by name; several where it differs by Python."""
    pins: dict[str, list[Requirement]] = {}
    for text in (ROOT / f"requirements/{line}.lock.txt").read_text().splitlines():
        if text and not text.startswith("#"):
            pin = Requirement(text)
            pins.setdefault(canonicalize_name(pin.name), []).append(pin)
    return pins


def test_what_is_imported_is_asked_for():
    core = {canonicalize_name(requirement.name) for requirement in asked()[""]}
    needed = imported() - FROM_THE_LINES - WHERE_INSTALLED
    assert {"torch", "timm"} <= needed
    assert {canonicalize_name(DISTRIBUTIONS.get(name, name)) for name in needed} == core


@pytest.mark.parametrize("line", LINES)
def test_a_lock_pins_what_is_asked_for_within_its_bounds(line):
    pins, extras = locked(line), asked()
    optional = ("benchmark", "tensorboard", "export", "openvino", "int8", "test", "docs")
    for extra in ("", line, *optional):
        for requirement in extras[extra]:
            name = canonicalize_name(requirement.name)
            if name == "setuptools":
                continue  # torch bounds it by itself
            assert name in pins, f"{requirement} of {extra or 'the package'}"
            for pin in pins[name]:
                (specifier,) = pin.specifier
                assert specifier.operator == "==", pin
                assert requirement.specifier.contains(specifier.version), (pin, requirement)


@pytest.mark.parametrize("line", LINES)
def test_a_lock_names_one_version_for_each_python(line):
    for name, pins in locked(line).items():
        for minor in range(10, 14):
            python = {"python_version": f"3.{minor}"}
            valid = [pin for pin in pins if not pin.marker or pin.marker.evaluate(python)]
            assert len(valid) <= 1, name


def test_the_hooks_ruff_is_the_locked_one():
    (rev,) = re.findall(r"rev: v(.+)", (ROOT / ".pre-commit-config.yaml").read_text())
    for line in LINES:
        assert [str(pin.specifier) for pin in locked(line)["ruff"]] == [f"=={rev}"]


def test_the_lines_share_no_lock():
    """They share their module names: a lock of one must not bring the other."""
    upstream, fork = (asked()[line] for line in LINES)
    names = [
        {canonicalize_name(requirement.name) for requirement in line} for line in (upstream, fork)
    ]
    names[0] -= {"ftfy", "regex"}
    assert not names[0] & set(locked("onedl")) and not names[1] & set(locked("openmmlab"))
