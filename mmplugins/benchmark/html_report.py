"""One HTML file that shows everything: tables, plots, and how and on what it was measured.

The template ``report.html`` has its form, its style, and the script that sorts tables. Plots are in
the file as SVG: it needs nothing else and asks no network, so that it can be mailed, archived and
opened anywhere.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from matplotlib import rc_context
from matplotlib.figure import Figure

from mmplugins.utils import write_whole

from .plots import plots_of
from .tables import notes_of, sections
from .text_tables import WORDS, Titled, as_words

GENERATOR = '<meta name="generator" content="mmplugins">'
"""How a report is known again."""


@dataclass
class Section:
    """A part of a report.

    Attributes:
        title: Heading.
        tables: Titles and frames of text.
        plots: Figures by name; their titles are read to those who cannot see them.
        notes: Sentences below the tables.
        environment: Settings, machine and versions.
    """

    title: str
    tables: Sequence[Titled] = ()
    plots: Mapping[str, Figure] = field(default_factory=dict)
    notes: Sequence[str] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)


def benchmark_section(report: Mapping[str, Any], title: str) -> Section:
    """What a benchmark report comes to, see :func:`.report.make_report`."""
    environment = {**report["environment"], **report["settings"]}
    return Section(title, sections(report), plots_of(report), notes_of(report), environment)


def html_page(title: str, parts: Sequence[Section]) -> str:
    """A whole report as one HTML document."""
    folder = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=folder, autoescape=True, keep_trailing_newline=True)
    environment.filters.update(picture=_picture, words=as_words)
    template = environment.get_template("report.html")
    return template.render(title=title, parts=parts, words=WORDS)


def write_html(path: str | Path, title: str, parts: Sequence[Section]) -> None:
    """Write a report aside and rename it; an older report of the same name is replaced.

    Raises:
        FileExistsError: If the file is there and is no report.
    """
    path = Path(path)
    if path.exists() and GENERATOR not in path.read_text(encoding="utf-8", errors="replace")[:500]:
        raise FileExistsError(
            f"{path} exists and is no report of this tool: give another name, or remove it"
        )
    write_whole(path, html_page(title, parts))


def _picture(figure: Figure) -> str:
    """A figure as the address of an SVG that holds its data."""
    file = io.BytesIO()
    with rc_context({"svg.hashsalt": "mmplugins"}):  # the same plot, the same bytes
        figure.savefig(file, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(file.getvalue()).decode()}"
