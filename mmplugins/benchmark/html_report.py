"""One HTML file that shows everything: tables, plots, and how and on what it was measured.

Plots are in the file as SVG, styles and the few lines of script that sort tables too: it needs
nothing else and asks no network, so that it can be mailed, archived and opened anywhere.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from mmplugins.utils import write_whole

from .plots import plots_of
from .tables import notes_of, sections
from .text_tables import WORDS, Titled

GENERATOR = '<meta name="generator" content="mmplugins">'
"""How a report is known again."""

STYLE = """
:root { color-scheme: light; --ink: #1d232a; --faint: #5d6772; --line: #dde2e7; --back: #f6f7f9; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 28px 24px 60px; }
h1 { font-size: 27px; margin: 0 0 4px; letter-spacing: -0.01em; }
h2 { font-size: 20px; margin: 40px 0 6px; padding-top: 14px; border-top: 2px solid var(--ink); }
h3 { font-size: 15px; margin: 24px 0 8px; }
p, li { color: var(--faint); margin: 4px 0; }
nav a { margin-right: 16px; color: #0b5fa5; }
.card { background: white; border: 1px solid var(--line); border-radius: 8px;
  padding: 4px 14px 10px; overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 14px; }
th { text-align: right; color: var(--faint); font-weight: 600; padding: 8px 11px;
  border-bottom: 1px solid var(--ink); cursor: pointer; white-space: nowrap; }
th:focus-visible { outline: 2px solid #0b5fa5; }
th[aria-sort=ascending]::after { content: " \\2191"; }
th[aria-sort=descending]::after { content: " \\2193"; }
td { text-align: right; padding: 5px 11px; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
tbody tr:last-child td { border-bottom: 0; }
tbody tr:hover td { background: #eef4fa; }
.name { text-align: left; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(460px, 1fr)); gap: 16px;
  align-items: start; }
figure { margin: 0; background: white; border: 1px solid var(--line); border-radius: 8px;
  padding: 12px; }
figure img { display: block; width: 100%; height: auto; }
.environment { columns: 2; column-gap: 40px; font-size: 13px; }
.environment div { break-inside: avoid; } .environment b { font-weight: 600; color: var(--ink); }
@media (max-width: 560px) { .plots { grid-template-columns: 1fr; } .environment { columns: 1; } }
@media print { body { background: white; } th { cursor: auto; } }
"""

SCRIPT = (
    f"const WORDS = {json.dumps(WORDS)};"
    + """
const number = text => {
  const found = text.replace(/,/g, "").match(/^[=~<]*\\s*(-?\\d+(\\.\\d+)?)/);
  return found ? parseFloat(found[1]) : NaN;
};
function sort(heading) {
  const table = heading.closest("table"), body = table.tBodies[0], at = heading.cellIndex;
  const down = heading.getAttribute("aria-sort") === "ascending";
  for (const other of heading.parentNode.cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", down ? "descending" : "ascending");
  const text = row => row.cells[at].textContent;
  const byNumber = !heading.classList.contains("name");
  const sign = down ? -1 : 1;
  const compare = (a, b) => {
    const [x, y] = [number(text(a)), number(text(b))];
    if (!byNumber || (isNaN(x) && isNaN(y))) return sign * text(a).localeCompare(text(b));
    return isNaN(x) || isNaN(y) ? isNaN(x) - isNaN(y) : sign * (x - y);
  };
  [...body.rows].sort(compare).forEach(row => body.append(row));
}
for (const heading of document.querySelectorAll("th")) {
  heading.scope = "col";
  heading.tabIndex = 0;
  const rows = WORDS.includes(heading.textContent) ? heading.closest("table").rows : [];
  for (const row of rows) row.cells[heading.cellIndex].className = "name";
  heading.addEventListener("click", () => sort(heading));
  heading.addEventListener("keydown", e => { if (e.key === "Enter") sort(heading); });
}
"""
)


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
    body = "\n".join(_section(part, i) for i, part in enumerate(parts))
    links = "".join(f'<a href="#part{i}">{escape(p.title)}</a>' for i, p in enumerate(parts))
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n{GENERATOR}\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{escape(title)}</h1>\n<nav>{links if len(parts) > 1 else ''}</nav>\n{body}\n</main>\n"
        f"<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


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


def _section(part: Section, number: int) -> str:
    pieces = [f'<section id="part{number}">\n<h2>{escape(part.title)}</h2>']
    if part.plots:
        images = "\n".join(map(_image, part.plots.values()))
        pieces.append(f'<div class="plots">\n{images}\n</div>')
    for title, data in part.tables:
        pieces.append(f'<h3>{escape(title)}</h3>\n<div class="card">{_table(data)}</div>')
    pieces += [f"<p>{escape(note)}</p>" for note in part.notes]
    if part.environment:
        pieces.append(f"<h3>Machine, versions, settings</h3>\n{_environment(part.environment)}")
    return "\n".join([*pieces, "</section>"])


def _table(data: pd.DataFrame) -> str:
    return data.to_html(index=False, border=0, justify="unset")


def _image(figure: Figure) -> str:
    text = escape(figure.axes[0].get_title("left"), quote=True)
    file = io.BytesIO()
    with rc_context({"svg.hashsalt": "mmplugins"}):  # the same plot, the same bytes
        figure.savefig(file, format="svg", metadata={"Date": None})
    data = base64.b64encode(file.getvalue()).decode()
    source = f"data:image/svg+xml;base64,{data}"
    return f'<figure><img src="{source}" alt="{text}"></figure>'


def _environment(environment: Mapping[str, Any]) -> str:
    lines = []
    for name, value in environment.items():
        if isinstance(value, Mapping):
            value = ", ".join(f"{k} {v}" for k, v in value.items())
        elif isinstance(value, list | tuple):
            value = ", ".join(map(str, value))
        if value is not None:
            label = escape(str(name).replace("_", " "))
            lines.append(f"<div><b>{label}</b> {escape(str(value))}</div>")
    return f'<div class="card environment">{"".join(lines)}</div>'
