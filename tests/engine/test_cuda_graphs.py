"""Which passes are replayed, and when replaying is given up; recording itself needs a GPU."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import nn

from mmplugins.backbones import PoolFormer
from mmplugins.engine import compile_blocks
from mmplugins.engine.cuda_graphs import Recorded, replay_by_size

TINY = dict(depths=(1, 1, 1, 1), dims=(8, 8, 8, 8))


class Replay:
    """A stand-in for a CUDA graph: computes into the same outputs again."""

    def __init__(self, module, given):
        self.module, self.given, self.count = module, given, 0
        self.outs = tuple(module._call_impl(given))

    def replay(self):
        self.count += 1
        for out, new in zip(self.outs, self.module._call_impl(self.given), strict=True):
            out.copy_(new)


@pytest.fixture
def recorded(monkeypatch):
    """A backbone whose passes are replayed as on a GPU, and what was recorded."""
    made = []

    def record(self, x):
        replay = Replay(self.module, x.clone())
        made.append(replay)
        return replay, replay.given, replay.outs

    monkeypatch.setattr(Recorded, "_record", record)
    may = lambda self, x: not torch.is_grad_enabled() and not self.module.training  # noqa: E731
    monkeypatch.setattr(Recorded, "_may_replay", may)
    model = PoolFormer(TINY).eval()
    replay_by_size(model, sizes=2)
    return model, made


@torch.no_grad()
def test_outputs_are_equal_and_stay(recorded):
    model, made = recorded
    first, second = torch.randn(2, 1, 3, 64, 64)
    expected = [model._call_impl(x) for x in (first, second)]
    found = [model(x) for x in (first, second)]
    for outs, es in zip(found, expected, strict=True):
        assert all(torch.equal(out, e) for out, e in zip(outs, es, strict=True))
    assert len(made) == 1 and made[0].count == 2


@torch.no_grad()
def test_given_up_after_many_sizes_with_one_warning(recorded, monkeypatch):
    model, made = recorded
    lines = []
    monkeypatch.setattr("mmplugins.engine.cuda_graphs.print_log", lambda *args: lines.append(args))
    for side in (64, 96, 128, 64, 160):
        x = torch.randn(1, 3, side, 64)
        expected = model._call_impl(x)
        assert all(torch.equal(out, e) for out, e in zip(model(x), expected, strict=True))
    assert len(made) == 2
    ((text, _, level),) = lines
    assert level == logging.WARNING and "given up after 2 sizes" in text


def test_training_and_gradients_run_as_before(recorded):
    model, made = recorded
    x = torch.randn(1, 3, 64, 64)
    model(x)[0].sum().backward()
    model.train()
    with torch.no_grad():
        model(x)
    assert not made


@torch.no_grad()
def test_weights_that_moved_are_recorded_anew(recorded):
    model, made = recorded
    x = torch.randn(1, 3, 64, 64)
    model(x)
    model.load_state_dict({k: v.clone() * 2 for k, v in model.state_dict().items()})
    changed = model(x)
    assert len(made) == 1  # in place: the graph reads the new values
    assert all(torch.equal(a, b) for a, b in zip(changed, model._call_impl(x), strict=True))
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    model.load_state_dict(weights, assign=True)
    model(x)
    assert len(made) == 2


def test_on_a_cpu_the_mode_changes_nothing():
    model = compile_blocks(PoolFormer(TINY).eval(), mode="reduce-overhead", backend="eager")
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(model(x), model._call_impl(x), strict=True))
    assert isinstance(model._compiled_call_impl, Recorded) and not model._compiled_call_impl.kept
    assert nn.Module.__getstate__(model).get("_compiled_call_impl") is None
