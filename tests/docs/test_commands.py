"""The commands of the documents are understood by the tools that they call."""

from __future__ import annotations

import argparse
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("docs", "configs")
FILES = (ROOT / "README.md", *(path for f in FOLDERS for path in sorted((ROOT / f).rglob("*.md"))))
# A line of its own, or the first cell of a table.
COMMAND = re.compile(r"^(?: *(?:python )?|\| `)(tools/\w+\.py)( [^`\n]*)?(?:`.*)?$", re.M)


def commands(*files: Path) -> list[tuple[str, str]]:
    """Tool and arguments of every command, continued lines as one."""
    texts = (re.sub(r"\\\n\s*", "", path.read_text()) for path in files or FILES)
    return sorted({match.groups("") for text in texts for match in COMMAND.finditer(text)})


def expanded(words: str) -> list[str]:
    """Words as a shell hands them over, without the `...` that stands for more of the same."""
    script = f"printf '%s\\0' {words}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    return [word for word in done.stdout.split("\0") if word not in ("", "...")]


class Understood(Exception):
    """Raised in place of the work."""


def test_there_are_commands():
    tools = {tool for tool, _ in commands()}
    named = {"train", "test", "check", "compose", "weights", "benchmark", "deploy"}
    assert tools >= {f"tools/{name}.py" for name in named}


@pytest.mark.parametrize(("tool", "words"), commands())
def test_command(tool, words, monkeypatch):
    def only(parse):
        def only_parse(self, args=None, namespace=None):
            parse(self, args, namespace)  # exits if it does not understand
            raise Understood

        return only_parse

    arguments = expanded(words)
    for argument in arguments:
        if argument.startswith("configs/"):
            assert (ROOT / argument.partition("@")[0]).exists(), argument
    for name in ("parse_args", "parse_intermixed_args"):
        parse = getattr(argparse.ArgumentParser, name)
        monkeypatch.setattr(argparse.ArgumentParser, name, only(parse))
    monkeypatch.setattr(sys, "argv", [tool, *arguments])
    with pytest.raises(Understood):
        runpy.run_path(str(ROOT / tool), run_name="__main__")


def test_the_cost_table_has_the_rows_of_the_command_above_it():
    """Whoever runs the page's command measures what the page shows."""
    page = ROOT / "docs" / "backbones.md"
    text = page.read_text()
    table = text.partition("<!-- cost: begin -->")[2].partition("<!-- cost: end -->")[0]
    shown = re.findall(r"^\| \d+=? \| (\S+) \|", table, flags=re.M)
    (words,) = (w for tool, w in commands(page) if "timm/resnet50:" in w)
    asked = expanded(words.partition(" --")[0])
    assert len(shown) == len(set(shown)) and set(shown) == set(asked)
