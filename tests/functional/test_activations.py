"""StarReLU and squared ReLU against their formulas."""

from __future__ import annotations

import pytest
import torch

from mmplugins.functional.activations import squared_relu, star_relu


def plain_star_relu(x, scale, bias):
    return scale * torch.where(x > 0, x, 0) ** 2 + bias


def test_are_the_formulas(random, assert_same_function):
    x = random(2, 3, 4, 5)
    assert_same_function(star_relu, plain_star_relu, [x, random(1), random(1)])
    assert_same_function(squared_relu, lambda x: torch.where(x > 0, x, 0) ** 2, [x])


@pytest.mark.parametrize("function", [star_relu, squared_relu])
def test_save_their_input_only(random, bytes_saved, function):
    x, factors = random(2, 3, 16, 16), [random(1), random(1)]
    factors = factors if function is star_relu else []
    assert bytes_saved(function, x, *factors) == x.numel() * 4


def test_result_has_the_wider_precision_and_so_does_the_square(random):
    """relu(300)**2 = 90000 is more than float16 holds."""
    x = torch.tensor([-1.0, 300.0], dtype=torch.float16, requires_grad=True)
    scale, bias = torch.tensor([0.5]), torch.tensor([1.0])
    y = star_relu(x, scale, bias)
    assert y.dtype == torch.float32 and y.tolist() == [1.0, 45001.0]
    y.sum().backward()
    assert x.grad.dtype == torch.float16 and x.grad.tolist() == [0.0, 300.0]


def test_second_derivatives_are_refused(random, assert_twice_fails):
    assert_twice_fails(star_relu, [random(2, 3), random(1), random(1)])
    assert_twice_fails(squared_relu, [random(2, 3)])
