"""Counted bytes against sums by hand, and with shapes against with data."""

import pytest
import torch
from made_up import TINY
from torch import nn

from mmplugins.benchmark import memory
from mmplugins.benchmark.memory import LiveBytes, SavedBytes, inference_memory, training_memory
from mmplugins.benchmark.rows import parse_row
from mmplugins.benchmark.subjects import Subject

KIB = 1024


def kib(n):
    return torch.zeros(n * KIB, dtype=torch.uint8)


def test_live_bytes_come_and_go():
    held = kib(3)
    with LiveBytes([held, held.view(3, KIB)]) as live:
        assert live.now == 3 * KIB
        a = held.clone()
        b = a.view(3, KIB)[1:]  # the same memory
        assert live.now == 6 * KIB
        c = torch.cat([a, a])
        del a
        assert live.now == 12 * KIB  # b keeps it
        del b, c
        assert live.now == 3 * KIB
        held.clone()
    assert live.peak == 12 * KIB


def test_saved_bytes_without_weights():
    layer = nn.Linear(16, 32)
    x = torch.randn(8, 16)
    with SavedBytes(layer.parameters()) as saved:
        y = layer(x).relu()
    assert saved.total == 4 * (8 * 16 + 8 * 32)  # the input, and the result of ReLU
    y.sum().backward()
    assert layer.weight.grad is not None


class Chain(nn.Module):
    """Three maps of known sizes, of which two are alive at a time."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 8, 1, bias=False)
        self.b = nn.Conv2d(8, 4, 1, bias=False)

    def forward(self, x):
        return (self.b(self.a(x)),)


@pytest.fixture
def chain(monkeypatch):
    monkeypatch.setattr("mmplugins.benchmark.subjects.build_model", lambda *_: Chain())
    return Subject(parse_row("chain"))


def test_peak_of_inference_by_hand(chain):
    found = inference_memory(chain, (32, 48), 2)
    weights = 3 * 8 + 8 * 4
    assert found.peak == 4 * (weights + 2 * 32 * 48 * (3 + 8 + 4))
    assert (found.saved, found.method) == (0, "live tensors")


def test_training_keeps_maps_gradients_and_state(chain):
    found = training_memory(chain, (32, 48), 2)
    weights, pixels = 3 * 8 + 8 * 4, 2 * 32 * 48
    assert found.saved == 4 * pixels * (3 + 8 + 4)  # the last is the map that is squared
    assert found.peak >= 4 * (3 * weights + pixels * (3 + 8 + 4))
    assert found.peak < 4 * (6 * weights + pixels * (3 + 8 + 4 + 8 + 8)) + KIB


@pytest.mark.parametrize(
    ("name", "measure"),
    [
        ("poolformer_s12", training_memory),
        ("convformer_s18:channels_last", training_memory),
        ("caformer_s18", inference_memory),
    ],
)
def test_shapes_tell_what_data_tell(name, measure, monkeypatch):
    subject = Subject(parse_row(name), arch=TINY)
    by_shapes = measure(subject, (64, 64), 1)
    assert not subject.model.training and all(p.grad is None for p in subject.model.parameters())

    def no_twin(subject):
        raise RuntimeError

    monkeypatch.setattr(memory, "shape_twin", no_twin)
    by_data = measure(subject, (64, 64), 1)
    assert by_shapes.saved == by_data.saved
    assert by_shapes.peak == pytest.approx(by_data.peak, rel=0.01)


def test_checkpointing_saves_memory():
    plain, spared = (
        training_memory(Subject(parse_row(row), arch=TINY), (64, 64), 2)
        for row in ("poolformer_s12", "poolformer_s12:with_cp")
    )
    assert spared.saved < plain.saved / 2 and spared.peak < plain.peak


def test_a_row_that_would_not_fit_is_found_without_trying(chain, monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 2**20)
    with pytest.raises(MemoryError, match=r"a peak of .* GiB, and 0\.0 GiB are free"):
        inference_memory(chain, (1024, 1024), 8)


def test_available_memory_is_read_where_there_is_a_table():
    free = memory.available_bytes()
    assert free is None or 2**20 < free < 2**50


def test_compiled_and_deployed_rows_are_refused_with_the_reason(chain):
    chain.compiled = True
    with pytest.raises(ValueError, match="compiled"):
        inference_memory(chain, (32, 32), 1)
    deployed = Subject(parse_row("poolformer_s12:deploy"), arch=TINY)
    with pytest.raises(ValueError, match="deployed or exported: .* inference only"):
        training_memory(deployed, (32, 32), 1)
    assert inference_memory(deployed, (32, 32), 1).peak > 0
