"""The fused convolution against PyTorch's public functions, and when it stands aside."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

from mmplugins.functional import inference_conv
from mmplugins.functional.inference_conv import (
    Geometry,
    can_fuse,
    fused_conv2d,
    image_moments,
    in_bands,
    pack_weight,
)

needs_fused = pytest.mark.skipif(
    not inference_conv.fused_kernels(), reason="this build of PyTorch has no fused kernels"
)
ACTS = dict(
    relu=nn.ReLU(), gelu=nn.GELU(), gelu_tanh=nn.GELU("tanh"), silu=nn.SiLU(), none=nn.Identity()
)
KINDS = dict(  # weight, geometry
    pointwise=((12, 8, 1, 1), Geometry((0, 0), (1, 1), (1, 1), 1)),
    strided=((12, 8, 3, 3), Geometry((1, 1), (2, 2), (1, 1), 1)),
    depthwise=((8, 1, 7, 7), Geometry((3, 3), (1, 1), (1, 1), 8)),
    dilated=((12, 4, 3, 3), Geometry((2, 2), (1, 1), (2, 2), 2)),
    pointwise_strided=((12, 8, 1, 1), Geometry((0, 0), (2, 2), (1, 1), 1)),
)


@needs_fused
@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("batch", [1, 3])
def test_fused_is_the_formula(kind, act, batch):
    shape, geometry = KINDS[kind]
    padding, stride, dilation, groups = geometry
    weight, bias = torch.randn(shape), torch.randn(shape[0])
    for size in [(9, 7), (16, 5)]:
        x = torch.randn(batch, 8, *size)
        plain = F.conv2d(x, weight, bias, stride, padding, dilation, groups)
        packed = pack_weight(weight, geometry, x.shape)
        name = None if act == "none" else act
        fused = fused_conv2d(x, packed, bias, geometry, name)
        assert fused.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(fused, ACTS[act](plain), rtol=1e-5, atol=1e-5)
        residual = torch.randn_like(plain)
        kept = residual.clone()
        summed = fused_conv2d(x, packed, bias, geometry, None, residual)
        torch.testing.assert_close(summed, plain + residual, rtol=1e-5, atol=1e-5)
        assert torch.equal(residual, kept)


def test_activation_and_sum_exclude_each_other():
    x = torch.zeros(1, 8, 2, 2)
    with pytest.raises(ValueError, match="at most"):
        fused_conv2d(x, x, None, KINDS["pointwise"][1], "relu", x)


@needs_fused
def test_stands_aside_where_others_look_on():
    x, weight = torch.randn(1, 8, 4, 4), torch.randn(8, 8, 1, 1)
    assert not can_fuse(x, weight)  # gradients are on
    with torch.no_grad():
        assert can_fuse(x, weight)
        assert not can_fuse(x.double(), weight.double())
        assert not can_fuse(x.bfloat16(), weight.bfloat16())
        assert not can_fuse(x.to("meta"), weight)
        with torch.autocast("cpu", torch.bfloat16):
            assert not can_fuse(x, weight)
        with torch.backends.mkldnn.flags(enabled=False):
            assert not can_fuse(x, weight)
        seen = []
        make_fx(lambda x: seen.append(can_fuse(x, weight)) or x, tracing_mode="fake")(x)
        torch.jit.trace(lambda x: seen.append(can_fuse(x, weight)) or x, x, check_trace=False)
        assert seen and not any(seen)


@pytest.mark.parametrize("offset", [0.0, 10.0, 100.0])
def test_moments(offset):
    x = (torch.randn(3, 8, 33, 21) + offset).contiguous(memory_format=torch.channels_last)
    mean, rstd = image_moments(x, 1e-5)
    flat = x.double().flatten(1)
    expected = (flat.var(1, correction=0) + 1e-5).rsqrt()
    torch.testing.assert_close(mean.flatten().double(), flat.mean(1), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(rstd.flatten().double(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("band", [1, 100, 1000, 10**6])
def test_bands_are_put_together(monkeypatch, band):
    monkeypatch.setattr(inference_conv, "BAND", band)
    x, y = torch.randn(2, 3, 7, 5), torch.randn(2, 4, 7, 5)
    heights = []

    def mix(x, y):
        heights.append(x.shape[2])
        return torch.cat([x * 2, y], 1)

    assert torch.equal(in_bands(mix, x, y, 8), torch.cat([x * 2, y], 1))
    assert sum(heights) == 7
    assert len(heights) == dict([(1, 7), (100, 7), (1000, 1), (10**6, 1)])[band]
