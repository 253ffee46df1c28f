"""docs/architecture.md is so: storeys, what each room imports, and no circle among files."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "mmplugins"
ROOMS = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
TABLE = {  # storey and imports by room
    room: (int(storey), set(re.findall(r"`(\w+)`", imports)))
    for storey, room, imports in re.findall(
        r"^\| (\d) \| `(\w+)` \| [^|]+ \| ([^|]+) \|$",
        (ROOT / "docs" / "architecture.md").read_text(),
        flags=re.M,
    )
}


def imports(file: Path) -> Iterator[tuple[str, ...]]:
    """Dotted names of the package that a file imports, also inside functions."""
    package = ["mmplugins", *file.relative_to(PACKAGE).parts[:-1]]
    nodes = [ast.parse(file.read_text())]
    while nodes:
        node = nodes.pop()
        nodes.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = above + (node.module.split(".") if node.module else [])
            names = [[*module, alias.name] for alias in node.names]
        else:
            continue
        yield from (tuple(name) for name in names if name[0] == "mmplugins" and len(name) > 1)


def imported_rooms(room: str) -> set[str]:
    files = list((PACKAGE / room).rglob("*.py"))
    assert files
    return {name[1] for file in files for name in imports(file)} & ROOMS - {room}


def test_every_room_has_its_storey():
    assert set(TABLE) == ROOMS


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_imports_go_down_only(room):
    storey, _ = TABLE[room]
    assert {other for other in imported_rooms(room) if TABLE[other][0] >= storey} == set()


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_the_table_names_what_a_room_imports(room):
    assert TABLE[room][1] == imported_rooms(room)


def test_what_is_imported_by_name_is_told():
    """``import_module("mmplugins.ROOM...")`` escapes the table, so the page names each."""
    found = set()
    for file in PACKAGE.rglob("*.py"):
        calls = (
            node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)
        )
        texts = (a.value for c in calls for a in c.args if isinstance(a, ast.Constant))
        rooms = {m[1] for text in texts if (m := re.match(r"mmplugins\.(\w+)", str(text)))} & ROOMS
        found |= {(file.relative_to(PACKAGE).parts[0], room) for room in rooms}
    page = " ".join((ROOT / "docs" / "architecture.md").read_text().split())
    upward = {pair for pair in found if TABLE[pair[1]][0] >= TABLE[pair[0]][0]}
    assert upward == set(re.findall(r"`(\w+)` reaches up to `(\w+)`", page)) and len(upward) == 2


WAYS = (ROOT / "docs" / "architecture.md").read_text().split("\n## ")[1:]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.partition("\n")[0])
def test_the_ways_name_what_is_there(way):
    """Files, and functions, classes and arguments, wherever the package has them."""
    files = {file.name for file in PACKAGE.rglob("*.*")}
    source = "\n".join(file.read_text() for file in PACKAGE.rglob("*.py"))
    told = re.findall(r"`([\w.]+)(?:\(\))?`", way)
    assert told
    for name in told:
        if "." in name:
            assert name in files
        else:
            assert re.search(rf"^\s*(def|class) {name}\b|^\s+{name}: ", source, re.M), name


def module_of(name: tuple[str, ...]) -> Path | None:
    """The file that an imported name comes from: a module, or the package or module around it."""
    for parts in (name, name[:-1]):
        path = PACKAGE.joinpath(*parts[1:])
        if path.with_suffix(".py").is_file() and parts[1:]:
            return path.with_suffix(".py")
        if (path / "__init__.py").is_file() and parts[1:]:
            return path / "__init__.py"
    return None


@pytest.mark.parametrize("file", ["utils.py", "console.py", "version.py"])
def test_what_every_room_may_import_imports_no_room(file):
    assert not {name[1] for name in imports(PACKAGE / file)} & ROOMS


def test_no_file_imports_itself_by_others():
    """Not even inside of a function, or by way of a package's own ``__init__``."""
    files = [file for file in PACKAGE.rglob("*.py") if ".mim" not in file.parts]
    graph = {file: {module_of(name) for name in imports(file)} - {None, file} for file in files}
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError, with the circle
    assert len(graph) > 100 and set(graph) <= set(order)
