"""Checks of the fields of a protocol, which come from files that people write."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

_EXPECTED = {
    str: "text (in quotes, where YAML would read something else)",
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
    Mapping: "keys and values",
}


def check_count(name: str, value: Any, least: int = 1) -> None:
    """See that a number of steps, pictures or trainings is one.

    Raises:
        ValueError: If it is not.
    """
    if not _fits(value, int) or value < least:
        raise ValueError(f"{name}={value!r}: expected a whole number of {least} or more")


def check_fields(one: Any, where: str = "") -> None:
    """See that the fields of a dataclass hold what their types say; its lists become tuples.

    Args:
        one: Of a dataclass.
        where: What its message begins with.

    Raises:
        ValueError: If a field holds something else.
    """
    for name, hint in get_type_hints(type(one)).items():
        if isinstance(value := getattr(one, name), list):
            object.__setattr__(one, name, value := tuple(value))
        if not _fits(value, hint):
            raise ValueError(f"{where}{name} is {value!r}: expected {_expected(hint)}")


def _fits(value: Any, hint: Any) -> bool:
    kind, inner = get_origin(hint) or hint, get_args(hint)
    if kind is UnionType:
        return any(_fits(value, each) for each in inner)
    if kind is tuple:
        if not isinstance(value, tuple) or (inner[1] is not ... and len(value) != len(inner)):
            return False
        return all(_fits(each, inner[0]) for each in value)
    if kind is float:
        return type(value) in (int, float) and math.isfinite(value)
    return type(value) is int if kind is int else isinstance(value, kind)


def _expected(hint: Any) -> str:
    kind, inner = get_origin(hint) or hint, get_args(hint)
    if kind is UnionType:
        return " or ".join(_expected(each) for each in inner if each is not type(None))
    if kind is tuple:
        return f"a list, each {_expected(inner[0])}" + (
            "" if inner[1] is ... else f", {len(inner)} of them"
        )
    return _EXPECTED.get(kind, kind.__name__)
