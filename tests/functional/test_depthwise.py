"""Depthwise convolution against a sum over shifted maps."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mmplugins.functional import depthwise
from mmplugins.functional.depthwise import depthwise_conv, star_relu_depthwise_conv


def shifted_sum(x, weight, bias=None):
    size, (h, w) = weight.shape[-1], x.shape[-2:]
    padded = F.pad(x, [size // 2] * 4)
    y = sum(
        padded[:, :, i : i + h, j : j + w] * weight[:, 0, i, j].view(-1, 1, 1)
        for i in range(size)
        for j in range(size)
    )
    return y if bias is None else y + bias.view(-1, 1, 1)


def activated(x, scale, bias, weight):
    return shifted_sum(scale * x.clamp(min=0) ** 2 + bias, weight)


@pytest.mark.parametrize("band", [16384, 13])
@pytest.mark.parametrize("size", [3, 5, 7])
def test_are_the_formulas(random, assert_same_function, monkeypatch, band, size):
    monkeypatch.setattr(depthwise, "BAND", band)  # 13 positions: bands of two rows and one of one
    x, weight = random(2, 3, 5, 6), random(3, 1, size, size)
    assert_same_function(depthwise_conv, shifted_sum, [x, weight, random(3)])
    assert_same_function(depthwise_conv, shifted_sum, [x, weight, None])
    given = [x, random(1), random(1), weight]
    assert_same_function(star_relu_depthwise_conv, activated, given)


@pytest.mark.parametrize("size", [3, 7])
def test_save_one_map(random, bytes_saved, size):
    x, weight = random(2, 3, 16, 16), random(3, 1, size, size)
    given = [x, random(1), random(1), weight]
    assert bytes_saved(star_relu_depthwise_conv, *given) == x.numel() * 4
    assert bytes_saved(depthwise_conv, x, weight) == x.numel() * 4
    assert bytes_saved(depthwise_conv, x, weight.detach()) in (0, x.numel() * 4)  # 0 for size 7


def test_frozen_kernel_gets_no_gradient(random):
    x, weight = random(2, 3, 8, 8), random(3, 1, 7, 7).detach()
    depthwise_conv(x, weight).sum().backward()
    ours = x.grad.clone()
    x.grad = None
    shifted_sum(x, weight).sum().backward()
    torch.testing.assert_close(ours, x.grad)
    y = depthwise_conv(x.detach(), weight.requires_grad_())
    y.sum().backward()
    assert weight.grad is not None


def test_autocast(random):
    x, weight, scale, bias = random(2, 3, 8, 8), random(3, 1, 7, 7), random(1), random(1)
    with torch.autocast("cpu", torch.bfloat16):
        plain, active = depthwise_conv(x, weight), star_relu_depthwise_conv(x, scale, bias, weight)
    assert plain.dtype == active.dtype == torch.bfloat16
    for y, expected in (
        (plain, shifted_sum(x, weight)), (active, activated(x, scale, bias, weight))
    ):  # fmt: skip
        ours = torch.autograd.grad(y.float().square().sum(), [x, weight])
        theirs = torch.autograd.grad(expected.square().sum(), [x, weight])
        for a, e in zip(ours, theirs, strict=True):
            assert a.dtype == torch.float32 and (a - e).norm() < 0.02 * e.norm()


def test_second_derivatives_are_refused(random, assert_twice_fails):
    x, weight = random(2, 3, 8, 8), random(3, 1, 7, 7)
    assert_twice_fails(depthwise_conv, [x, weight])
    assert_twice_fails(star_relu_depthwise_conv, [x, random(1), random(1), weight])
