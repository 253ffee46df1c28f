"""Names that earlier versions had in this room."""

from __future__ import annotations

import pytest

import mmplugins.checks
import mmplugins.datasets


@pytest.mark.parametrize("name", ["DataError", "Finding", "check_data"])
def test_checks_of_data_are_found_where_they_were(name):
    with pytest.warns(FutureWarning, match=f"mmplugins.checks.{name}"):
        moved = getattr(mmplugins.datasets, name)
    assert moved is getattr(mmplugins.checks, name)


def test_others_are_not():
    with pytest.raises(AttributeError, match="no attribute 'check_date'"):
        mmplugins.datasets.check_date  # noqa: B018
