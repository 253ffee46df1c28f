"""The tests themselves: each asserts something."""

from __future__ import annotations

import ast
from pathlib import Path

TESTS = Path(__file__).parent
TREES = {path: ast.parse(path.read_text()) for path in sorted(TESTS.rglob("*.py"))}
PYTEST = {"pytest.raises", "pytest.warns", "pytest.fail"}


def called(node: ast.AST) -> set[str]:
    """Names of the functions that are called below a node."""
    return {ast.unparse(one.func) for one in ast.walk(node) if isinstance(one, ast.Call)}


def asserts(node: ast.AST, helpers: set[str]) -> bool:
    names = called(node)
    return (
        any(isinstance(one, ast.Assert) for one in ast.walk(node))
        or bool(names & (PYTEST | helpers))
        or any(name.rpartition(".")[2].startswith("assert") for name in names)
    )


def functions(tree: ast.AST) -> list[ast.FunctionDef]:
    return [one for one in ast.walk(tree) if isinstance(one, ast.FunctionDef)]


def asserting_helpers() -> set[str]:
    """Functions of the tests that assert, or call one that does."""
    every = [one for tree in TREES.values() for one in functions(tree)]
    found: set[str] = set()
    while True:
        more = {one.name for one in every if asserts(one, found)} - found
        if not more:
            return found
        found |= more


def test_every_test_asserts_something():
    helpers = asserting_helpers()
    tests = [
        (path, one)
        for path, tree in TREES.items()
        if path.name.startswith("test_")
        for one in tree.body
        if isinstance(one, ast.FunctionDef) and one.name.startswith("test_")
    ]
    assert len(tests) > 1000
    bare = [f"{path.name}:{one.lineno}" for path, one in tests if not asserts(one, helpers)]
    assert bare == []


def test_no_test_is_in_a_class_that_pytest_passes_over():
    """Tests are functions; a class would hide them from the rule above."""
    classes = [
        f"{path.name}: {one.name}"
        for path, tree in TREES.items()
        for one in ast.walk(tree)
        if isinstance(one, ast.ClassDef) and one.name.startswith("Test")
    ]
    assert classes == []
