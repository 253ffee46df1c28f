"""The check as a whole: its parts in order, the clock, and what it leaves on disk.

Each part yields rows; each row is printed and kept as soon as it is there, so that a check that is
cut off by the clock, or fails in a part, has all that came before.
"""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from mmplugins.utils import write_whole

from ..environment import checked_device, describe_environment
from ..peers import Peers
from ..text_tables import frame, markdown_text
from . import exactness, matrix, speed, whole

Row = dict[str, Any]
TIMES = "times.jsonl"


@dataclass(frozen=True)
class Settings:
    """What a check runs on.

    Attributes:
        device: Where.
        folder: Where results go.
        configs: Folder of the project's configs.
        small: Sizes and rounds for a CPU.
        peers: The networks of timm that are known to equal ours.
    """

    device: torch.device
    folder: Path
    configs: Path
    small: bool
    peers: Peers = field(default_factory=Peers)

    @property
    def families(self) -> tuple[str, ...]:
        return speed.FAMILIES[:2] if self.small else speed.FAMILIES

    @property
    def sizes(self) -> tuple[tuple[tuple[int, int], int], ...]:
        return (
            (((64, 64), 1),) if self.small else (((512, 512), 1), ((512, 512), 8), ((800, 1280), 2))
        )

    @property
    def training(self) -> tuple[tuple[int, int], int]:
        return ((64, 64), 2) if self.small else ((512, 512), 8)

    @property
    def rounds(self) -> int:
        return 2 if self.small else 9

    def measure(
        self, name: str, forms: Sequence[str], theirs: Sequence[str], what: str,
        size: tuple[int, int], batch: int,
    ) -> Row:  # fmt: skip
        """What :func:`.speed.measure` finds, all in one file of results."""
        how = dict(rounds=self.rounds, device=str(self.device), threads=torch.get_num_threads())
        file = self.folder / TIMES
        found = speed.measure(name, forms, theirs, what, size, batch, how, file, self.peers)
        return dict(backbone=name, size="{}x{}".format(*size), batch=batch, **found)


def versions(s: Settings) -> Iterator[Row]:
    """Card, driver, versions and date."""
    yield describe_environment(s.device)


def eager_inference(s: Settings) -> Iterator[Row]:
    """ms of one eager pass, and our best against timm's best."""
    for size, batch in s.sizes:
        for name in s.families:
            yield s.measure(name, speed.EAGER, speed.LAYOUTS, "inference", size, batch)


def eager_training(s: Settings) -> Iterator[Row]:
    """ms and MiB of a training step, eager."""
    for name in s.families:
        yield s.measure(name, speed.LAYOUTS, speed.LAYOUTS, "training", *s.training)


def works(s: Settings) -> Iterator[Row]:
    """The matrix of families, forms, memory formats, precisions and sizes, eager; then compiled."""
    for runs in (("eager",),) if s.small else (("eager",), ("compiled",)):
        passed = 0
        worst: dict[str, float] = {}
        for case in matrix.cases(runs):
            if runs == ("compiled",) and case.precision != "autocast":
                continue
            try:
                found = matrix.run_case(case, s.device)
            except Exception as error:  # any failure is a row
                yield dict(fails=str(case), error=f"{type(error).__name__}: {error}"[:300])
                continue
            passed += 1
            if case.form != "trained":
                before = worst.get(case.precision, 0.0)
                worst[case.precision] = max(before, *found.values())
        yield dict(run=runs[0], passed=passed, **{f"off, {k}": v for k, v in worst.items()})


def compiled(s: Settings) -> Iterator[Row]:
    """ms of one pass and of a training step, compiled by block, against timm compiled whole."""
    trained = speed.COMPILED[:1]
    forms = (*speed.COMPILED, *([speed.GRAPHED] if s.device.type == "cuda" else []))
    for name in s.families[2:] + s.families[:2]:
        yield s.measure(name, forms, trained, "inference", *s.training)
        yield s.measure(name, trained, trained, "training", *s.training)


def group_norm(s: Settings) -> Iterator[Row]:
    """ms of group norm by the formula and by a reduction."""
    yield from speed.group_norms(s.device, s.rounds, 8 if s.small else 1)


