"""What CONTRIBUTING.md says of imports is so."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "mmplugins"
ROOMS = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}


def storeys() -> list[set[str]]:
    """Rooms by storey, the lowest first, from the line that tells them."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    (line,) = re.findall(r"\*\*Imports go down only\*\*: (.+?)\.", text, flags=re.S)
    return [set(re.findall(r"`(\w+)`", part)) for part in reversed(line.split(">"))]


def imported_rooms(file: Path) -> set[str]:
    """Rooms of the package that a file imports from, also inside functions."""
    found = set()
    package = ["mmplugins", *file.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = above + (node.module.split(".") if node.module else [])
            names = [[*module, alias.name] for alias in node.names]
        else:
            continue
        found |= {name[1] for name in names if name[0] == "mmplugins" and len(name) > 1}
    return found & ROOMS


def test_every_room_has_its_storey():
    rooms = [room for storey in storeys() for room in storey]
    assert sorted(rooms) == sorted(ROOMS)


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_imports_go_down_only(room):
    below: set[str] = set()
    for storey in storeys():
        if room in storey:
            break
        below |= storey
    for file in (PACKAGE / room).rglob("*.py"):
        upward = imported_rooms(file) - below - {room}
        assert not upward, f"{file.relative_to(ROOT)} imports from {', '.join(sorted(upward))}"
