"""Hooks that are there for one forward pass."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mmplugins.distillation import DistillationError
from mmplugins.distillation.captures import Captures


def test_calls_of_named_modules():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    x = torch.randn(1, 3, 2, 2)
    with Captures(model, ["0", "1"]) as calls:
        out = model(x)
    assert calls["0"].args == (x,) and calls["1"].output is out
    assert not any(module._forward_hooks for module in model.modules())


def test_hooks_come_off_after_an_error():
    model = nn.Sequential(nn.Conv2d(3, 4, 1))
    with pytest.raises(RuntimeError), Captures(model, ["0"]):
        model(torch.randn(1, 5, 2, 2))
    assert not model[0]._forward_hooks


@pytest.mark.parametrize("times", [0, 2])
def test_not_called_once(times):
    model = nn.ModuleDict(dict(part=nn.Identity()))
    with Captures(model, ["part"]) as calls:
        for _ in range(times):
            model.part(torch.zeros(1))
    with pytest.raises(DistillationError, match=f"called {times} times"):
        calls["part"]


def test_no_such_module():
    with pytest.raises(DistillationError, match="no module 'nose'"), Captures(nn.ReLU(), ["nose"]):
        pass
