"""Text of users is shown as it is, and moves no terminal."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text

from mmplugins.console import Console, as_text
from mmplugins.utils import one_line_errors, printable

RED = "\x1b[31mcat\x07\x9b0m\u202e"
ROOT = Path(__file__).parents[1]


def test_control_characters_are_shown_as_what_they_are():
    assert printable(RED) == r"\x1b[31mcat\x07\x9b0m\u202e"
    assert printable("café 猫 \t two\nlines") == "café 猫 \t two\nlines"


def shown(thing: object, **options: object) -> str:
    file = io.StringIO()
    Console(file=file, width=80, **options).print(thing)
    return file.getvalue()


@pytest.mark.parametrize("kind", [str, Text])
def test_a_console_shows_them_in_text_and_in_tables(kind):
    table = Table("name", title=kind(RED))
    table.add_row(kind(RED))
    for thing in (kind(RED), table):
        text = shown(thing, markup=False)
        assert r"\x1b[31mcat" in text and r"\u202e" in text
        assert not re.search(r"[\x07\x1b\x9b\u202e]", text)


def test_nothing_of_a_cell_is_cut_off():
    table = Table("name")
    table.add_row(as_text(RED))
    assert r"\x1b[31mcat\x07\x9b0m\u202e" in shown(table)


def test_its_own_colours_are_left():
    text = shown(Text(RED, style="bold"), force_terminal=True)
    assert text.startswith("\x1b[1m") and r"\x1b[31mcat" in text


def test_errors_are_shown_so_too():
    with pytest.raises(SystemExit) as stopped, one_line_errors(ValueError):
        raise ValueError(RED)
    assert stopped.value.code == r"error: \x1b[31mcat\x07\x9b0m\u202e"


def test_nobody_prints_with_rich_s_own():
    files = [*ROOT.glob("tools/*.py"), *ROOT.glob("mmplugins/**/*.py")]
    own = [f.name for f in files if re.search(r"rich\.console import.*\bConsole\b", f.read_text())]
    assert own == []
