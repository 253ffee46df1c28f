"""How cost grows with the size of the image: latency ~ pixels ** exponent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import linear_regression, median

from .comparison import median_interval


@dataclass(frozen=True)
class Growth:
    """Exponent of latency against pixels: 1 for convolutions, towards 2 for attention.

    Attributes:
        exponent: Median over rounds of the exponent fitted to the times of a round.
        low: Lower end of its interval, see :func:`.comparison.median_interval`.
        high: Upper end.
        sizes: Sizes that enter, in pixels.
        rounds: Rounds that have all of them.
    """

    exponent: float
    low: float
    high: float
    sizes: tuple[int, ...]
    rounds: int


def fit_growth(times: Mapping[int, Mapping[int, float]]) -> Growth | None:
    """Fit the exponent by least squares on logarithms, round by round.

    Args:
        times: Seconds by round, by number of pixels; images of one batch size.

    Returns:
        The growth, or None for fewer than three sizes or no round that has them all.
    """
    sizes = tuple(sorted(times))
    if len(sizes) < 3:
        return None
    rounds = sorted(set.intersection(*(set(times[pixels]) for pixels in sizes)))
    if not rounds:
        return None
    logs = [math.log(pixels) for pixels in sizes]
    slopes = [
        linear_regression(logs, [math.log(times[pixels][r]) for pixels in sizes]).slope
        for r in rounds
    ]
    low, high = median_interval(slopes)
    return Growth(median(slopes), low, high, sizes, len(rounds))
