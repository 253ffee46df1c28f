"""Which of two rows is faster, if the measurement can tell.

Both were timed in the same rounds. The ratio of their times within a round is free of what slows
the machine for a while, so the question is where the median of these ratios lies. The interval
around it is the one of the sign test: order statistics of the ratios, with no assumption on their
distribution. A row counts as slower only if that whole interval, at :data:`LEVEL`, lies above
:data:`RESOLUTION`; all else is a tie, whatever the medians say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb
from statistics import median

from .ranks import Rank, ranks

LEVEL = 0.98
"""Confidence of intervals. Many pairs are compared in one table, hence not the usual 95 %."""

RESOLUTION = 1.02
"""Smallest ratio worth a rank: one model built twice can differ by this much for good, from where
its weights happen to lie in memory."""


@dataclass(frozen=True)
class Comparison:
    """How much slower one row is than another.

    Attributes:
        ratio: Median over rounds of its time divided by the other's.
        low: Lower end of the interval around it.
        high: Upper end.
        rounds: Rounds that have both.
    """

    ratio: float
    low: float
    high: float
    rounds: int

    @property
    def verdict(self) -> str:
        """``'slower'``, ``'faster'`` or ``'tie'``."""
        if self.low > RESOLUTION:
            return "slower"
        return "faster" if self.high < 1 / RESOLUTION else "tie"


def median_interval(values: Sequence[float], level: float = LEVEL) -> tuple[float, float]:
    """Interval that holds the median of the values' distribution with at least this confidence.

    With fewer than 7 values no interval holds it with 98 %; then the answer is ``(0, inf)``.
    """
    ordered, n = sorted(values), len(values)
    tail, cut = 0, 0  # outcomes of n coin tosses with at most `cut` heads, less one
    while 2 * (tail + comb(n, cut)) <= (1 - level) * 2**n:
        tail += comb(n, cut)
        cut += 1
    return (ordered[cut - 1], ordered[n - cut]) if cut else (0.0, float("inf"))


def compare(times: Mapping[int, float], others: Mapping[int, float]) -> Comparison | None:
    """Compare times by round, in seconds; None if the rows have no round in common."""
    ratios = [times[r] / others[r] for r in times if r in others]
    if not ratios:
        return None
    low, high = median_interval(ratios)
    return Comparison(median(ratios), low, high, len(ratios))


def rank(rows: Mapping[str, Mapping[int, float]]) -> dict[str, Rank]:
    """Ranks of rows by times by round, see :mod:`.ranks`."""

    def faster(times: Mapping[int, float], others: Mapping[int, float]) -> bool:
        found = compare(times, others)
        return found is not None and found.verdict == "faster"

    return ranks(rows, faster)
