"""What scores of several trainings tell, and what they do not: intervals, ranks, agreement.

Scores stand in a frame of one line per training: ``set``, ``label``, ``start``, ``lr``, ``seed``,
``score`` (reported) and ``chosen`` (on validation, by which a learning rate is chosen).

*Surely better* is decided by the Tukey-Kramer test for all pairs of a table at once: with a
probability of :data:`LEVEL` no two rows of equal worth are told apart. The spread over seeds is
pooled over the rows of a set, as three seeds of one row say little about it; a row that spreads
more than that keeps its own. Sets are fixed: what holds is said of them, not of all sets there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from .ranks import Rank, ranks

LEVEL = 0.95
RUNS_TO_RANK = 3
"""Seeds that a row needs in every set to be compared."""

RESAMPLES = 4000
"""Draws of the bootstrap."""

LEAST = 1e-6
"""Differences of scores below this are those of summing in another order."""


def choose_rates(runs: pd.DataFrame) -> pd.DataFrame:
    """The trainings of the learning rate that is best on validation, by set, backbone and start.

    Rates that fewer seeds have been trained with come after those with more.
    """
    group = ["set", "start", "label"]
    runs = runs.assign(rate=runs["lr"].astype(float).fillna(-1.0))
    found = runs.groupby([*group, "rate"])["chosen"].agg(["count", "mean"]).reset_index()
    # Of equal ones the smallest, so that the choice never depends on the order of lines.
    found = found.sort_values(["count", "mean", "rate"], ascending=[False, False, True])
    return runs.merge(found.drop_duplicates(group)[[*group, "rate"]])


def summarize(values: Sequence[float]) -> dict[str, float | int | None]:
    """Mean, spread and t-interval of the scores of one row in one set."""
    x = np.asarray(values, dtype=float)
    if not len(x):
        names = ("mean", "deviation", "low", "high", "lowest", "highest")
        return {**dict.fromkeys(names), "count": 0}
    mean = float(x.mean())
    found: dict[str, float | int | None] = dict(mean=mean, deviation=None, low=None, high=None)
    found |= dict(lowest=float(x.min()), highest=float(x.max()), count=len(x))
    if len(x) > 1:
        half = _t_half([x.var(ddof=1) / len(x)], [len(x) - 1])
        found |= dict(deviation=float(x.std(ddof=1)), low=mean - half, high=mean + half)
    return found


def summarize_sets(scores: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """The mean over sets of the means over seeds, and its intervals.

    Returns:
        ``mean``; ``low`` and ``high`` over seeds, the sets being fixed (Welch-Satterthwaite);
        ``sets_low`` and ``sets_high`` over sets as a sample of all such sets, from three on;
        ``count``, the least number of seeds of a set.
    """
    cells = [np.asarray(values, dtype=float) for values in scores.values()]
    means = np.array([cell.mean() for cell in cells])
    mean, count = float(means.mean()), min(map(len, cells))
    found: dict[str, Any] = dict(mean=mean, count=count, low=None, high=None)
    found |= dict(sets_low=None, sets_high=None)
    if count > 1:
        terms = [cell.var(ddof=1) / len(cell) / len(cells) ** 2 for cell in cells]
        half = _t_half(terms, [len(cell) - 1 for cell in cells])
        found |= dict(low=mean - half, high=mean + half)
    if len(cells) >= 3:
        half = _t_half([means.var(ddof=1) / len(means)], [len(means) - 1])
        found |= dict(sets_low=mean - half, sets_high=mean + half)
    return found


def _t_half(terms: Sequence[float], freedom: Sequence[int]) -> float:
    """Half an interval, of a sum of variances with so many degrees of freedom each."""
    total = sum(terms)
    return float(stats.t.ppf((1 + LEVEL) / 2, _degrees(terms, freedom)) * total**0.5)


def _degrees(terms: Sequence[float], freedom: Sequence[int]) -> float:
    """Degrees of freedom of a sum of variances (Welch-Satterthwaite)."""
    parts = sum(term**2 / degrees for term, degrees in zip(terms, freedom, strict=True))
    return sum(terms) ** 2 / parts if parts else np.inf


def compare_rows(rows: Mapping[str, Mapping[str, Sequence[float]]]) -> pd.DataFrame:
    """Every two rows of a table that have enough runs.

    Args:
        rows: By row and set, the scores of its seeds. Rows with fewer than :data:`RUNS_TO_RANK` in
            some set are left out.

    Returns:
        One line per pair: ``row``, ``other``, ``difference`` of the means, ``p`` of the
        Tukey-Kramer test, ``probability`` that the row beats the other by the bootstrap over
        seeds, ``verdict`` (``'better'``, ``'worse'``, ``'tie'``).
    """
    rows = {k: v for k, v in rows.items() if enough(v, rows)}
    columns = ["row", "other", "difference", "p", "probability", "verdict"]
    if len(rows) < 2:
        return pd.DataFrame(columns=columns)
    sets = list(next(iter(rows.values())))
    cells = {row: {s: np.asarray(v[s], dtype=float) for s in sets} for row, v in rows.items()}
    pooled, freedom = {}, {}
    for s in sets:
        freedom[s] = sum(len(cell[s]) - 1 for cell in cells.values())
        squares = sum(cell[s].var(ddof=1) * (len(cell[s]) - 1) for cell in cells.values())
        pooled[s] = squares / freedom[s]
    degrees = _degrees([pooled[s] for s in sets], [freedom[s] for s in sets])
    variance = {
        row: sum(max(cell[s].var(ddof=1), pooled[s]) / len(cell[s]) for s in sets) / len(sets) ** 2
        for row, cell in cells.items()
    }
    mean = {row: float(np.mean([cell[s].mean() for s in sets])) for row, cell in cells.items()}
    drawn = {row: _bootstrap(cell) for row, cell in cells.items()}
    lines = []
    for row, other in combinations(rows, 2):
        difference = mean[row] - mean[other]
        scale = ((variance[row] + variance[other]) / 2) ** 0.5
        if abs(difference) < LEAST:
            p = 1.0
        elif scale < LEAST:
            p = 0.0
        else:
            p = float(stats.studentized_range.sf(abs(difference) / scale, len(rows), degrees))
        wins = (drawn[row] > drawn[other]).mean() + (drawn[row] == drawn[other]).mean() / 2
        sure = "better" if difference > 0 else "worse"
        verdict = sure if p < 1 - LEVEL else "tie"
        lines.append((row, other, difference, p, float(wins), verdict))
    return pd.DataFrame(lines, columns=columns)


def enough(
    scores: Mapping[str, Sequence[float]], rows: Mapping[str, Mapping] | None = None
) -> bool:
    """Whether a row has enough runs in every set that the rows have."""
    sets = {s for row in (rows or {"": scores}).values() for s in row}
    return all(len(scores.get(s, ())) >= RUNS_TO_RANK for s in sets)


def _bootstrap(cell: Mapping[str, np.ndarray]) -> np.ndarray:
    """Means over sets of the means of seeds drawn with replacement."""
    random = np.random.default_rng(0)
    found = []
    for s in sorted(cell):
        values = cell[s]
        found.append(values[random.integers(0, len(values), (RESAMPLES, len(values)))].mean(1))
    # One order for all rows would draw the same seeds for both of a pair.
    drawn = np.mean(found, axis=0)
    key = int(abs(hash(tuple(np.concatenate([cell[s] for s in sorted(cell)])))) % 2**32)
    return np.random.default_rng(key).permutation(drawn)


def rank_rows(rows: Mapping[str, Mapping[str, Sequence[float]]]) -> dict[str, Rank]:
    """Ranks of the rows that have enough runs, with ties; none for one alone. See :mod:`.ranks`."""
    pairs = compare_rows(rows)
    better = {(p.row, p.other) for p in pairs.itertuples() if p.verdict == "better"}
    better |= {(p.other, p.row) for p in pairs.itertuples() if p.verdict == "worse"}
    compared = {row: row for row in rows if enough(rows[row], rows)}
    if len(compared) < 2:
        return {}
    return ranks(compared, lambda one, other: (one, other) in better)


def agreement(orders: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """Kendall's tau between every two orders, for example of two sets, budgets or protocols.

    Args:
        orders: Scores by row, by the name of the order.

    Returns:
        One line per pair: ``order``, ``other``, ``rows`` in common, ``tau`` (tau-b, which knows
        ties) and ``p``; both NaN below three rows in common.
    """
    lines = []
    for one, other in combinations(orders, 2):
        common = [row for row in orders[one] if row in orders[other]]
        tau = p = float("nan")
        if len(common) >= 3:
            found = stats.kendalltau(
                [orders[one][row] for row in common], [orders[other][row] for row in common]
            )
            tau, p = float(found.statistic), float(found.pvalue)
        lines.append((one, other, len(common), tau, p))
    return pd.DataFrame(lines, columns=["order", "other", "rows", "tau", "p"])


def pareto_front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Rows that no other beats in both cost and score, in the order of cost.

    Args:
        points: Cost and score by row. Of equal points all are on the front.
    """

    def beaten(cost: float, score: float) -> bool:
        return any(c <= cost and s >= score and (c, s) != (cost, score) for c, s in points.values())

    front = [row for row, point in points.items() if not beaten(*point)]
    return sorted(front, key=lambda row: points[row])
