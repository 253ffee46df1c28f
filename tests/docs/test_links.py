"""What the documents point at is there: files, headings, tools, configs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "configs/*.md", "configs/*/*.md")
    for path in ROOT.glob(pattern)
)
LINK = re.compile(r"\]\(([^)\s]+)\)")
FOLDERS = "configs|docs|hook|mmplugins|requirements|tests|tools"
PATH = re.compile(rf"(?<![\w/.])(?:{FOLDERS})/[\w./-]+\b(?![\w./-]*[{{*])")


def without_code(text: str) -> str:
    return re.sub(r"^( *)```.*?^\1```", "", text, flags=re.S | re.M)


def anchors(text: str) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", without_code(text), flags=re.M)
    words = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in words}


def test_there_are_documents():
    assert {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "configs/README.md"} <= set(DOCUMENTS)
    assert sum(name.startswith("docs/") for name in DOCUMENTS) >= 5


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name):
    links = LINK.findall(without_code((ROOT / name).read_text()))
    assert links or name.startswith("docs/")
    for link in links:
        if link.startswith(("https://", "http://")):
            continue
        file, _, anchor = link.partition("#")
        target = (ROOT / name).parent / file if file else ROOT / name
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text()), link


@pytest.mark.parametrize("name", DOCUMENTS)
def test_files_that_are_named_exist(name):
    text = re.sub(r"\S*\.\.\.\S*", "", (ROOT / name).read_text())  # left open on purpose
    for path in PATH.findall(text):
        assert (ROOT / path).exists(), path
