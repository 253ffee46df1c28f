"""The channel MLP as one function, against matrix products and textbook activations."""

from __future__ import annotations

import math

import pytest
import torch

from mmplugins.functional import pointwise
from mmplugins.functional.channel_mlp import channel_mlp

ACTS = ["gelu", "gelu_tanh", "star_relu", "squared_relu"]


def activation(name, h, s, t):
    if name == "gelu":
        return h * 0.5 * (1 + torch.erf(h / math.sqrt(2)))
    if name == "gelu_tanh":
        return h * 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))
    squared = h.clamp(min=0) ** 2
    return s * squared + t if name == "star_relu" else squared


def formula(name):
    def compute(x, w1, b1, w2, b2, s, t, scale):
        def mix(x, w, b):
            y = torch.einsum("oc,nchw->nohw", w.flatten(1), x)
            return y if b is None else y + b.view(-1, 1, 1)

        y = mix(activation(name, mix(x, w1, b1), s, t), w2, b2)
        return y if scale is None else y * scale.view(-1, 1, 1)

    return compute


def function(name):
    return lambda x, w1, b1, w2, b2, s, t, scale: channel_mlp(x, w1, b1, w2, b2, name, s, t, scale)


def arguments(random, name, bias=True, scale=True, side=3):
    factors = (random(1), random(1)) if name == "star_relu" else (None, None)
    biases = (random(6), random(3)) if bias else (None, None)
    return [
        random(2, 3, side, side + 1), random(6, 3, 1, 1), biases[0], random(3, 6, 1, 1), biases[1],
        *factors, random(3) if scale else None,
    ]  # fmt: skip


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("name", ACTS)
@pytest.mark.parametrize("few", [9, 4096])
def test_is_the_formula(random, assert_same_function, monkeypatch, few, name, scale, bias):
    monkeypatch.setattr(pointwise, "FEW_POSITIONS", few)  # 24 positions: as three parts, as one
    assert_same_function(function(name), formula(name), arguments(random, name, bias, scale))


@pytest.mark.parametrize("name", ["gelu", "star_relu"])
def test_frozen_parts_cost_and_get_nothing(random, name):
    inputs = arguments(random, name)
    for frozen in range(len(inputs)):
        if inputs[frozen] is None:
            continue
        given = [i if i is None else i.detach().requires_grad_() for i in inputs]
        given[frozen].requires_grad_(False)
        function(name)(*given).square().sum().backward()
        full = [i if i is None else i.detach().requires_grad_() for i in inputs]
        formula(name)(*full).square().sum().backward()
        for i, (ours, theirs) in enumerate(zip(given, full, strict=True)):
            if ours is None or i == frozen:
                assert ours is None or ours.grad is None
            else:
                torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ACTS)
def test_saves_input_and_hidden_map_only(random, bytes_saved, name):
    inputs = [i for i in arguments(random, name, side=16)]
    x = inputs[0]
    saved = bytes_saved(
        lambda *given: function(name)(*inputs), *[i for i in inputs if i is not None]
    )
    assert saved <= (1 + 2) * x.numel() * 4  # the hidden map has twice the channels of x


def test_second_derivative_is_refused(random, assert_twice_fails):
    assert_twice_fails(function("gelu"), arguments(random, "gelu"))


@pytest.mark.parametrize("name", ACTS)
def test_autocast_has_the_types_of_a_convolution(random, name):
    inputs = arguments(random, name, scale=False)
    with torch.autocast("cpu", torch.bfloat16):
        y = function(name)(*inputs)
        assert y.dtype == torch.bfloat16
        scaled = function(name)(*inputs[:-1], torch.ones(3))
        assert scaled.dtype == torch.float32  # as a product with float32 factors
    y.float().square().sum().backward()
    expected = [i if i is None else i.detach().requires_grad_() for i in inputs]
    formula(name)(*expected).square().sum().backward()
    for ours, theirs in zip(inputs, expected, strict=True):
        if ours is not None:
            assert ours.grad.dtype == torch.float32
            assert (ours.grad - theirs.grad).norm() < 0.03 * theirs.grad.norm()


@pytest.mark.parametrize("name", ["star_relu", "squared_relu"])
def test_float16_squares_do_not_overflow_at_256(random, name):
    """A hidden value of 1000 has the square 1e6; float16 ends at 65504."""
    x, w1, w2 = torch.full((1, 1, 2, 2), 10.0), torch.full((1, 1, 1, 1), 100.0), torch.tensor(1e-3)
    factors = (torch.tensor([0.5]), torch.tensor([2.0])) if name == "star_relu" else (None, None)
    given = [x, w1, None, w2.view(1, 1, 1, 1), None, *factors, None]
    half = [i if i is None else i.half().requires_grad_() for i in given]
    full = [i if i is None else i.double().requires_grad_() for i in given]
    y, expected = function(name)(*half), formula(name)(*full)
    assert abs(float(y[0, 0, 0, 0]) / float(expected[0, 0, 0, 0]) - 1) < 2e-3
    y.mul(1e-4).sum().backward(), expected.mul(1e-4).sum().backward()
    torch.testing.assert_close(half[0].grad.double(), full[0].grad, rtol=1e-2, atol=1e-6)
    torch.testing.assert_close(half[3].grad.double(), full[3].grad, rtol=1e-2, atol=1e-6)
