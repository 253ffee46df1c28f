"""The site holds every page, and opens in a browser without an error or a request elsewhere."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import yaml
from browser import opened

ROOT = Path(__file__).parents[2]


def pages(nav: list | dict | str) -> list[str]:
    """All pages of a navigation, in order."""
    if isinstance(nav, str):
        return [nav]
    return [
        page for part in (nav.values() if isinstance(nav, dict) else nav) for page in pages(part)
    ]


def test_the_navigation_leads_to_every_page():
    nav = pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    guides = {path.relative_to(ROOT / "docs").as_posix() for path in ROOT.glob("docs/**/*.md")}
    families = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("configs/**/README.md")}
    made = {"index.md", "configs/all.md"}
    at_the_top = {name for name in nav if (ROOT / name).is_file() and "/" not in name}
    assert len(nav) == len(set(nav))
    assert set(nav) == guides | families | made | at_the_top
    assert {"CHANGELOG.md", "CONTRIBUTING.md"} <= at_the_top and len(families) > 9


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Leave the console to the tests."""


@pytest.fixture
def address(tmp_path):
    """Where the site is served, on this machine alone."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.mark.browser
def test_the_site_in_a_browser(tmp_path, address):
    site = tmp_path / "site"
    metafiles = [yaml.safe_load(path.read_text()) for path in ROOT.glob("configs/*/metafile.yml")]
    models = [model for metafile in metafiles for model in metafile["Models"]]
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with opened(timeout=120) as (browser, requests, errors):
        for name, heading in [
            ("index", "mmplugins"),
            ("own_token_mixer", "Your own token mixer, in a detector and a segmentor"),
            ("api/backbones", "Backbones"),
            ("configs/all", "All configs"),
        ]:
            browser.goto(f"{address}site/{name}.html")
            text = browser.evaluate("document.querySelector('article h1').innerText")
            assert text.rstrip("\u00b6").strip() == heading
        rows = browser.evaluate("document.querySelectorAll('article tbody tr').length")
        assert rows == len(models)
        assert browser.screenshot(full_page=True).startswith(b"\x89PNG")
    assert all(request.startswith((address, "data:", "blob:")) for request in requests)
    assert not errors
