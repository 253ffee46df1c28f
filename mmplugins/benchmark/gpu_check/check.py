"""The check as a whole: its parts in order, the clock, and what it leaves on disk.

Each part yields rows for each of its items; a row is printed and kept as soon as it is there, so
that a check that is cut off by the clock, or fails in a part, has all that came before. What is not
timed runs side by side on a GPU, in processes of its own, and so does the compiler.
"""

from __future__ import annotations

import enum
import json
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, product
from typing import Any

import torch

from mmplugins.backbones.catalog import families
from mmplugins.utils import write_whole

from ..environment import checked_device, describe_environment
from ..peers import Peers
from ..session import QUIET, Listener
from ..text_tables import frame, markdown_text
from . import exactness, matrix, speed, whole
from .processes import in_turns, side_by_side
from .settings import FAMILIES, Settings

Line = dict[str, Any]


class Processes(enum.Enum):
    """Where the items of a part run, if a check may have several processes."""

    HERE = enum.auto()
    SIDE_BY_SIDE = enum.auto()
    IN_TURNS = enum.auto()


@dataclass(frozen=True)
class Part:
    """A part of a check.

    Attributes:
        items: What it is made of, for the settings.
        rows: The rows of an item.
        processes: Side by side for what is not timed. Defaults to this process.
    """

    items: Callable[[Settings], Iterable[Any]]
    rows: Callable[[Settings, Any], Iterator[Line]]
    processes: Processes = Processes.HERE


def versions(s: Settings, item: None) -> Iterator[Line]:
    """Card, versions and date."""
    yield describe_environment(s.device)


def eager_inference(s: Settings, item: tuple[str, tuple]) -> Iterator[Line]:
    """ms of one eager pass, and our best against timm's best."""
    name, (size, batches) = item
    yield from speed.measure(s, name, speed.EAGER, speed.LAYOUTS, ["inference"], size, batches)


def eager_training(s: Settings, name: str) -> Iterator[Line]:
    """ms and MiB of a training step, eager."""
    yield from speed.measure(s, name, speed.LAYOUTS, speed.LAYOUTS, ["training"], *s.training)


def works(s: Settings, item: tuple[str, str]) -> Iterator[Line]:
    """A family in every form, memory format, precision and size, eager."""
    family, run = item
    passed, worst = 0, dict[str, float]()
    for case in matrix.cases((run,), (family,)):
        if run == "compiled" and case.precision != "autocast":
            continue
        try:
            found = matrix.run_case(case, s.device)
        except Exception as error:  # any failure is a row
            yield dict(fails=str(case), error=f"{type(error).__name__}: {error}"[:300])
            continue
        passed += 1
        if case.form != "trained":
            worst[case.precision] = max(worst.get(case.precision, 0.0), *found.values())
    yield dict(run=run, family=family, passed=passed) | {f"off, {k}": v for k, v in worst.items()}


def works_compiled(s: Settings, item: tuple[str, str]) -> Iterator[Line]:
    """The same compiled by block, under autocast."""
    yield from works(s, item)


def compiled(s: Settings, name: str) -> Iterator[Line]:
    """ms of one pass and of a training step, compiled by block, against timm compiled whole."""
    forms = (*speed.COMPILED, *([speed.GRAPHED] if s.device.type == "cuda" else []))
    measures = ["inference", "training"]
    times = f"times_{name}.jsonl"  # as other processes write too
    yield from speed.measure(s, name, forms, speed.COMPILED[:1], measures, *s.training, times)


def group_norm(s: Settings, item: None) -> Iterator[Line]:
    """ms of group norm by the formula and by a reduction."""
    yield from speed.group_norms(s.device, s.rounds, 8 if s.small else 1)


def exact(s: Settings, name: str) -> Iterator[Line]:
    """Float32 (TF32 off) against float64: maps, gradients, the worst parameter; timm's too."""
    with matrix.full_float32():
        yield from exactness.compare(name, s.device, (64, 65) if s.small else (97, 131))


def whole_steps(s: Settings, item: tuple[str, str | None]) -> Iterator[Line]:
    """A detector's training step by part in ms, and how often Python waits for the device; as it
    is, and with neck and head compiled, which ``compile_blocks`` leaves out."""
    recipe, backend = item
    cfg = whole.config_of(recipe, s.configs, s.folder, 10**6, s.small)
    row = whole.step_by_part(cfg, s.device, 2 if s.small else 10, backend)
    yield dict(recipe=recipe, neck_and_head=backend or "eager", **row)


def learning(s: Settings, recipe: str) -> Iterator[Line]:
    """Training steps with ``--amp --compile``: the loss must fall."""
    cfg = whole.config_of(recipe, s.configs, s.folder, 12 if s.small else 50, s.small)
    yield dict(recipe=recipe, **whole.real_steps(cfg, compiled=not s.small))


def _once(s: Settings) -> list[None]:
    return [None]


