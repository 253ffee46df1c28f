"""What scores tell: planted differences are found, planted ties stay ties, noise has no order."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mmplugins.benchmark.significance import (
    agreement,
    choose_rates,
    compare_rows,
    enough,
    pareto_front,
    rank_rows,
    summarize,
    summarize_sets,
)

SETS = {"cells": 30.0, "streets": 60.0}


def planted(random, **gains):
    """Three seeds of each row in two sets, with a deviation of 1."""
    return {
        row: {s: list(base + gain + random.normal(size=3)) for s, base in SETS.items()}
        for row, gain in gains.items()
    }


def test_a_better_backbone_is_found_and_equal_ones_stay_equal():
    found = told_apart = 0
    for seed in range(40):
        rows = planted(np.random.default_rng(seed), good=4.0, a=0.0, b=0.0, c=0.0)
        ranks = rank_rows(rows)
        found += (ranks["good"].rank, ranks["good"].tied) == (1, False)
        told_apart += any(not ranks[row].tied or ranks[row].rank != 2 for row in "abc")
    assert found >= 38 and told_apart <= 5  # the test's level is 5 in 100


def test_a_noisy_row_is_no_better_for_the_calm_ones_beside_it():
    """Pooling alone would make its spread look small."""
    calm = {f"calm{k}": [50.0, 50.01, 49.99] for k in range(5)}
    rows = {k: {"s": v} for k, v in {**calm, "wild": [40.0, 52.0, 64.0]}.items()}
    assert set(compare_rows(rows)["verdict"]) == {"tie"}


def test_identical_scores_are_a_tie_and_sums_in_another_order_too():
    rows = {k: {"s": v} for k, v in dict(a=[1.0, 2.0, 3.0], b=[1.0, 2.0, 3.0]).items()}
    (pair,) = compare_rows(rows).itertuples()
    assert (pair.verdict, pair.p, pair.probability) == ("tie", 1.0, 0.5)
    rows = {"a": {"s": [0.1 + 0.2] * 3}, "b": {"s": [0.3] * 3}, "c": {"s": [0.4] * 3}}
    assert [p.verdict for p in compare_rows(rows).itertuples()] == ["tie", "worse", "worse"]


def test_with_one_spread_the_test_is_tukeys():
    random = np.random.default_rng(3)
    shape = random.normal(size=4)
    shape = (shape - shape.mean()) / shape.std(ddof=1)  # all rows with the spread of the pool
    rows = {k: {"s": list(shift + shape)} for k, shift in dict(a=0.0, b=1.0, c=3.0).items()}
    expected = stats.tukey_hsd(*(row["s"] for row in rows.values())).pvalue
    found = compare_rows(rows)["p"].tolist()
    assert found == pytest.approx([expected[0, 1], expected[0, 2], expected[1, 2]], abs=1e-4)


def test_bootstrap_probability():
    random = np.random.default_rng(0)
    pairs = compare_rows(planted(random, a=0.0, b=1.0)).iloc[0]
    assert 0 < pairs["probability"] < 0.5
    rows = planted(np.random.default_rng(0), a=0.0, b=9.0)
    assert compare_rows(rows).iloc[0]["probability"] == 0


def test_too_few_runs_have_no_order():
    rows = planted(np.random.default_rng(0), a=0.0, b=9.0, c=0.0)
    rows["c"]["cells"] = rows["c"]["cells"][:2]
    assert set(rank_rows(rows)) == {"a", "b"} and not enough(rows["c"])
    del rows["b"]["streets"]
    assert rank_rows(rows) == {} and rank_rows({}) == {}  # nothing to compare with


def test_intervals_are_those_of_scipy():
    values = [50.0, 52.0, 55.0]
    found = summarize(values)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found["low"], found["high"]) == pytest.approx(tuple(expected))
    assert summarize([])["mean"] is None and summarize([1.0])["low"] is None
    one = summarize_sets({"s": values})
    assert (one["low"], one["high"]) == pytest.approx(tuple(expected))
    # Two sets of equal spread: the interval of a sum by Welch, here with 4 degrees of freedom.
    two = summarize_sets({"s": values, "t": [v + 10 for v in values]})
    half = stats.t.ppf(0.975, 4) * np.std(values, ddof=1) / 6**0.5
    assert (two["mean"], two["high"] - two["mean"]) == pytest.approx((np.mean(values) + 5, half))
    assert two["sets_low"] is None
    means = [50.0, 52.0, 57.0]
    three = summarize_sets({str(m): [m] for m in means})
    expected = stats.ttest_1samp(means, 0).confidence_interval(0.95)
    assert (three["sets_low"], three["sets_high"]) == pytest.approx(tuple(expected))
    assert three["low"] is None


def test_rates_with_fewer_seeds_come_last():
    lines = [
        dict(set="s", start="x", label="a", lr=lr, seed=seed, chosen=chosen)
        for lr, seeds, chosen in ((1e-4, 3, 10.0), (1e-3, 3, 20.0), (1e-2, 2, 90.0))
        for seed in range(seeds)
    ]
    lines.append(dict(set="s", start="x", label="b", lr=None, seed=0, chosen=1.0))
    found = choose_rates(pd.DataFrame(lines))
    assert found[found["label"] == "a"]["lr"].tolist() == [1e-3] * 3
    assert len(found[found["label"] == "b"]) == 1


def test_agreement_of_orders():
    orders = {
        "one": dict(a=1.0, b=2.0, c=3.0, d=4.0),
        "two": dict(a=1.0, b=2.0, c=4.0, d=3.0),
        "few": dict(a=1.0, b=2.0),
    }
    found = {(line.order, line.other): line for line in agreement(orders).itertuples()}
    assert found["one", "two"].tau == pytest.approx(4 / 6) and found["one", "two"].rows == 4
    assert np.isnan(found["one", "few"].tau) and found["one", "few"].rows == 2


def test_the_pareto_front():
    points = dict(a=(1.0, 50.0), b=(2.0, 60.0), c=(2.0, 55.0), d=(3.0, 60.0), e=(1.0, 50.0))
    assert pareto_front(points) == ["a", "e", "b"] and pareto_front({}) == []
