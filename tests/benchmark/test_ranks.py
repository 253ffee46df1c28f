"""Places by a rule that does not order all rows, and the order of a table."""

import random

from mmplugins.benchmark.ranks import Rank, ranks, table_order, written


def overlapping(rows):
    """Places of intervals: one is surely better where all of it is above the other."""
    return ranks(rows, lambda one, other: one[0] > other[1])


def test_places_count_rows_that_are_surely_better():
    rows = {"a": (50, 54), "b": (58, 62), "c": (59, 61), "wide": (40, 60)}
    assert overlapping(rows) == {"a": (3, True), "b": (1, True), "c": (1, True), "wide": (1, True)}
    assert overlapping({"a": (1, 2), "b": (3, 4)}) == {"a": (2, False), "b": (1, False)}
    assert overlapping({"alone": (0, 0)}) == {"alone": (1, False)} and overlapping({}) == {}


def test_places_never_fall_down_a_table():
    chance, falls = random.Random(0), 0
    for _ in range(200):
        rows = {}
        for i in range(8):
            middle, half = chance.uniform(0, 10), chance.uniform(0, 4)
            rows[str(i)] = (middle - half, middle + half)
        found = overlapping(rows)
        middles = {row: -sum(ends) / 2 for row, ends in rows.items()}
        by_figure = [found[row].rank for row in sorted(rows, key=middles.get)]
        falls += by_figure != sorted(by_figure)
        order = sorted(rows, key=lambda row: table_order(found[row]._asdict(), middles[row]))
        in_order = [found[row].rank for row in order]
        assert in_order == sorted(in_order) and in_order[0] == 1
        for one, other in zip(order, order[1:], strict=False):
            assert found[one].rank < found[other].rank or middles[one] <= middles[other]
    assert falls > 20  # what sorting by the figure alone would have shown


def test_rows_without_a_place_come_last():
    keys = [table_order(None, None), table_order(None, 1.0), table_order(dict(rank=9), 7.0)]
    assert sorted(keys) == keys[::-1]


def test_how_places_are_written():
    assert written(Rank(3, True)._asdict()) == "3="
    assert written(dict(rank=12, tied=False)) == "12" and written(None) == "-"
