"""Statistics and pairs of layers on maps, against the formulas."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mmplugins.functional import inference_conv, inference_maps
from mmplugins.functional.inference_maps import image_moments, in_bands, pointwise_pair


@pytest.mark.parametrize("band", [1000, 2**20])
@pytest.mark.parametrize("offset", [0.0, 2.0, 2.6, 3.0, 10.0, 100.0])
def test_moments(monkeypatch, offset, band):
    """On either side of where the shorter formula ends."""
    monkeypatch.setattr(inference_maps, "BAND", band)
    x = (torch.randn(3, 8, 33, 21) + offset).contiguous(memory_format=torch.channels_last)
    mean, rstd = image_moments(x, 1e-5)
    flat = x.double().flatten(1)
    expected = (flat.var(1, correction=0) + 1e-5).rsqrt()
    torch.testing.assert_close(mean.flatten().double(), flat.mean(1), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(rstd.flatten().double(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("band", [1, 100, 1000, 10**6])
@pytest.mark.parametrize("shortcut", ["none", "plain", "scaled"])
def test_bands_are_put_together(monkeypatch, band, shortcut):
    monkeypatch.setattr(inference_maps, "BAND", band)
    x, y, factor = torch.randn(2, 3, 7, 5), torch.randn(2, 3, 7, 5), torch.randn(3)
    y, factor = None if shortcut == "none" else y, factor if shortcut == "scaled" else None
    heights = []

    def mix(x, residual):
        heights.append(x.shape[2])
        return x * 2 if residual is None else x * 2 + residual

    expected = x * 2
    if y is not None:
        expected = expected + (y if factor is None else y * factor[:, None, None])
    torch.testing.assert_close(in_bands(mix, x, y, factor, 8), expected)
    assert sum(heights) == 7
    assert len(heights) == dict([(1, 7), (100, 7), (1000, 1), (10**6, 1)])[band]


@pytest.mark.skipif(
    not inference_conv.fused_kernels(), reason="this build of PyTorch has no fused kernels"
)
@torch.no_grad()
@pytest.mark.parametrize("band", [300, 2**20])
@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("with_shortcut", [False, True])
def test_pair_is_the_formula(monkeypatch, band, squared, with_shortcut):
    monkeypatch.setattr(inference_maps, "BAND", band)
    x = torch.randn(2, 8, 7, 5).contiguous(memory_format=torch.channels_last)
    weights = torch.randn(16, 8, 1, 1), torch.randn(8, 16, 1, 1)
    biases, factor = (torch.randn(16), None), torch.randn(8)
    shortcut = torch.randn_like(x) if with_shortcut else None
    y = F.conv2d(x, weights[0], biases[0]).relu()
    y = F.conv2d(y.square() if squared else y, weights[1], biases[1])
    if with_shortcut:
        y = y + shortcut * factor[:, None, None]
    args = (x, weights[0], biases[0], "relu", squared, weights[1], biases[1], shortcut, factor)
    given = x.clone()
    out = pointwise_pair(*args)
    torch.testing.assert_close(out, y, rtol=1e-5, atol=1e-4)
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(x, given)
    tests = ("test_schema", "test_faketensor", "test_aot_dispatch_dynamic")
    torch.library.opcheck(pointwise_pair, args, test_utils=tests)
