"""Weights that show every difference, and the comparison with timm."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import timm
import torch
from torch import Tensor, nn

from mmplugins.backbones import build_backbone


@torch.no_grad()
def randomise_(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give every weight a random value at which no branch vanishes (a layer scale starts at 1e-5).

    Memory is allocated here if the model stands on the meta device.
    """
    if any(p.is_meta for p in model.parameters()):
        model.to_empty(device="cpu")
    random = torch.Generator().manual_seed(seed)
    for name, value in model.state_dict().items():
        if not value.is_floating_point():
            value.zero_()
        elif value.ndim < 2:
            mean = 0.0 if name.endswith(("bias", "mean")) else 1.0  # the rest scales, or is a var
            value.uniform_(mean - 0.5, mean + 0.5, generator=random)
        else:
            fan_in = 4 if len(value) == 1 else value[0].numel()  # 1: a position embedding
            value.normal_(0, fan_in**-0.5, generator=random)
    return model


def assert_close_(actual: Tensor, expected: Tensor, rel: float = 1e-5) -> None:
    """Same shape, and no difference above ``rel`` times the largest expected value."""
    assert actual.shape == expected.shape
    assert expected.isfinite().all()
    assert (actual - expected).abs().max() <= rel * expected.abs().max()


@torch.no_grad()
def assert_same_as_timm_(name: str, sizes: Sequence[tuple[int, int]]) -> None:
    """Same weights, same features as timm's model of that name, in both memory formats."""
    with torch.device("meta"):
        theirs = timm.create_model(name, features_only=True).eval()
        ours = build_backbone(name, out_norm=None).eval()
    weights = randomise_(theirs).state_dict()
    ours.load_state_dict(weights, assign=True)
    for size in sizes:
        x = torch.randn(1, 3, *size)
        expected = theirs(x)
        for memory_format in (torch.contiguous_format, torch.channels_last):
            actual = ours(x.contiguous(memory_format=memory_format))
            assert len(actual) == len(expected) == 4
            for a, e in zip(actual, expected, strict=True):
                assert_close_(a, e)


@pytest.fixture
def randomise():
    """Function that gives all weights of a model random values; returns the model."""
    return randomise_


@pytest.fixture
def assert_close():
    """Function that compares two tensors relative to the largest value."""
    return assert_close_


@pytest.fixture
def assert_same_as_timm():
    """Function that compares a backbone with timm's of the same name at some sizes."""
    return assert_same_as_timm_
