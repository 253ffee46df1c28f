"""Group norm by a reduction: what ``F.group_norm`` computes, in the precision that it gives."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses import FakeTensorMode

from mmplugins.backbones import PoolFormer
from mmplugins.backbones.few_large_maps import are_few_large_maps, group_norm1
from mmplugins.engine.compiling import TORCH_2_4


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("mean", [0.0, 50.0])
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-12), (torch.float32, 1e-4), (torch.bfloat16, 0.02), (torch.float16, 0.01)],
)
def test_is_group_norm(dtype, tolerance, mean, affine, assert_close):
    x = (torch.randn(2, 6, 9, 11, dtype=torch.float64) + mean).to(dtype)
    w, b = (torch.rand(6).to(dtype), torch.randn(6).to(dtype)) if affine else (None, None)
    wide = [None if t is None else t.double() for t in (w, b)]
    expected = F.group_norm(x.double(), 1, *wide, 1e-5)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        y = group_norm1(x.contiguous(memory_format=memory_format), w, b, 1e-5)
        assert y.dtype == dtype and y.is_contiguous(memory_format=memory_format)
        assert_close(y.double(), expected, rel=tolerance)


def test_on_a_cpu_the_formula_stays():
    x = torch.zeros(1, 64, 128, 128)
    with torch.no_grad():
        assert not are_few_large_maps(x)


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ((1, 64, 128, 128), False),  # stage 0 at 512x512
        ((1, 64, 160, 160), True),
        ((8, 128, 64, 64), True),
        ((8, 512, 16, 16), False),  # stage 3
        ((2, 320, 50, 80), True),  # stage 2 at 800x1280
        ((64, 64, 128, 128), False),
        ((0, 64, 128, 128), False),
    ],
)
@pytest.mark.skipif(
    TORCH_2_4 and not torch.cuda.is_available(), reason="torch 2.4 wakes the card it only imagines"
)
def test_few_and_large_on_a_gpu(shape, wanted):
    with FakeTensorMode(), torch.no_grad():
        assert are_few_large_maps(torch.empty(shape, device="cuda")) == wanted


@torch.no_grad()
def test_a_model_takes_either_way(monkeypatch, randomise, assert_close):
    model = randomise(PoolFormer(dict(depths=(1, 1, 1, 1), dims=(8, 8, 8, 8)))).eval()
    x = torch.randn(2, 3, 65, 96)
    expected = model(x)
    calls = []
    monkeypatch.setattr(
        "mmplugins.backbones.layers.are_few_large_maps", lambda x: calls.append(x.shape) or True
    )
    for out, e in zip(model(x), expected, strict=True):
        assert_close(out, e)
    assert len(calls) == 12  # two norms of each block, one of each output
