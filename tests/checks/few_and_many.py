"""What hypothesis draws, in a short test and in a long one."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings


def few_and_many(check, few, many, *strategies):
    """Two tests of a check: of few examples, and of many for the long tests.

    Args:
        check: Takes fixtures, then what is drawn.
        few: Examples of the short test.
        many: Of the long one.
        *strategies: What is drawn.
    """

    def test(examples):
        fixtures = [HealthCheck.function_scoped_fixture]
        drawn = given(*strategies)(check)
        return settings(max_examples=examples, suppress_health_check=fixtures)(drawn)

    return test(few), pytest.mark.slow(test(many))
