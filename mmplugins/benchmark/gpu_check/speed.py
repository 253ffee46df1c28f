"""Time of one pass and of one training step, ours beside timm's, as a benchmark measures them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F

from mmplugins.backbones.few_large_maps import group_norm1

from ..environment import describe_environment
from ..peers import Peers
from ..results import ResultFile
from ..rows import TIMM, parse_row
from ..session import Session, Settings
from ..speed import Key, times_in_turns

FAMILIES = (
    "poolformer_s12", "poolformerv2_s12", "convformer_s18", "caformer_s18", "convnext_tiny",
)  # fmt: skip
LAYOUTS = ("plain", "channels_last")
EAGER = (*LAYOUTS, "deploy", "deploy,channels_last")
COMPILED = ("compile,channels_last", "deploy,compile,channels_last")
GRAPHED = "deploy,graphs,channels_last"


def measure(
    name: str, forms: Sequence[str], theirs: Sequence[str], what: str, size: tuple[int, int],
    batch: int, settings: dict[str, Any], file: Path, peers: Peers,
) -> dict[str, Any]:  # fmt: skip
    """Milliseconds of a backbone in each form, and of timm's; on a GPU in bf16.

    Args:
        name: Of the backbone.
        forms: Options of our rows.
        theirs: Options of timm's.
        what: ``'inference'``, or ``'training'``: the step, and the MiB at its peak on a GPU, with
            weights and the optimiser's states.
        size: Height and width.
        batch: Images.
        settings: Further ones of a benchmark.
        file: Its results, which ``tools/report.py`` shows.
        peers: What is known to be equal.

    Returns:
        ``ms`` and ``MiB`` by row, how many times as fast our best trained form and our best
        deployed form are as timm's best (``x timm``), and ``fails`` for what was not measured.
    """
    dtype = "plain" if settings["device"] == "cpu" else "bf16"  # which many processors do not have
    ours = [parse_row(f"{name}:{form},{dtype}") for form in forms]
    rows = ours + [parse_row(f"{TIMM}{name}:{form},{dtype}") for form in theirs]
    measures = (what, "memory") if what == "training" else (what,)
    how = Settings((size,), (batch,), measures, peers=True, **settings)
    results = ResultFile(file, describe_environment(how.device), how.fixed())
    Session(rows, how, results, peers=peers).run()
    times, found, ms = results.results.times, dict[str, Any](), {}
    for row in rows:
        key = Key(row.label, what, size, batch)
        if key in times:
            ms[row] = found[f"{row.label} ms"] = 1000 * median(s.total for s in times[key].values())
        if what == "training" and key in results.results.memory:
            found[f"{row.label} MiB"] = results.results.memory[key]["peak"] / 2**20
    best = min((value for row, value in ms.items() if row not in ours), default=float("nan"))
    for label, deployed in (("x timm", False), ("deployed x timm", True)):
        if own := [value for row, value in ms.items() if row in ours and row.deploy == deployed]:
            found[label] = best / min(own)
    labels = [row.label for row in rows]
    lost = [f"{k.row}: {why}" for k, why in results.results.failures.items() if k.row in labels]
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
