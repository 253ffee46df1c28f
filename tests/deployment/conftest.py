"""Weights at which no part of a model vanishes."""

from __future__ import annotations

import pytest
import torch
from torch import nn


@pytest.fixture
def randomise():
    """Function that gives all weights and statistics of a model random values; returns it."""

    @torch.no_grad()
    def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
        random = torch.Generator().manual_seed(seed)
        for name, value in model.state_dict().items():
            if not value.is_floating_point():
                continue
            if value.ndim < 2:
                mean = 0.0 if name.endswith(("bias", "mean")) else 1.0
                value.uniform_(mean - 0.5, mean + 0.5, generator=random)
            else:
                value.normal_(0, value[0].numel() ** -0.5, generator=random)
        return model

    return randomise
