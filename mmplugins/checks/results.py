"""What a check says, and the table of all checks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.table import Table

from mmplugins.console import as_text

Status = Literal["ok", "warning", "failure", "not run"]

_STYLES = {"ok": "green", "warning": "yellow", "failure": "bold red", "not run": "dim"}


@dataclass(frozen=True)
class CheckResult:
    """One line of the table.

    Attributes:
        name: The check, for example ``'feature maps'``. A check that finds several things gives
            several results of its name.
        status: ``'failure'`` cannot be trained with, ``'warning'`` can but is hardly meant,
            ``'not run'`` needs something that has failed or is not there.
        message: What was found; for failures and warnings the value, what was expected, and the
            remedy.
    """

    name: str
    status: Status
    message: str

    def __str__(self) -> str:
        return f"{self.status}: {self.name}: {self.message}"


def failures(results: Sequence[CheckResult]) -> list[CheckResult]:
    """Those that stop a training."""
    return [result for result in results if result.status == "failure"]


def table_of(results: Sequence[CheckResult]) -> Table:
    """All results for rich, in the order in which they were checked."""
    table = Table(box=SIMPLE_HEAD, title="Checks before training", title_justify="left")
    table.add_column("check", no_wrap=True)
    table.add_column("result", no_wrap=True)
    table.add_column("what was found", overflow="fold")
    for result in results:
        style = _STYLES[result.status]
        # As text: messages hold brackets, which rich would take for markup.
        message = as_text(result.message, "dim" if result.status == "not run" else "")
        table.add_row(result.name, as_text(result.status, style), message)
    return table


def summary(results: Sequence[CheckResult]) -> str:
    """``12 ok, 1 warning, 2 failures``, in words for the line below the table."""
    counts = Counter(result.status for result in results)
    parts = [f"{counts['ok']} ok"]
    for count, one in ((counts["warning"], "warning"), (counts["failure"], "failure")):
        if count:
            parts.append(f"{count} {one}{'s' if count > 1 else ''}")
    if counts["not run"]:
        parts.append(f"{counts['not run']} not run")
    return ", ".join(parts)
