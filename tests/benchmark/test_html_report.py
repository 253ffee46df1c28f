"""The HTML report: parsed as text, and opened in a real browser."""

from __future__ import annotations

import base64
import shutil
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from browser import find_chromium, opened
from made_up import LOST, ROWS, write_results

from mmplugins.benchmark.html_report import benchmark_section, html_page, write_html
from mmplugins.benchmark.report import make_report
from mmplugins.benchmark.results import read_results

PICTURES = 10  # accuracy, stages and memory at three sizes, growth


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    report = make_report(read_results(write_results(folder / "r.jsonl")))
    write_html(folder / "report.html", "A <title>", [benchmark_section(report, "Cost & more")])
    return folder / "report.html"


class Reader(HTMLParser):
    """Tables, pictures, text, and tags that were left open."""

    VOID = ("meta", "link", "img", "br")

    def __init__(self):
        super().__init__()
        self.open, self.tables, self.images, self.links, self.text = [], [], [], [], ""

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag not in self.VOID:
            self.open.append(tag)
        self.links += [v for k, v in attributes.items() if k in ("href", "src", "srcset")]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "img":
            self.images.append(attributes)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data


@pytest.fixture
def parsed(page):
    reader = Reader()
    reader.feed(page.read_text(encoding="utf-8"))
    reader.close()
    assert not reader.open
    return reader


def test_tables_hold_every_row(parsed):
    tables = [t for t in parsed.tables if t[0][:2] == ["#", "row"]]
    assert len(tables) == 3
    for table in tables:
        assert {line[1] for line in table[1:]} == {*ROWS, LOST}
        assert len({len(line) for line in table}) == 1
    (growth,) = [t for t in parsed.tables if t[0][:2] == ["row", "batch"]]
    assert ["caformer_s18", "1", "1.25"] in [line[:3] for line in growth]


def test_what_stands_in_results_is_text_and_no_markup(parsed):
    assert "A <title>" in parsed.text and "Cost & more" in parsed.text
    assert "A <Processor>" in parsed.text and f"{LOST}: <b>gone</b>" in parsed.text


def test_plots_are_inside_and_nothing_is_outside(parsed, page):
    assert len(parsed.images) == PICTURES and all(image["alt"] for image in parsed.images)
    for image in parsed.images:
        head, data = image["src"].split(",")
        assert head == "data:image/svg+xml;base64"
        assert ElementTree.fromstring(base64.b64decode(data)).tag.endswith("svg")
    assert all(link.startswith(("data:", "#")) for link in parsed.links)
    style = page.read_text(encoding="utf-8").partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style and "@import" not in style


def test_only_a_report_is_replaced(page, tmp_path):
    copy = shutil.copy(page, tmp_path / "report.html")
    write_html(copy, "Newer", [])
    assert "Newer" in copy.read_text() and list(tmp_path.iterdir()) == [copy]
    copy.write_text("<p>something else")
    with pytest.raises(FileExistsError, match="no report of this tool"):
        write_html(copy, "Newest", [])
    assert copy.read_text() == "<p>something else"


def test_several_sections_are_linked():
    from mmplugins.benchmark.html_report import Section

    text = html_page("T", [Section("one"), Section("two")])
    assert '<a href="#part1">two</a>' in text and 'id="part1"' in text


def test_without_chromium_the_package_is_named(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FileNotFoundError, match="package chromium-headless-shell"):
        find_chromium()


@pytest.mark.browser
def test_in_a_browser(page, tmp_path):
    with opened() as (browser, requests, errors):
        browser.goto(page.as_uri())
        browser.evaluate("Promise.all([...document.images].map(image => image.decode()))")
        widths = browser.evaluate("[...document.images].map(image => image.naturalWidth)")
        assert len(widths) == PICTURES and min(widths) > 100
        shown = "[...document.images].map(image => image.getBoundingClientRect().width)"
        assert min(browser.evaluate(shown)) > 300
        assert "A <Processor>" in browser.evaluate("document.body.innerText")
        rows = browser.evaluate("[...document.querySelectorAll('tbody')].map(t => t.rows.length)")
        assert len(rows) == 7 and min(rows) >= len(ROWS)
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert browser.evaluate(wide) == 0
        shot = browser.screenshot(path=tmp_path / "report.png", full_page=True)
        assert shot.startswith(b"\x89PNG") and len(shot) > 20_000

        column = "[...document.querySelector('tbody').rows].map(r => r.cells[{}].textContent)"
        click = "document.querySelectorAll('th')[{}].click()"
        names = browser.evaluate(
            "[...document.querySelectorAll('thead')[0].rows[0].cells].map(c => c.textContent)"
        )
        at = names.index("ms")
        fast = browser.evaluate(column.format(at))
        assert fast[-1] == "-"
        browser.evaluate(click.format(at))  # as it stands: fastest first
        assert browser.evaluate(column.format(at)) == fast
        browser.evaluate(click.format(at))
        assert browser.evaluate(column.format(at)) == [*fast[-2::-1], "-"]
        browser.evaluate(click.format(names.index("row")))
        labels = browser.evaluate(column.format(names.index("row")))
        assert sorted(labels) == labels and len(labels) == len(ROWS) + 1

    assert errors == []
    assert all(url.startswith(("file://", "data:")) for url in requests)
    assert sum(url.startswith("file://") for url in requests) == 1