def exact(s: Settings) -> Iterator[Row]:
    """Float32 (TF32 off) against float64: maps, gradients, the worst parameter; timm's too."""
    size = (64, 65) if s.small else (97, 131)
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        for name in ("convformer_s18",) if s.small else ("convformer_s18", *speed.FAMILIES[:2]):
            yield from exactness.compare(name, s.device, size)
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def whole_steps(s: Settings) -> Iterator[Row]:
    """A detector's training step by part in ms, and how often Python waits for the device."""
    for recipe in whole.RECIPES:
        cfg = whole.config_of(recipe, s.configs, s.folder, 10**6, s.small)
        yield dict(recipe=recipe, **whole.step_by_part(cfg, s.device, 2 if s.small else 10))


def compiled_heads(s: Settings) -> Iterator[Row]:
    """The same step, eager and with neck and head compiled, which ``compile_blocks`` leaves out."""
    for recipe in list(whole.RECIPES)[: 1 if s.small else 3]:
        cfg = whole.config_of(recipe, s.configs, s.folder, 10**6, s.small)
        for backend in (None, "eager" if s.small else "inductor"):
            row = whole.step_by_part(cfg, s.device, 2 if s.small else 10, backend)
            yield dict(recipe=recipe, neck_and_head=backend or "as they are", **row)


def learning(s: Settings) -> Iterator[Row]:
    """Training steps with ``--amp --compile``: the loss must fall."""
    for recipe in list(whole.RECIPES)[: 1 if s.small else 3]:
        cfg = whole.config_of(recipe, s.configs, s.folder, 12 if s.small else 50, s.small)
        yield dict(recipe=recipe, **whole.real_steps(cfg, compiled=not s.small))


PARTS: dict[str, Callable[[Settings], Iterator[Row]]] = {
    part.__name__: part
    for part in (
        versions, eager_inference, eager_training, group_norm, whole_steps, works, compiled,
        learning, compiled_heads, exact,
    )
}  # fmt: skip
"""The parts of a check, the most telling first."""


def run_check(
    settings: Settings,
    minutes: float = 4,
    parts: tuple[str, ...] = tuple(PARTS),
    say: Callable[[str], None] = print,
) -> list[Row]:
    """Run parts until the time is over, and keep every row.

    Args:
        settings: What to run on.
        minutes: After so many no further row is begun; the one that runs ends first.
        parts: Names in :data:`PARTS`.
        say: What a line is given to.

    Returns:
        All rows, each with its ``part``. They are in ``gpu_check.jsonl`` of the folder, and as
        tables in ``gpu_check.md``; every single timing against timm is in ``times.jsonl``.
    """
    checked_device(settings.device)
    settings.folder.mkdir(parents=True, exist_ok=True)
    (settings.folder / TIMES).unlink(missing_ok=True)
    deadline = time.monotonic() + 60 * minutes
    rows: list[Row] = []

    def keep(row: Row) -> None:
        rows.append(row)
        say(_line(row))
        lines = "".join(json.dumps(row, default=str) + "\n" for row in rows)
        write_whole(settings.folder / "gpu_check.jsonl", lines)
        write_whole(settings.folder / "gpu_check.md", as_markdown(rows))

    for name in parts:
        if time.monotonic() > deadline:
            keep(dict(part=name, left_out="the time was over"))
            continue
        say(f"## {name}: {PARTS[name].__doc__}")
        try:
            for row in PARTS[name](settings):
                keep(dict(part=name, **row))
                if time.monotonic() > deadline:
                    keep(dict(part=name, cut="the time was over"))
                    break
        except Exception as error:  # the parts after it are worth their time still
            where = traceback.format_exc().strip().splitlines()[-3:]
            keep(dict(part=name, failed=f"{type(error).__name__}: {error}"[:500], where=where))
        if settings.device.type == "cuda":
            torch.cuda.empty_cache()
    return rows


def as_markdown(rows: list[Row]) -> str:
    """The rows as tables, one for the rows of a part that have the same columns."""
    tables: dict[tuple, list[Row]] = {}
    for row in rows:
        tables.setdefault((row["part"], *row), []).append({k: _cell(v) for k, v in row.items()})
    frames = [(group[0]["part"], frame(group).drop(columns="part")) for group in tables.values()]
    return markdown_text(frames, [])


def _line(row: Row) -> str:
    return "  ".join(f"{key}: {_cell(value)}" for key, value in row.items() if key != "part")


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.2f}" if 0.01 <= abs(value) < 1e5 else f"{value:.1e}"
    return str(value).replace("\n", " ")
