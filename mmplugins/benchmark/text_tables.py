"""Frames of text as Markdown, for the terminal and as HTML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table

from mmplugins.console import as_text
from mmplugins.utils import printable

Titled = tuple[str, pd.DataFrame]
"""Title, and a frame of text."""

WORDS = ("row", "other", "backbone", "task", "note", "source", "order", "verdict")
"""Columns of words, which stand left and sort by letter; all others are of numbers."""

LONG = ("row", "note")
"""Columns that may break in a narrow terminal."""

NONE = "-"
"""What stands where nothing is known."""


MIB = 2**20


def scaled(value: float | None, unit: float, digits: int = 1) -> str:
    """A number in a unit, for a cell."""
    return NONE if value is None else f"{value / unit:,.{digits}f}"


def frame(lines: Sequence[dict[str, str]]) -> pd.DataFrame:
    """A frame of text without the columns that no line fills."""
    found = pd.DataFrame(list(lines), dtype=str).fillna(NONE)
    return found.loc[:, (found != NONE).any()] if len(found) else found


def as_words(value: object) -> str:
    """A value of an environment or of settings as text; those in a list or mapping one by one."""
    if isinstance(value, Mapping):
        value = [f"{name} {part}" for name, part in value.items()]
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def markdown_text(tables: Iterable[Titled], notes: Iterable[str]) -> str:
    """All tables, and the notes below them."""
    parts = []
    for title, data in tables:
        escaped = data.map(lambda cell: printable(cell).replace("|", "\\|"))
        sides = ["left" if name in WORDS else "right" for name in data.columns]
        text = escaped.to_markdown(index=False, colalign=sides, disable_numparse=True)
        parts.append(f"**{title}**\n\n{text}")
    return "\n\n".join([*parts, *notes]) + "\n"


def terminal_tables(tables: Iterable[Titled]) -> list[Table]:
    """All tables, to be printed on a rich console."""
    found = []
    for title, data in tables:
        table = Table(title=title, box=SIMPLE_HEAD, title_justify="left")
        for name in data.columns:
            justify = "left" if name in WORDS else "right"
            table.add_column(name, justify=justify, no_wrap=name not in LONG)
        for line in data.itertuples(index=False):
            table.add_row(*map(as_text, line))
        found.append(table)
    return found
