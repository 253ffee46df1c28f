"""The hint at the end of an error about an unknown name."""

import difflib
from collections.abc import Iterable


def did_you_mean(name: object, known: Iterable[str], count: int = 1) -> str:
    """``" Did you mean 'GELU'?"`` for ``'Gelu'``, or nothing if no known name is near.

    Args:
        name: What was given; upper and lower case count as equal.
        known: The names there are.
        count: How many to offer at most. Defaults to 1.
    """
    by_lower = {word.lower(): word for word in known}
    near = difflib.get_close_matches(str(name).lower(), by_lower, n=count, cutoff=0.5)
    return f" Did you mean {' or '.join(repr(by_lower[word]) for word in near)}?" if near else ""
