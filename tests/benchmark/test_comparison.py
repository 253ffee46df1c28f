"""Ranks on made-up times: what is planted is seen, what is not planted is not."""

from math import comb

import numpy as np
import pytest

from mmplugins.benchmark.comparison import LEVEL, compare, median_interval, rank

TRIALS = 300


def made_up(random, rounds, *, slower=1.0, noise=0.03, drift=True):
    """Times by round of two rows on a busy machine: drift, noise, and hiccups on one side."""
    machine = np.exp(np.cumsum(random.normal(0, 0.05, rounds))) if drift else np.ones(rounds)
    times = []
    for factor in (1.0, slower):
        hiccups = np.where(random.random(rounds) < 0.1, random.uniform(1, 2, rounds), 1)
        own = factor * machine * hiccups * random.lognormal(0, noise, rounds)
        times.append(dict(enumerate(own)))
    return times


def share(verdict, rounds=25, **how):
    random = np.random.default_rng(0)
    found = [compare(*made_up(random, rounds, **how)[::-1]).verdict for _ in range(TRIALS)]
    return found.count(verdict) / TRIALS


def test_ten_percent_are_seen_though_the_machine_drifts_by_far_more():
    assert share("slower", slower=1.1) > 0.95
    assert share("faster", slower=1 / 1.1) > 0.95


def test_nothing_planted_is_nothing_seen():
    assert share("tie") == 1.0
    assert share("tie", noise=0.2) > 0.98


def test_one_percent_is_below_what_two_builds_of_one_model_may_differ_by():
    assert share("tie", slower=1.01, noise=0.002) > 0.99


def test_medians_alone_would_have_ranked_rows_without_a_difference():
    random = np.random.default_rng(1)
    apart = 0
    for _ in range(TRIALS):
        times, others = (np.median(list(t.values())) for t in made_up(random, 15))
        apart += not 1 / 1.02 < times / others < 1.02
    assert apart > TRIALS / 10


@pytest.mark.parametrize("n", [7, 9, 15, 25, 30])
def test_interval_is_the_tightest_of_the_sign_test(n):
    low, high = median_interval(range(1, n + 1))
    assert low + high == n + 1

    def covers(cut):  # probability that order statistics cut and n + 1 - cut enclose the median
        return 1 - 2 * sum(comb(n, k) for k in range(cut)) / 2**n

    assert covers(low) >= LEVEL > covers(low + 1)


def test_interval_covers_the_median_as_often_as_it_says():
    random = np.random.default_rng(2)
    hits = 0
    for _ in range(2000):
        low, high = median_interval(random.exponential(size=15))
        hits += low <= np.log(2) <= high
    assert hits / 2000 >= LEVEL - 0.005


def test_too_few_rounds_decide_nothing():
    few = {r: 1.0 for r in range(6)}
    slow = {r: 10.0 for r in range(6)}
    assert compare(slow, few).verdict == "tie" and compare(slow, few).ratio == 10
    assert rank({"a": few, "b": slow}) == {"a": (1, True), "b": (1, True)}
    assert compare({r: 10.0 for r in range(7)}, {r: 1.0 for r in range(7)}).verdict == "slower"


def test_only_common_rounds_count():
    early, late = {r: 1.0 for r in range(10)}, {r: 2.0 for r in range(10, 20)}
    assert compare(early, late) is None
    both = compare(early, {**late, 3: 4.0})
    assert both.rounds == 1 and both.ratio == 0.25


def test_ranks_share_places():
    rounds = range(15)
    wobble = {r: 1 + 0.001 * (r % 3) for r in rounds}
    rows = {
        "slow": {r: 2.0 for r in rounds},
        "fast": {r: 1.0 for r in rounds},
        "as fast": wobble,
        "slowest": {r: 3.0 for r in rounds},
    }
    assert rank(rows) == {
        "fast": (1, True),
        "as fast": (1, True),
        "slow": (3, False),
        "slowest": (4, False),
    }
