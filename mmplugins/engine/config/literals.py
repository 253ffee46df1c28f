"""Python values in the text of a command line, read and not run."""

from __future__ import annotations

import ast
from typing import Any


def literal(text: str) -> Any:
    """The value of a literal in which ``dict(name=value)`` may stand for ``{'name': value}``.

    Args:
        text: For example ``"[dict(type='EMAHook', momentum=0.0002)]"``.

    Raises:
        SyntaxError: If it is no Python.
        ValueError: If it holds names or calls other than ``dict``.
        TypeError: If a key cannot be one.
    """
    return _value(ast.parse(text.strip(), mode="eval").body)


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call):
        named = isinstance(node.func, ast.Name) and node.func.id == "dict" and not node.args
        if not named or any(word.arg is None for word in node.keywords):
            raise ValueError("a call")
        return {word.arg: _value(word.value) for word in node.keywords}
    if isinstance(node, ast.Dict):
        keys = [ast.literal_eval(key) for key in node.keys]
        return dict(zip(keys, map(_value, node.values), strict=True))
    if isinstance(node, ast.List | ast.Tuple):
        values = [_value(value) for value in node.elts]
        return values if isinstance(node, ast.List) else tuple(values)
    return ast.literal_eval(node)
