"""Headless Chromium by its DevTools protocol over a pipe: opens a file, tells what happened."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path

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


class Browser:
    """A page in a browser of its own. Use with ``with``.

    Attributes:
        requests: Addresses that the page has asked for.
        errors: What went to the console as an error, and exceptions of scripts.
    """

    def __init__(self, profile: Path, width: int = 1280, height: int = 900, timeout: float = 60):
        self.timeout, self.requests, self.errors = timeout, [], []
        self._buffer, self._count, self._events = b"", 0, []
        to_child, self._write = os.pipe()
        self._read, from_child = os.pipe()
        arguments = [
            find_chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            "--remote-debugging-pipe", f"--user-data-dir={profile}",
            f"--window-size={width},{height}", "about:blank",
        ]  # fmt: skip
        # Chromium reads commands from descriptor 3 and answers on 4.
        plumb = 'a=$1 b=$2; shift 2; eval "exec \\"\\$@\\" 3<&$a 4>&$b"'
        self._process = subprocess.Popen(
            ["bash", "-c", plumb, "bash", str(to_child), str(from_child), *arguments],
            pass_fds=(to_child, from_child), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_child), os.close(from_child)
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    _session: str | None = None

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(30)
        os.close(self._read), os.close(self._write)

    def call(self, method: str, **params: object) -> dict:
        """Send a command and wait for its answer."""
        self._count += 1
        message = dict(id=self._count, method=method, params=params)
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._count:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self._note(answer)

    def open(self, page: Path | str) -> None:
        """Open a file or an address and wait until all of it is loaded."""
        self._events.clear()
        url = page if isinstance(page, str) else page.resolve().as_uri()
        self.call("Page.navigate", url=url)
        while "Page.loadEventFired" not in self._events:
            self._note(self._next())
        self.evaluate("Promise.all([...document.images].map(image => image.decode()))")

    def evaluate(self, script: str) -> object:
        """The value of a script, awaited if it is a promise."""
        found = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def screenshot(self, path: Path) -> bytes:
        """Write a PNG of the whole page; returns its bytes."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))
        return path.read_bytes()

    def _next(self) -> dict:
        end = time.monotonic() + self.timeout
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0, end - time.monotonic()))
            data = os.read(self._read, 1 << 16) if ready else b""
            if not data:
                raise TimeoutError("Chromium says nothing any more")
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def _note(self, event: dict) -> None:
        method, params = event.get("method"), event.get("params", {})
        self._events.append(method)
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(params["exceptionDetails"])
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.errors.append(params["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
            self.errors.append(params["args"])
