"""Pointwise layers against matrix products written out, and the ways they take."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from mmplugins.functional import pointwise
from mmplugins.functional.channel_mlp import channel_mlp
from mmplugins.functional.inference_conv import fused_kernels
from mmplugins.functional.pointwise import (
    join_bands,
    pointwise_conv,
    pointwise_linear,
    position_bands,
)

with_kernels = pytest.mark.skipif(
    not fused_kernels(), reason="this build of PyTorch lacks oneDNN's operators"
)


def product(x, weight, bias):
    y = torch.einsum("oc,nchw->nohw", weight.flatten(1), x)
    return y if bias is None else y + bias.view(-1, 1, 1)


class Calls(TorchDispatchMode):
    """Counts operators by name."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))

    def count(self, *names):
        return sum(self.names.count(name) for name in names)


def channels_last(x):
    return x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()


@pytest.mark.parametrize("few", [0, 4096])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("c", "out"), [(3, 7), (7, 3)])
def test_conv_is_the_formula(random, assert_same_function, monkeypatch, few, bias, c, out):
    monkeypatch.setattr(pointwise, "FEW_POSITIONS", few)  # both ways to the weight gradient
    given = [random(2, c, 3, 5), random(out, c, 1, 1), random(out) if bias else None]
    assert_same_function(pointwise_conv, product, given)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_linear_is_the_formula(random, bias, dtype):
    given = [random(2, 15, 6), random(18, 6), random(18) if bias else None]
    given = [i if i is None else i.detach().to(dtype).requires_grad_() for i in given]
    wanted = [i for i in given if i is not None]
    y, expected = pointwise_linear(*given), F.linear(*given)
    assert y.shape == expected.shape and y.is_contiguous()
    torch.testing.assert_close(y, expected)
    mixture = torch.randn_like(expected)
    ours = torch.autograd.grad(y, wanted, mixture)
    for actual, e in zip(ours, torch.autograd.grad(expected, wanted, mixture), strict=True):
        torch.testing.assert_close(actual, e)
        assert actual.shape == e.shape


@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_frozen_parts_get_nothing(random, frozen):
    given = [channels_last(random(2, 6, 4, 4)), random(3, 6, 1, 1), random(3)]
    given[frozen] = given[frozen].detach()
    wanted = [i for i in given if i.requires_grad]
    ours = torch.autograd.grad(pointwise_conv(*given).square().sum(), wanted)
    theirs = torch.autograd.grad(product(*given).square().sum(), wanted)
    for a, e in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_autocast_keeps_its_rules(random, memory_format):
    x = random(2, 6, 4, 4).detach().contiguous(memory_format=memory_format)
    weight, tokens = random(3, 6, 1, 1), random(2, 5, 6)
    with torch.autocast("cpu", torch.bfloat16):
        assert pointwise_conv(x, weight).dtype == torch.bfloat16
        assert pointwise_linear(tokens, weight.flatten(1)).dtype == torch.bfloat16


def test_gradient_in_another_layout(random):
    x, weight = channels_last(random(2, 6, 4, 5)), random(3, 6, 1, 1)
    mixture = torch.randn(2, 3, 4, 5)  # contiguous; and one that is no memory of its own
    for given in (mixture, torch.ones(()).expand(2, 3, 4, 5)):
        ours = torch.autograd.grad(pointwise_conv(x, weight), [x, weight], given)
        theirs = torch.autograd.grad(product(x, weight, None), [x, weight], given)
        for a, e in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, e, rtol=1e-4, atol=1e-4)


def test_empty_batch_and_single_position(random):
    weight = random(3, 6, 1, 1)
    assert pointwise_conv(torch.zeros(0, 6, 4, 4), weight).shape == (0, 3, 4, 4)
    x = random(1, 6, 1, 1)
    torch.testing.assert_close(pointwise_conv(x, weight), product(x, weight, None))


def test_saves_its_input_only(random, bytes_saved):
    x, weight = channels_last(random(2, 4, 16, 16)), random(3, 4, 1, 1)
    assert bytes_saved(pointwise_conv, x, weight) == x.numel() * 4
    assert bytes_saved(pointwise_conv, x, weight.detach()) in (0, x.numel() * 4)


def test_second_derivative_is_refused(random, assert_twice_fails):
    given = [channels_last(random(2, 3, 4, 5)), random(4, 3, 1, 1)]
    if fused_kernels():
        assert_twice_fails(lambda x, w: pointwise_conv(channels_last(x) * x, w), given)


@with_kernels
@pytest.mark.parametrize(("c", "out"), [(8, 32), (32, 8)])
def test_step_is_three_products_without_copies(random, c, out):
    x, weight, bias = channels_last(random(2, c, 16, 16)), random(out, c, 1, 1), random(out)
    grad = channels_last(random(2, out, 16, 16)).detach()
    with Calls() as calls:
        torch.autograd.grad(pointwise_conv(x, weight, bias), [x, weight, bias], grad)
    assert calls.count("_linear_pointwise", "mm") == 3
    assert calls.count("convolution", "convolution_backward", "clone", "copy_", "_to_copy") == 0


@pytest.mark.parametrize(("few", "parts"), [(4096, 1), (100, 4), (7, 55)])
@pytest.mark.parametrize("shape", [(2, 3, 12, 16), (1, 5, 384, 1)])
def test_bands_are_the_map(random, monkeypatch, few, parts, shape):
    monkeypatch.setattr(pointwise, "FEW_POSITIONS", few)
    x = channels_last(random(*shape)).detach()
    bands = position_bands(x)
    assert len(bands) == (parts if fused_kernels() else 1)
    assert len(position_bands(x, len(bands))) == len(bands)
    assert sum(b.shape[0] * b.shape[2] * b.shape[3] for b in bands) == 384
    pointer = x.untyped_storage().data_ptr()
    assert all(band.untyped_storage().data_ptr() == pointer for band in bands)
    joined = join_bands(bands, x)
    assert torch.equal(joined, x) and joined.is_contiguous(memory_format=torch.channels_last)


@with_kernels
def test_mlp_holds_no_wide_map_of_many_positions(random, monkeypatch):
    """What is not saved is as large as one part, in forward and backward pass."""
    monkeypatch.setattr(pointwise, "FEW_POSITIONS", 64)
    x = channels_last(random(1, 4, 16, 16))
    weights = [random(16, 4, 1, 1), random(16), random(4, 16, 1, 1), random(4)]

    class Sizes(TorchDispatchMode):
        largest = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            for t in out if isinstance(out, tuple) else (out,):
                if isinstance(t, torch.Tensor):
                    self.largest = max(self.largest, t.untyped_storage().nbytes() // 4)
            return out

    with Sizes() as sizes:
        y = channel_mlp(x, *weights)
        torch.autograd.grad(y, [x, *weights], torch.ones_like(y))
    assert sizes.largest == max(x.numel(), 64 * 16)


def test_any_default_precision():
    """The gradient of the input alone asks for no input, only for its shape."""
    x = torch.randn(1, 4, 5, 5).contiguous(memory_format=torch.channels_last).requires_grad_()
    weight = torch.randn(3, 4, 1, 1)
    torch.set_default_dtype(torch.float64)
    try:
        pointwise.pointwise_conv(x, weight).sum().backward()
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(x.grad, weight.sum(0).expand_as(x))
