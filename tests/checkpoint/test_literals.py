"""Python values read from text."""

from __future__ import annotations

import pytest

from mmplugins.checkpoint.config_text import literal


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (" [dict(type='A', lr=1e-3), {'b': (1, -2)}] ", [dict(type="A", lr=1e-3), {"b": (1, -2)}]),
        ("dict(a=dict(b=None), c=[True])", dict(a=dict(b=None), c=[True])),
    ],
)
def test_values(text, value):
    assert literal(text) == value


@pytest.mark.parametrize("text", ["dict(type=A)", "dict([('a', 1)])", "open('f')", "dict(**a)"])
def test_nothing_else_is_read_or_run(text):
    with pytest.raises(ValueError):
        literal(text)


def test_no_python():
    with pytest.raises(SyntaxError):
        literal("dict(type='A'")
