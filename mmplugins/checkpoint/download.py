"""Downloads that resume, are checked, and appear under their name only when they are whole.

No library does all of this. :func:`torch.hub.download_url_to_file` begins again where a host broke
off, takes a file that was cut short for a whole one if no hash is known, and waits for ever for a
silent host. huggingface_hub 2.4 keeps nothing of a download that failed, and knows one host alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import shutil
import sys
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from mmplugins.console import Console

from .reading import CheckpointError, sniff

ATTEMPTS = 3
"""How often a host may break off before the next one is asked."""

TIMEOUT = 30
"""Seconds without an answer after which a host counts as silent."""

_CHUNK = 1 << 20
_HEADERS = {"User-Agent": "mmplugins", "Accept-Encoding": "identity"}


class DownloadError(CheckpointError):
    """A file that could not be fetched."""


def download(url: str, target: Path, sha256: str = "") -> Path:
    """Fetch a weight file.

    It grows under the name ``<target>.part`` and is renamed when it is whole, is no web page, and
    has the right hash. A part that an earlier attempt left is continued if the host still has the
    same file, by its own word (ETag or date). Several processes that want one file wait for the
    first of them.

    Args:
        url: Address, http or https.
        target: Where it goes; an existing file is returned as it is.
        sha256: First digits of the hash, or ``''`` if unknown.

    Returns:
        ``target``.

    Raises:
        DownloadError: If the host does not answer, says no, breaks off repeatedly, or sends
            something else.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if target.is_file():
            return target
        part = target.with_name(f"{target.name}.part")
        tag = target.with_name(f"{target.name}.part.tag")
        for attempt in range(1, ATTEMPTS + 1):
            try:
                _fetch(url, part, tag)
                break
            except urllib.error.HTTPError as error:
                raise DownloadError(f"the host answered {error.code} {error.reason}") from error
            except (OSError, http.client.HTTPException) as error:
                if attempt == ATTEMPTS or isinstance(error, _NoSpace):
                    reason = getattr(error, "reason", None) or error
                    raise DownloadError(f"{type(error).__name__}: {reason}") from error
        try:
            _check(part, sha256)
        except CheckpointError:
            part.unlink()
            tag.unlink(missing_ok=True)
            raise
        os.replace(part, target)
        tag.unlink(missing_ok=True)
    # Others that wait for the lock hold it open; one that comes later makes it anew.
    with contextlib.suppress(OSError):
        Path(f"{target}.lock").unlink()
    return target


class _NoSpace(OSError):
    pass


def _fetch(url: str, part: Path, tag: Path) -> None:
    """Bring ``part`` to full length, from where it stands if the host agrees."""
    headers = dict(_HEADERS)
    done = part.stat().st_size if part.is_file() else 0
    known = tag.read_text() if done and tag.is_file() else ""
    if known:
        # With If-Range a host whose file has changed sends all of it instead of the rest.
        headers |= {"Range": f"bytes={done}-", "If-Range": known}
    try:
        answer = urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=TIMEOUT
        )
    except urllib.error.HTTPError as error:
        if error.code != 416:  # the part is as long as the file, or longer: begin again
            raise
        part.unlink()
        return _fetch(url, part, tag)
    with answer:
        kind = answer.headers.get("Content-Type", "")
        if kind.startswith("text/html"):
            raise DownloadError("the host answered with a web page instead of weights")
        if answer.status != 206:
            done = 0
        length = answer.headers.get("Content-Length")
        total = done + int(length) if length else None
        free = shutil.disk_usage(part.parent).free
        if total and total - done > free:
            raise _NoSpace(
                f"{part.parent} has {free:,} bytes free, the file needs {total - done:,}"
            )
        etag = answer.headers.get("ETag", "")
        # A weak ETag does not promise the same bytes.
        mark = etag if etag and not etag.startswith("W/") else answer.headers.get("Last-Modified")
        tag.write_text(mark or "")
        with part.open("ab" if done else "wb") as file, _bar(part) as bar:
            task = bar.add_task(urlsplit(url).hostname or url, total=total, completed=done)
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
                bar.update(task, advance=len(chunk))
    size = part.stat().st_size
    if total is not None and size != total:
        raise ConnectionError(f"broken off after {size:,} of {total:,} bytes")


def _bar(part: Path) -> Progress:
    return Progress(
        TextColumn(f"{part.name.removesuffix('.part')} from {{task.description}}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )


def _check(part: Path, sha256: str) -> None:
    sniff(part)
    if sha256:
        found = file_digest(part)
        if not found.startswith(sha256.lower()):
            raise DownloadError(
                f"the file has SHA-256 {found[:16]}..., expected {sha256}...: damaged or replaced"
            )


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
