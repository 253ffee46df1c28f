"""Time of one pass and of one training step, ours beside timm's, as a benchmark measures them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F

from mmplugins.backbones.few_large_maps import group_norm1

from ..environment import describe_environment
from ..results import ResultFile, Results
from ..rows import TIMM, Row, parse_row
from ..session import Session, Settings
from ..speed import Key, times_in_turns
from . import settings

TIMES = "times.jsonl"
LAYOUTS = ("plain", "channels_last")
EAGER = (*LAYOUTS, "deploy", "deploy,channels_last")
COMPILED = ("compile,channels_last", "deploy,compile,channels_last")
GRAPHED = "deploy,graphs,channels_last"


def measure(
    check: settings.Settings, name: str, forms: Sequence[str], theirs: Sequence[str],
    measures: Sequence[str], size: tuple[int, int], batches: Sequence[int], times: str = TIMES,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Milliseconds of a backbone in each form, and of timm's; on a GPU in bf16.

    Args:
        check: Of the whole check.
        name: Of the backbone.
        forms: Options of our rows.
        theirs: Options of timm's.
        measures: ``'inference'``, ``'training'`` or both: the pass; the step, and the MiB at its
            peak on a GPU, with weights and the optimiser's states. All are timed in turns.
        size: Height and width.
        batches: Images at a time.
        times: File of all timings, which ``tools/report.py`` shows.

    Yields:
        For each measure and batch ``ms`` and ``MiB`` by row, how many times as fast our best
        trained form and our best deployed form are as timm's best (``x timm``), what share of
        timm's least memory ours takes, and ``fails`` for what was not measured.
    """
    dtype = "plain" if check.device.type == "cpu" else "bf16"  # which many processors do not have
    ours = [parse_row(f"{name}:{form},{dtype}") for form in forms]
    rows = ours + [parse_row(f"{TIMM}{name}:{form},{dtype}") for form in theirs]
    wanted = (*measures, "memory") if "training" in measures else tuple(measures)
    how = Settings(
        (size,), tuple(batches), wanted, check.rounds, str(check.device), torch.get_num_threads(),
        peers=True, macs=False,
    )  # fmt: skip
    results = ResultFile(check.folder / times, describe_environment(how.device), how.fixed())
    Session(rows, how, results, check.listener, peers=check.peers, subjects=check.subjects).run()
    about = dict(backbone=name, size="{}x{}".format(*size))
    for what, batch in product(measures, batches):
        found = _found(results.results, rows, ours, what, size, batch)
        yield about | dict(batch=batch, measure=what) | found


def _found(
    results: Results, rows: list[Row], ours: list[Row], what: str, size: tuple[int, int], batch: int
) -> dict[str, Any]:
    found, ms, peaks = dict[str, Any](), dict[Row, float](), dict[Row, float]()
    for row in rows:
        key = Key(row.label, what, size, batch)
        if key in results.times:
            times = results.times[key].values()
            ms[row] = found[f"{row.label} ms"] = 1000 * median(one.total for one in times)
        if what == "training" and key in results.memory:
            peaks[row] = found[f"{row.label} MiB"] = results.memory[key]["peak"] / 2**20
    best = min((value for row, value in ms.items() if row not in ours), default=float("nan"))
    for label, deployed in (("x timm", False), ("deployed x timm", True)):
        if own := [value for row, value in ms.items() if row in ours and row.deploy == deployed]:
            found[label] = best / min(own)
    least = [[value for row, value in peaks.items() if (row in ours) == own] for own in (1, 0)]
    if all(least):
        found["memory / timm's"] = min(least[0]) / min(least[1])
    labels, whats = [row.label for row in rows], (what, "row", f"memory of {what}")
    lost = [
        f"{key.row}: {why}"
        for key, why in results.failures.items()
        if key.row in labels and key.what in whats and key.batch in (batch, 0)
    ]
    return found | ({"fails": "; ".join(lost)} if lost else {})


def group_norms(device: torch.device, rounds: int, scale: int = 1) -> Iterator[dict]:
    """``F.group_norm`` with one group beside the reduction of ``few_large_maps``."""
    for batch, shape in ((1, (64, 128, 128)), (8, (64, 128, 128)), (2, (64, 200, 320))):
        size = [side // scale for side in shape[1:]]
        x = torch.randn(batch, shape[0], *size, device=device, dtype=torch.bfloat16)
        w = torch.ones(shape[0], device=device, dtype=torch.bfloat16)
        runs = dict(
            formula=lambda x=x, w=w: F.group_norm(x, 1, w, w, 1e-5),
            reduction=lambda x=x, w=w: group_norm1(x, w, w, 1e-5),
        )
        with torch.no_grad():
            times = times_in_turns(runs, rounds, device)
        medians = {name: 1000 * median(found.values()) for name, found in times.items()}
        yield dict(map="x".join(map(str, x.shape)), **medians)
