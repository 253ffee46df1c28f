"""Sum of shortcut and branch against its formula."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from mmplugins.functional.residual import scaled_residual

KEEP = torch.tensor([0.0, 1.25]).view(2, 1, 1, 1)


@pytest.mark.parametrize(("x_scale", "branch_scale", "keep"), product([True, False], repeat=3))
def test_is_the_formula(random, assert_same_function, x_scale, branch_scale, keep):
    scales = [random(3) if wanted else None for wanted in (x_scale, branch_scale)]

    def formula(x, branch, a, b, keep):
        y = branch if b is None else branch * b.view(3, 1, 1)
        y = y if keep is None else y * keep
        return (x if a is None else x * a.view(3, 1, 1)) + y

    maps = [random(2, 3, 4, 5), random(2, 3, 4, 5)]
    assert_same_function(scaled_residual, formula, [*maps, *scales, KEEP if keep else None])


@pytest.mark.parametrize(
    ("x_scale", "branch_scale", "maps"), [(0, 0, 0), (1, 0, 1), (0, 1, 1), (1, 1, 2)]
)
def test_saves_what_the_scales_need(random, bytes_saved, x_scale, branch_scale, maps):
    x, branch = random(2, 3, 16, 16), random(2, 3, 16, 16)
    scales = [random(3) if wanted else None for wanted in (x_scale, branch_scale)]
    given = [x, branch, *(s for s in scales if s is not None)]
    saved = bytes_saved(lambda *_: scaled_residual(x, branch, *scales), *given)
    assert saved == maps * x.numel() * 4


def test_gradient_gets_the_layout_of_the_result(random):
    x = random(2, 3, 4, 5).detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    y = scaled_residual(x, x * 1)
    (grad,) = torch.autograd.grad(y, x, torch.ones(2, 3, 4, 5))
    assert grad.is_contiguous(memory_format=torch.channels_last)


def test_second_derivative_is_refused(random, assert_twice_fails):
    assert_twice_fails(scaled_residual, [random(2, 3, 4, 5), random(2, 3, 4, 5), random(3)])


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("scale_dtype", [torch.bfloat16, torch.float32, None])
def test_drop_path_does_not_widen(random, grad, scale_dtype):
    """Its factors come in float32; the formula with a map in half precision stays in that."""
    x, branch = (random(2, 3, 4, 5).bfloat16() for _ in range(2))
    scale = None if scale_dtype is None else random(3).to(scale_dtype)
    with torch.set_grad_enabled(grad):
        y = scaled_residual(x, branch, None, scale, KEEP)
    assert y.dtype == (scale_dtype or torch.bfloat16)
    expected = branch.double() * KEEP * (1 if scale is None else scale.double().view(3, 1, 1))
    torch.testing.assert_close(y.double(), x.double() + expected, rtol=2**-7, atol=2**-7)
