"""What every room needs and none owns: hints in messages, whole files, ends of programs.

Only the standard library is imported, so any room may import this one.
"""

from __future__ import annotations

import difflib
import errno
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

PARTIAL = ".partial"
"""Suffix of files that are being written; a killed run may leave one behind."""

_LONGEST = 300  # characters of another library's error

_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Characters that steer a terminal or turn the direction of text, but for tab and end of line."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class WriteError(OSError):
    """A file that could not be written; nothing half is left, and what was there before stays."""

    def __str__(self) -> str:
        """The sentence, without the number before it."""
        return str(self.strerror or super().__str__())


class DataError(ValueError):
    """Data that cannot be trained with: names the value, what was expected and the remedy.

    Args:
        where: The config entry it concerns.
        message: What is wrong and what to do.

    Attributes:
        where: The config entry it concerns.
    """

    def __init__(self, where: str, message: str) -> None:
        super().__init__(f"{where}: {message}")
        self.where = where


def did_you_mean(name: object, known: Iterable[str], count: int = 1) -> str:
    """``" Did you mean 'GELU'?"`` for ``'Gelu'``, or nothing if no known name is near.

    Args:
        name: What was given; upper and lower case count as equal.
        known: The names there are.
        count: How many to offer at most. Defaults to 1.
    """
    by_lower = {word.lower(): word for word in known}
    near = difflib.get_close_matches(str(name).lower(), by_lower, n=count, cutoff=0.5)
    return f" Did you mean {' or '.join(repr(by_lower[word]) for word in near)}?" if near else ""


def printable(text: str) -> str:
    """Text with control characters written out, ``\\x1b`` for an escape."""
    return _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)


def few(names: Sequence, limit: int = 5) -> str:
    """The first names of a list that may be long: ``a, b, ... 78 more``."""
    shown = ", ".join(str(name) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown}, ... {len(names) - limit} more"


def listed(value: Any) -> list:
    """``value`` as a list: empty for None, of one element for what is neither list nor tuple."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def type_name(part: Any) -> str:
    """The type of a config dict, or of what was built from one, without its scope.

    ``'FPN'`` for ``dict(type='mmdet.FPN')``, for ``dict(type=FPN)`` and for an ``FPN``; ``'no
    type'`` for what has none.
    """
    kind = part.get("type") if isinstance(part, Mapping) else type(part)
    if isinstance(kind, str):
        return kind.rpartition(".")[2]
    return getattr(kind, "__name__", None) or "no type"


def line_of(error: BaseException, number: int = 0) -> str:
    """A line of another library's error, short enough for a sentence; its type if it has no text.

    Args:
        error: The error.
        number: Which line. Defaults to the first; OpenCV and OpenVINO give the reason in the last.
    """
    lines = str(error).strip().splitlines() or [type(error).__name__]
    line = lines[number].strip()
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} ..."


@contextmanager
def written_aside(path: str | os.PathLike) -> Iterator[Path]:
    """Write a file so that, whatever happens, it is there whole or as it was before.

    The block writes to a hidden path, which has another suffix, so that no search for files of a
    kind finds it. After the block the data are forced to the disk and the file takes its name.
    Missing folders are made.

    Args:
        path: Where the file goes; an existing one is replaced.

    Yields:
        Where to write to.

    Raises:
        WriteError: If it cannot be written; a full disk is named as such.
    """
    path = Path(path)
    aside = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:  # raised for a file in the place of a folder
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from error
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        aside.touch()  # some libraries do not say where they could not write, or why
        aside.unlink()
        yield aside
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(aside, path)
        _sync_folder(path.parent)
    except OSError as error:
        if error.errno in _FULL:
            written = aside.stat().st_size if aside.exists() else 0
            free = shutil.disk_usage(path.parent).free
            raise WriteError(
                error.errno,
                f"{path} was not written, the disk or quota is full: {written / 2**20:.1f} MB "
                f"were written, {free / 2**20:.1f} MB are free. Free some space (checkpoints: "
                "default_hooks.checkpoint.max_keep_ckpts=2), or write elsewhere",
            ) from error
        reason = error.strerror or error
        raise WriteError(error.errno, f"{path} was not written: {reason}") from error
    finally:
        with suppress(OSError):  # it is not there, as after a success, or its folder is a file
            aside.unlink()


def is_cut_short(picture: bytes) -> bool:
    """Whether the end of a JPEG or PNG is missing, which OpenCV fills with grey in silence."""
    if picture.startswith(b"\xff\xd8"):
        # Neither marker can stand in compressed data; a thumbnail has both, in this order.
        return picture.rfind(b"\xff\xda") > picture.rfind(b"\xff\xd9")
    return picture.startswith(b"\x89PNG") and b"IEND" not in picture[-64:]


def write_whole(path: str | os.PathLike, data: bytes | str) -> Path:
    """Write data in one piece by :func:`written_aside`; text as UTF-8. Returns the path."""
    with written_aside(path) as aside:
        aside.write_bytes(data.encode() if isinstance(data, str) else data)
    return Path(path)


def check_writable(folder: str | os.PathLike) -> None:
    """Make sure, before long work, that files can be written to a folder; it is made.

    Raises:
        WriteError: If not.
    """
    try:
        write_whole(Path(folder) / f".writable.{os.getpid()}", b"").unlink()
    except WriteError as error:
        reason = getattr(error.__cause__, "strerror", None) or error
        raise WriteError(error.errno, f"{folder} cannot be written to: {reason}") from error


@contextmanager
def one_line_errors(*kinds: type[Exception]) -> Iterator[None]:
    """End a program with one line, and no traceback, where the user can correct the error.

    The status is 1, with ``error: ...`` on stderr. After Ctrl-C it is 130, with ``stopped``. If
    nobody reads the output any more (``| head``) it is 141, without a word, as shells give it to a
    program that SIGPIPE ended.

    Args:
        kinds: Errors whose text is meant for the user.

    Raises:
        SystemExit: In the place of these errors.
    """
    try:
        try:
            yield
        except BrokenPipeError:
            raise
        except kinds as error:
            raise SystemExit(printable(f"error: {error}")) from None
        except KeyboardInterrupt as stopped:
            if type(stopped) is not KeyboardInterrupt:  # a signal that somebody else answers
                raise
            print("stopped", file=sys.stderr)
            raise SystemExit(130) from None
        except SystemExit as stopped:
            if isinstance(stopped.__context__, BrokenPipeError):  # rich makes status 1 of it
                raise stopped.__context__ from None
            raise
        finally:
            sys.stdout.flush()  # else the pipe breaks at Python's own end, with a traceback
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None


def _sync_folder(folder: Path) -> None:
    """Force the names in a folder to the disk, on systems where folders can be opened."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows
        return
    try:
        os.fsync(handle)
    except OSError:  # file systems that cannot
        pass
    finally:
        os.close(handle)
