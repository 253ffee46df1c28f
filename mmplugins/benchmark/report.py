"""What a file of results comes to: one plain structure that all tables and plots are made from.

``make_report`` returns JSON-able data::

    schema, environment, settings            as in the file of results
    cases   [[height, width], batch], in order of pixels
    rows    one per row, in the order of the file:
      row                label, e.g. 'caformer_s18:deploy'
      name, backbone, family, options, dtype, whole, parameters
      failure            why the row could not be built, or null
      cases              one per size and batch, in order of pixels:
        size, batch
        macs             {total, by_part, pooling} of one pass over the whole batch, or null
        inference        times or null
        training         times or null; parts forward, backward, optimizer
        lower_bound      times or null
        stages           times or null; parts by stage
        operations       times or null; parts by kind of operation; 'operations of training' too
        above_lower_bound  {ratio, low, high, rounds, verdict}: inference / lower_bound, or null
        images_per_second  batch / median time of inference, or null
        memory           {'inference': {peak, saved, method}, 'training': ...}, those that there are
        energy           {joules, watts, source, passes} of a pass over the whole batch, or null
        rank             {'inference': {'rank': 1, 'tied': false}, 'training': ...}
        failures         {what: reason}
    pairs   [{what, size, batch, row, other, ratio, low, high, rounds, verdict}] for every two rows,
            ``ratio`` being time of ``row`` / time of ``other`` and ``verdict`` what ``row`` is
    growth  [{row, batch, exponent, low, high, sizes, rounds}], from inference at 3 sizes or more

*times* are ``{rounds, best, median, p10, p90, parts: {name: median}}`` in seconds per call. Memory
is in bytes, MACs are multiply-accumulates.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from mmplugins.utils import write_whole

from .comparison import Comparison, compare, rank
from .growth import fit_growth
from .ranks import table_order
from .results import SCHEMA, Results
from .speed import Key, Sample

TIMED = ("inference", "training", "lower_bound", "stages", "operations", "operations of training")
RANKED = ("inference", "training")


def make_report(results: Results) -> dict[str, Any]:
    """Evaluate results, see the module for the structure."""
    about = [*results.times, *results.macs, *results.memory, *results.failures]
    cases = sorted(
        {(key.size, key.batch) for key in about if key.batch},
        key=lambda case: (case[0][0] * case[0][1], case),
    )
    ranks, pairs = {}, []
    for size, batch in cases:
        for what in RANKED:
            times = _totals(results, what, size, batch)
            ranks[what, size, batch] = rank(times)
            pairs += _pairs(times, dict(what=what, size=list(size), batch=batch))
    labels = [*results.rows, *(k.row for k in results.failures if k.row not in results.rows)]
    return dict(
        schema=SCHEMA,
        environment=results.environment,
        settings=results.settings,
        cases=[[list(size), batch] for size, batch in cases],
        rows=[
            dict(
                row=label,
                **results.rows.get(label, {}),
                failure=results.failures.get(Key(label, "row", (0, 0), 0)),
                cases=[_case(results, label, size, batch, ranks) for size, batch in cases],
            )
            for label in dict.fromkeys(labels)
        ],
        pairs=pairs,
        growth=_growth(results),
    )


def _case(results: Results, label: str, size: tuple, batch: int, ranks: Mapping) -> dict[str, Any]:
    def key(what: str) -> Key:
        return Key(label, what, size, batch)

    inference, bound = (
        {r: sample.total for r, sample in results.times.get(key(what), {}).items()}
        for what in ("inference", "lower_bound")
    )
    found = {what: ranks[what, size, batch].get(label) for what in RANKED}
    return dict(
        size=list(size),
        batch=batch,
        macs=results.macs.get(key("macs")),
        **{what: summarize(results.times.get(key(what), {})) for what in TIMED},
        above_lower_bound=_plain(compare(inference, bound)),
        images_per_second=batch / median(inference.values()) if inference else None,
        memory={what: results.memory[key(what)] for what in RANKED if key(what) in results.memory},
        energy=results.energy.get(key("energy")),
        rank={what: rank._asdict() for what, rank in found.items() if rank},
        failures={
            k.what: reason
            for k, reason in results.failures.items()
            if (k.row, k.size, k.batch) == (label, size, batch)
        },
    )


def case_name(size: Sequence[int], batch: int) -> str:
    """How tables and plots call a size and batch."""
    return f"{size[0]}x{size[1]}, batch {batch}"


def rows_in_order(
    report: Mapping[str, Any], size: list[int], batch: int
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The rows of a size and batch, each with its case, in the order of every table."""
    found = [
        (row, case)
        for row in report["rows"]
        for case in row["cases"]
        if (case["size"], case["batch"]) == (size, batch)
    ]

    def order(pair: tuple[dict[str, Any], dict[str, Any]]) -> tuple[float, float]:
        case = pair[1]
        return table_order(case["rank"].get("inference"), (case["inference"] or {}).get("median"))

    return sorted(found, key=order)


def summarize(samples: Mapping[int, Sample]) -> dict[str, Any] | None:
    """Spread of samples by round, in seconds; None if there are none."""
    if not samples:
        return None
    totals = sorted(sample.total for sample in samples.values())
    deciles = quantiles(totals, n=10, method="inclusive") if len(totals) > 1 else totals * 9
    parts = dict.fromkeys(name for sample in samples.values() for name in sample.seconds)
    return dict(
        rounds=len(totals),
        best=totals[0],
        median=median(totals),
        p10=deciles[0],
        p90=deciles[-1],
        parts={
            name: median(sample.seconds.get(name, 0.0) for sample in samples.values())
            for name in parts
        },
    )


def _totals(results: Results, what: str, size: tuple, batch: int) -> dict[str, dict[int, float]]:
    keys = [Key(row, what, size, batch) for row in results.rows]
    return {
        key.row: {r: sample.total for r, sample in samples.items()}
        for key in keys
        if (samples := results.times.get(key))
    }


def _pairs(times: Mapping[str, Mapping[int, float]], case: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        dict(case, row=row, other=other, **found)
        for row, other in combinations(times, 2)
        if (found := _plain(compare(times[row], times[other]))) is not None
    ]


def _plain(comparison: Comparison | None) -> dict[str, Any] | None:
    if comparison is None:
        return None
    return dict(_finite(asdict(comparison)), verdict=comparison.verdict)


def _growth(results: Results) -> list[dict[str, Any]]:
    by_row: dict[tuple[str, int], dict[int, dict[int, float]]] = {}
    for key, samples in results.times.items():
        if key.what == "inference":
            sizes = by_row.setdefault((key.row, key.batch), {})
            pixels = key.size[0] * key.size[1]
            sizes[pixels] = {r: sample.total for r, sample in samples.items()}
    fits = ((*of, fit_growth(sizes)) for of, sizes in by_row.items())
    return [dict(row=row, batch=batch, **_finite(fit)) for row, batch, fit in fits if fit]


def _finite(found: dict[str, Any]) -> dict[str, Any]:
    """With null for an end that too few rounds leave open."""
    return dict(found, high=found["high"] if found["high"] != float("inf") else None)


def write_report(report: dict[str, Any], path: str | Path) -> None:
    """Write a report as JSON, aside first; an older one of the same name is replaced."""
    write_whole(path, json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
