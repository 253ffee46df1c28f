"""Ranks in a table and the order of its rows: one rule, for times and for scores.

A row's rank is one more than the number of rows that are surely better. It is tied if some other
row is neither surely better nor surely worse. Rows stand in the order of their ranks, those of one
rank in the order of their figures, so that ranks never fall from one line to the next. That may put
a row below one with a worse figure: fewer rows are surely better than that one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class Rank(NamedTuple):
    """Where a row stands; written ``3``, or ``3=`` if it is tied.

    Attributes:
        rank: One more than the number of rows that are surely better.
        tied: Whether it cannot be told apart from some other row.
    """

    rank: int
    tied: bool

    def __str__(self) -> str:
        return f"{self.rank}{'=' if self.tied else ''}"


def ranks(rows: Mapping[str, T], surely_better: Callable[[T, T], bool]) -> dict[str, Rank]:
    """The rank of each row.

    Args:
        rows: What is compared, by row.
        surely_better: Whether the first of two is surely better than the second.
    """
    found = {}
    for name, own in rows.items():
        others = [other for key, other in rows.items() if key != name]
        better = sum(surely_better(other, own) for other in others)
        worse = sum(surely_better(own, other) for other in others)
        found[name] = Rank(better + 1, better + worse < len(others))
    return found


def table_order(rank: Mapping[str, Any] | None, figure: float | None) -> tuple[float, float]:
    """The sort key of a row.

    Args:
        rank: As reports hold it, ``{'rank': 3, 'tied': True}``; None for a row without one, which
            comes after all that have one.
        figure: What rows of one rank are sorted by, the smallest first; None comes last.
    """
    return (
        rank["rank"] if rank else float("inf"),
        float("inf") if figure is None else figure,
    )


def written(rank: Mapping[str, Any] | None) -> str:
    """A rank for a table: ``3``, ``3=``, or ``-`` for none."""
    return str(Rank(**rank)) if rank else "-"
