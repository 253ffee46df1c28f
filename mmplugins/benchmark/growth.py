"""How cost grows with the size of the image: latency ~ pixels ** exponent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import linear_regression, median
from typing import Any

from .comparison import median_interval


def fit_growth(times: Mapping[int, Mapping[int, float]]) -> dict[str, Any] | None:
    """Fit the exponent by least squares on logarithms, round by round.

    Args:
        times: Seconds by round, by number of pixels; images of one batch size.

    Returns:
        ``exponent``, the median over rounds: 1 for convolutions, towards 2 for attention; ``low``
        and ``high``, its interval, see :func:`.comparison.median_interval`; ``sizes`` in pixels
        and ``rounds`` that have all of them. None for fewer than three sizes or no such round.
    """
    sizes = sorted(times)
    rounds = set.intersection(*map(set, times.values())) if len(sizes) >= 3 else ()
    if not rounds:
        return None
    logs = [math.log(pixels) for pixels in sizes]
    slopes = [
        linear_regression(logs, [math.log(times[pixels][r]) for pixels in sizes]).slope
        for r in rounds
    ]
    low, high = median_interval(slopes)
    return dict(exponent=median(slopes), low=low, high=high, sizes=sizes, rounds=len(rounds))
