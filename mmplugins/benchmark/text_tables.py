"""Tables of text as Markdown and for the terminal: a title each, and lines, the first a heading."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

Titled = tuple[str, Sequence[Sequence[str]]]
"""Title, and lines of which the first is the heading."""

WORDS = ("row", "backbone", "task", "note", "source")
"""Columns of words, which stand left and sort by letter; all others are of numbers."""

LONG = ("row", "note")
"""Columns that may break in a narrow terminal."""


def markdown_text(tables: Iterable[Titled], notes: Iterable[str]) -> str:
    """All tables, and the notes below them."""
    parts = []
    for title, (heading, *lines) in tables:
        rule = ["---" if name in WORDS else "---:" for name in heading]
        cells = [[cell.replace("|", "\\|") for cell in line] for line in [heading, rule, *lines]]
        rows = "\n".join(f"| {' | '.join(line)} |" for line in cells)
        parts.append(f"**{title}**\n\n{rows}")
    return "\n\n".join([*parts, *notes]) + "\n"


def terminal_tables(tables: Iterable[Titled]) -> list[Table]:
    """All tables, to be printed on a rich console."""
    found = []
    for title, (heading, *lines) in tables:
        table = Table(title=title, box=SIMPLE_HEAD, title_justify="left")
        for name in heading:
            justify = "left" if name in WORDS else "right"
            table.add_column(name, justify=justify, no_wrap=name not in LONG)
        for line in lines:
            table.add_row(*map(escape, line))
        found.append(table)
    return found
