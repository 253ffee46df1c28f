"""The comparison of feature maps, and that with timm."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import timm
import torch
from torch import Tensor

from mmplugins.backbones import build_backbone


def assert_close_(actual: Tensor, expected: Tensor, rel: float = 1e-5) -> None:
    """Same shape, and no difference above ``rel`` times the largest expected value."""
    assert actual.shape == expected.shape
    assert expected.isfinite().all()
    assert (actual - expected).abs().max() <= rel * expected.abs().max()


@pytest.fixture
def assert_close():
    """Function that compares two tensors relative to the largest value."""
    return assert_close_


@pytest.fixture
def assert_same_as_timm(randomise):
    """Function that compares a backbone with timm's of the same name at some sizes."""

    @torch.no_grad()
    def assert_same_as_timm(name: str, sizes: Sequence[tuple[int, int]]) -> None:
        """Same weights, same features, in both memory formats."""
        with torch.device("meta"):
            theirs = timm.create_model(name, features_only=True).eval()
            ours = build_backbone(name, out_norm=None).eval()
        weights = randomise(theirs).state_dict()
        ours.load_state_dict(weights, assign=True)
        for size in sizes:
            x = torch.randn(1, 3, *size)
            expected = theirs(x)
            for memory_format in (torch.contiguous_format, torch.channels_last):
                actual = ours(x.contiguous(memory_format=memory_format))
                assert len(actual) == len(expected) == 4
                for a, e in zip(actual, expected, strict=True):
                    assert_close_(a, e)

    return assert_same_as_timm
