"""The file of results: one JSON object per line, appended as soon as something is measured.

The first line has ``kind='head'`` with ``schema``, ``environment``
(:func:`.environment.describe_environment`) and ``settings``. Every other line names its ``row``,
and all but ``kind='row'`` its ``what``, ``size`` (height, width) and ``batch``:

=========== ====================================================================================
``row``     ``name``, ``backbone``, ``family``, ``options``, ``dtype``, ``whole``, ``parameters``
``macs``    ``total``, ``by_part``, ``pooling``, as :class:`.complexity.Macs`
``memory``  ``peak``, ``saved``, ``method``, as :class:`.memory.Memory`
``energy``  ``joules`` of a pass, ``watts``, ``source``, ``passes``
``sample``  ``round`` and ``seconds`` by part, as :class:`.speed.Sample`
``failure`` ``reason``; void if a later line has what failed
=========== ====================================================================================

A program that is stopped loses at most the line it was writing. :func:`.report.make_report` turns
a file into what tables and plots show.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mmplugins.utils import write_whole

from .environment import differences
from .speed import Failure, Key, Sample

SCHEMA = 2

FREE_SETTINGS = ("rounds",)
"""Settings that may change when a file is gone on with."""


class ResultError(ValueError):
    """A result file that cannot be read, or gone on with."""


@dataclass
class Results:
    """What a file of results holds.

    Attributes:
        environment: Machine, versions, date of the first run.
        settings: How it was measured.
        rows: Data of each row by its label, in the order of the file.
        macs: By row, size and batch.
        memory: By key, ``what`` being ``'inference'`` or ``'training'``.
        energy: Likewise, ``what`` being ``'energy'``.
        times: Samples by key and round.
        failures: Reasons by key.
    """

    environment: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    macs: dict[Key, dict[str, Any]] = field(default_factory=dict)
    memory: dict[Key, dict[str, Any]] = field(default_factory=dict)
    energy: dict[Key, dict[str, Any]] = field(default_factory=dict)
    times: dict[Key, dict[int, Sample]] = field(default_factory=lambda: defaultdict(dict))
    failures: dict[Key, str] = field(default_factory=dict)

    def take(self, line: dict[str, Any]) -> None:
        """Take one line into account."""
        kind = line["kind"]
        if kind == "head":
            self.environment, self.settings = line["environment"], line["settings"]
            return
        if kind == "row":
            self.rows[line["row"]] = {k: v for k, v in line.items() if k not in ("kind", "row")}
            self.failures.pop(Key(line["row"], "row", (0, 0), 0), None)
            return
        key = Key(line["row"], line["what"], tuple(line["size"]), line["batch"])
        rest = {k: v for k, v in line.items() if k not in ("kind", "row", "what", "size", "batch")}
        if kind == "failure":
            self.failures[key] = rest["reason"]
            return
        if kind == "macs":
            self.macs[key] = rest
        elif kind == "memory":
            self.memory[key] = rest
            key = replace(key, what=f"memory of {key.what}")  # the time may have failed as well
        elif kind == "energy":
            self.energy[key] = rest
        elif kind == "sample":
            self.times[key][rest["round"]] = Sample(key, rest["round"], rest["seconds"])
        self.failures.pop(key, None)


def read_results(path: str | Path) -> Results:
    """Read a file of results; a last line that was cut off is passed by.

    Raises:
        ResultError: If it is not such a file.
    """
    results = Results()
    for line in _whole_lines(Path(path)):
        results.take(line)
    return results


def _whole_lines(path: Path) -> list[dict[str, Any]]:
    lines = path.read_text(encoding="utf-8").splitlines()
    read = []
    for number, text in enumerate(lines, 1):
        try:
            read.append(json.loads(text))
        except json.JSONDecodeError as error:
            if number == len(lines):
                break
            raise ResultError(f"{path}, line {number}: not JSON ({error})") from error
    head = read[0] if read else {}
    if not isinstance(head, dict) or head.get("kind") != "head":
        raise ResultError(f"{path}: not a file of benchmark results (its first line is no head)")
    if head.get("schema") != SCHEMA:
        raise ResultError(
            f"{path}: its schema is {head.get('schema')!r}, and this version reads {SCHEMA}: "
            "measure again, or show it with the version of mmplugins that wrote it"
        )
    return read


class ResultFile:
    """A file of results to append to; begun, or gone on with if it is there.

    Args:
        path: The file, ``.jsonl`` by custom.
        environment: Machine and versions now.
        settings: How it is measured now.

    Attributes:
        path: The file.
        results: What it holds, kept up to date.

    Raises:
        ResultError: If the file is there and was measured on another machine, with other versions
            or other settings.
    """

    def __init__(self, path: str | Path, environment: dict[str, Any], settings: dict[str, Any]):
        self.path = Path(path)
        self.results = Results()
        head = dict(kind="head", schema=SCHEMA, environment=environment, settings=settings)
        if self.path.exists():
            lines = _whole_lines(self.path)
            self._refuse_other(lines[0], environment, settings)
            head = dict(lines[0], settings=settings)
            lines[0] = head
        else:
            lines = [head]
        write_whole(self.path, "".join(map(_line, lines)))
        for line in lines:
            self.results.take(line)

    def _refuse_other(self, head: dict, environment: dict, settings: dict) -> None:
        fixed = [
            {k: v for k, v in each.items() if k not in FREE_SETTINGS}
            for each in (head["settings"], settings)
        ]
        other = differences(head["environment"], environment) + differences(*fixed)
        if other:
            raise ResultError(
                f"{self.path} was measured otherwise, and such times must not stand in one table "
                f"({'; '.join(other)}): give another file, or remove it"
            )

    def append(self, **line: Any) -> None:
        """Write one line, and take it into account."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_line(line))
        self.results.take(json.loads(_line(line)))

    def add_about(self, kind: str, key: Key, **data: Any) -> None:
        """Write a line about a key."""
        self.append(
            kind=kind, row=key.row, what=key.what, size=list(key.size), batch=key.batch, **data
        )

    def add(self, found: Sample | Failure) -> None:
        """Write a sample or a failure."""
        if isinstance(found, Sample):
            seconds = {name: float(f"{value:.6g}") for name, value in found.seconds.items()}
            self.add_about("sample", found.key, round=found.round, seconds=seconds)
        else:
            self.add_about("failure", found.key, reason=found.reason)


def _line(line: dict[str, Any]) -> str:
    return json.dumps(line, ensure_ascii=False) + "\n"