PARTS: dict[str, Part] = dict(
    versions=Part(_once, versions),
    eager_inference=Part(
        lambda s: ((name, size) for size in s.sizes for name in s.families), eager_inference
    ),
    eager_training=Part(lambda s: s.families, eager_training),
    group_norm=Part(_once, group_norm),
    whole_steps=Part(lambda s: product(s.recipes, (None,)), whole_steps),
    compiled=Part(lambda s: s.families, compiled, Processes.IN_TURNS),
    works=Part(lambda s: product(families(), ("eager",)), works, Processes.SIDE_BY_SIDE),
    learning=Part(lambda s: s.recipes, learning, Processes.SIDE_BY_SIDE),
    exact=Part(
        lambda s: ("convformer_s18", *(() if s.small else FAMILIES[:2])),
        exact,
        Processes.SIDE_BY_SIDE,
    ),
    works_compiled=Part(
        lambda s: () if s.small else product(families(), ("compiled",)),
        works_compiled,
        Processes.SIDE_BY_SIDE,
    ),
    compiled_heads=Part(
        lambda s: product(s.recipes, ("eager" if s.small else "inductor",)), whole_steps
    ),
)
"""The parts of a check, the most telling first."""


def run_check(
    settings: Settings,
    minutes: float = 4,
    parts: Sequence[str] = tuple(PARTS),
    say: Callable[[str], None] = print,
) -> list[Line]:
    """Run parts until the time is over, and keep every row.

    Args:
        settings: What to run on.
        minutes: After so many no further item is begun; those that run end first.
        parts: Names in :data:`PARTS`.
        say: What a line is given to.

    Returns:
        All rows, each with its ``part``. They are in ``gpu_check.jsonl`` of the folder, and as
        tables in ``gpu_check.md``; every single timing against timm is in ``times*.jsonl``.
    """
    checked_device(settings.device)
    settings.folder.mkdir(parents=True, exist_ok=True)
    for times in settings.folder.glob("times*.jsonl"):
        times.unlink()
    deadline = time.monotonic() + 60 * minutes
    rows: list[Line] = []

    def keep(row: Line) -> None:
        if all(one["part"] != row["part"] for one in rows):
            about = PARTS[row["part"]].rows.__doc__ or ""
            say(f"## {row['part']}: {' '.join(about.split())}")
        rows.append(row)
        say(_line(row))
        lines = "".join(json.dumps(row, default=str) + "\n" for row in rows)
        write_whole(settings.folder / "gpu_check.jsonl", lines)
        write_whole(settings.folder / "gpu_check.md", as_markdown(rows))

    def processes_of(name: str) -> Processes:
        return PARTS[name].processes if settings.workers > 1 else Processes.HERE

    for processes, names in groupby(parts, processes_of):
        tasks = [(name, item) for name in names for item in PARTS[name].items(settings)]
        ended = Counter[str]()
        for name, found in _run(settings, processes, tasks, deadline):
            ended[name] += 1
            for row in found:
                keep(row)
        for name, all_of_it in Counter(name for name, _ in tasks).items():
            if ended[name] < all_of_it:
                keep(dict(part=name, cut=f"{ended[name]} of {all_of_it}, then the time was over"))
    return rows


def _run(
    settings: Settings, processes: Processes, tasks: list[tuple[str, Any]], deadline: float
) -> Iterator[tuple[str, list[Line]]]:
    if processes is Processes.HERE:
        for name, item in tasks:
            if time.monotonic() > deadline:
                return
            yield name, run_item(settings, name, item)
        return
    apart = replace(settings, peers=Peers(), subjects={})  # those that are known here are large
    calls = [(apart, *task) for task in tasks]
    if processes is Processes.IN_TURNS:
        found = in_turns(run_item, calls, deadline)
    else:
        found = side_by_side(run_item, calls, settings.workers, deadline)
    for (_, name, item), rows in found:
        if isinstance(rows, BaseException):
            error = f"{item}: {type(rows).__name__}: {rows}"
            rows = [dict(part=name, failed=error[:500])]
        yield name, rows


def run_item(settings: Settings, name: str, item: Any, listener: Listener = QUIET) -> list[Line]:
    """The rows of an item; an error is a row, as what comes after is worth its time still."""
    rows: list[Line] = []
    settings = replace(settings, listener=listener)
    try:
        for row in PARTS[name].rows(settings, item):
            rows.append(dict(part=name, **row))
    except Exception as error:
        where = traceback.format_exc().strip().splitlines()[-3:]
        rows.append(dict(part=name, failed=f"{type(error).__name__}: {error}"[:500], where=where))
    if settings.device.type == "cuda":
        torch.cuda.empty_cache()
    return rows


def as_markdown(rows: list[Line]) -> str:
    """The rows as tables, one for the rows of a part that have the same columns."""
    tables: dict[tuple, list[Line]] = {}
    for row in rows:
        tables.setdefault((row["part"], *row), []).append({k: _cell(v) for k, v in row.items()})
    frames = [(group[0]["part"], frame(group).drop(columns="part")) for group in tables.values()]
    return markdown_text(frames, [])


def _line(row: Line) -> str:
    return "  ".join(f"{key}: {_cell(value)}" for key, value in row.items())


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.2f}" if 0.01 <= abs(value) < 1e5 else f"{value:.1e}"
    return str(value).replace("\n", " ")
