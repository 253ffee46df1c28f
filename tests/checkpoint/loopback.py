"""A web server on the loopback device that answers as a test wants."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Page:
    """What the server gives at a path, and how."""

    body: bytes
    kind: str = "application/octet-stream"
    status: int = 200
    etag: str = '"1"'
    ranges: bool = True
    breaks: list[int] = field(default_factory=list)  # bytes after which answers break off
    endless: bool = False  # no Content-Length


class Site:
    """A web server on the loopback device with pages that a test can change."""

    def __init__(self):
        site = self
        self.pages: dict[str, Page] = {}
        self.asked: list[tuple[str, str | None]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                page = site.pages.get(self.path, Page(b"not here", "text/plain", 404))
                site.asked.append((self.path, self.headers.get("Range")))
                body, status = page.body, page.status
                asked = self.headers.get("Range")
                if asked and page.ranges and self.headers.get("If-Range") in (None, page.etag):
                    start = int(asked.removeprefix("bytes=").split("-")[0])
                    if start >= len(body):
                        self.send_error(416)
                        return
                    body, status = body[start:], 206
                self.send_response(status)
                self.send_header("Content-Type", page.kind)
                if page.etag:
                    self.send_header("ETag", page.etag)
                if not page.endless:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: page.breaks.pop(0)] if page.breaks else body)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server.server_port}{path}"

    def times(self, path: str) -> int:
        return Counter(asked for asked, _ in self.asked)[path]
