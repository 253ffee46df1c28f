"""Pooling minus identity over group norm, against averages counted by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mmplugins.functional.pooling import image_statistics, pool_normalised


def formula(size):
    def compute(x, weight, bias, scale):
        centred = x - x.mean((1, 2, 3), keepdim=True)
        normed = centred / (centred.square().mean((1, 2, 3), keepdim=True) + 1e-3).sqrt()
        normed = normed * weight.view(-1, 1, 1)
        normed = normed if bias is None else normed + bias.view(-1, 1, 1)

        def neighbours(x):
            h, w = x.shape[-2:]
            padded = F.pad(x, [size // 2] * 4)
            return sum(padded[..., i : i + h, j : j + w] for i in range(size) for j in range(size))

        y = neighbours(normed) / neighbours(torch.ones_like(x[:1, :1])) - normed
        return y if scale is None else y * scale.view(-1, 1, 1)

    return compute


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (2, 2, 2, 7)])
def test_is_the_formula(random, assert_same_function, size, scale, shape):
    def function(x, weight, bias, scale):
        return pool_normalised(x, weight, bias, 1e-3, size, scale)

    c = shape[1]
    given = [random(*shape), random(c), None, random(c) if scale else None]
    assert_same_function(function, formula(size), given)


def test_bias_of_the_norm_gets_an_exact_zero(random):
    """Not None, which distributed training would take for an unused parameter."""
    x, weight, bias = random(2, 3, 5, 4), random(3), random(3)
    y = pool_normalised(x, weight, bias, 1e-3)
    torch.testing.assert_close(y, formula(3)(x, weight, bias, None))
    y.square().sum().backward()
    assert bias.grad.tolist() == [0, 0, 0] and weight.grad.any()


def test_saves_its_input_only(random, bytes_saved):
    x, weight, scale = random(2, 3, 16, 16), random(3), random(3)
    saved = bytes_saved(
        lambda x, w, s: pool_normalised(x, w, None, 1e-3, scale=s), x, weight, scale
    )
    assert saved <= x.numel() * 4 + 64  # and a few numbers by image and channel


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_statistics_hold_where_the_mean_is_large(random, dtype):
    x = (random(2, 3, 16, 16).detach() * 0.1 + 8).to(dtype)
    mean, rstd = image_statistics(x, 1e-5)
    assert mean.shape == rstd.shape == (2, 1, 1, 1) and mean.dtype == torch.float32
    wide = x.double()
    variance = wide.var((1, 2, 3), correction=0, keepdim=True)
    torch.testing.assert_close(mean.double(), wide.mean((1, 2, 3), keepdim=True), rtol=1e-5, atol=0)
    torch.testing.assert_close(rstd.double(), (variance + 1e-5).rsqrt(), rtol=1e-3, atol=0)


def test_second_derivative_is_refused(random, assert_twice_fails):
    assert_twice_fails(
        lambda x, w: pool_normalised(x, w, None, 1e-3), [random(2, 3, 5, 4), random(3)]
    )
