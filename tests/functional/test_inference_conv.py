"""The fused convolution against PyTorch's public functions, and when it stands aside."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

from mmplugins.backbones.fused_conv import FusedConv2d
from mmplugins.functional import inference_conv
from mmplugins.functional.inference_conv import (
    KEPT_SIZES,
    Geometry,
    can_fuse,
    conv2d_operator,
    fused_conv2d,
    pack_weight,
    packed_weight,
    plain_conv2d,
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


@needs_fused
@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_operator_for_compilers(kind):
    """Shapes and layout told to a compiler are those that come out, at any size."""
    shape, geometry = KINDS[kind]
    weight, bias = torch.randn(shape), torch.randn(shape[0])
    for act, with_residual in [(None, True), ("gelu", False)]:
        x = torch.randn(2, 8, 9, 7)
        plain = plain_conv2d(x, weight, bias, geometry, act)
        residual = torch.randn_like(plain) if with_residual else None
        args = (x, weight, bias, *geometry, act, residual)
        tests = ("test_schema", "test_faketensor", "test_aot_dispatch_dynamic")
        torch.library.opcheck(conv2d_operator, args, test_utils=tests)
        expected = plain if residual is None else plain + residual
        torch.testing.assert_close(conv2d_operator(*args), expected, rtol=1e-5, atol=1e-5)


@needs_fused
@torch.no_grad()
def test_packed_weights_live_as_long_as_the_weight():
    geometry, weight = KINDS["pointwise"][1], torch.randn(8, 8, 1, 1)
    before = len(inference_conv._PACKED)
    packed = packed_weight(weight, geometry, (1, 8, 4, 4))
    assert packed_weight(weight, geometry, (1, 8, 9, 9)) is packed
    assert len(inference_conv._PACKED) == before + 1
    weight.mul_(2)
    assert packed_weight(weight, geometry, (1, 8, 4, 4)) is not packed
    del weight
    assert len(inference_conv._PACKED) == before


@needs_fused
def test_a_head_on_five_levels_packs_its_weight_once_for_each():
    geometry, weight = KINDS["strided"][1], torch.randn(12, 8, 3, 3)
    levels = [(1, 8, 2**k, 2**k) for k in range(3, 8)]
    first = [packed_weight(weight, geometry, size) for size in levels]
    again = [packed_weight(weight, geometry, size) for size in levels]
    assert all(map(lambda a, b: a is b, first, again))
    for side in range(20, 20 + KEPT_SIZES):  # pictures of ever new sizes
        packed_weight(weight, geometry, (1, 8, side, side))
    assert len(inference_conv._PACKED[weight][1]) == KEPT_SIZES
    assert packed_weight(weight, geometry, levels[0]) is not first[0]


@needs_fused
@torch.no_grad()
def test_exported_graphs_hold_public_operators_only():
    layer = FusedConv2d(nn.Conv2d(8, 8, 1), "relu")
    graph = torch.export.export(layer, (torch.randn(1, 8, 4, 4),)).graph
    names = [str(node.target) for node in graph.nodes if node.op == "call_function"]
    assert names and all(name.startswith("aten.") for name in names)
