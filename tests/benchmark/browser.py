"""A page in headless Chromium, driven by Playwright: what it asks for, what goes wrong in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
MISSING = (
    "no Chromium found (looked for {}): install the Debian package chromium-headless-shell "
    "(apt-get install chromium-headless-shell), or leave these tests out with -m 'not browser'"
)


def find_chromium() -> str:
    """The program.

    Raises:
        FileNotFoundError: If there is none.
    """
    for name in NAMES:
        if path := shutil.which(name):
            return path
    raise FileNotFoundError(MISSING.format(", ".join(NAMES)))


@contextmanager
def opened(*, timeout: float = 60) -> Iterator[tuple]:
    """A page, and two lists that fill: addresses that it asks for, and what it complains of.

    Args:
        timeout: Seconds that one step may take.
    """
    from playwright.sync_api import ConsoleMessage, sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=find_chromium(), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport=dict(width=1280, height=900))
        page.set_default_timeout(1000 * timeout)
        requests, errors = [], []

        def said(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                errors.append(message.text)

        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: errors.append(error))
        page.on("console", said)
        yield page, requests, errors
        browser.close()
