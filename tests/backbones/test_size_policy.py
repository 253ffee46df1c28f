"""Size policies against windows cut by hand, weights resampled by hand, and F.interpolate."""

import pytest
import torch
import torch.nn.functional as F

from mmplugins.backbones.size_policy import (
    check_size_policy,
    mix_grid,
    mix_lines,
    resampling_matrix,
)

SIDE = 6
POLICIES = ("window", "resample")


def interpolated(x: torch.Tensor, size: int) -> torch.Tensor:
    """Resample the last axis of ``x [rows, n]`` with torch's antialiased bilinear kernel."""
    size = (x.shape[0], size)
    return F.interpolate(x[None, None], size, mode="bilinear", antialias=True)[0, 0]


def resampled_weights(weight, bias, size):
    """W and b brought to another size, outputs as signals, inputs as the adjoint of one."""
    source = interpolated(torch.eye(size).double(), weight.shape[0]).T  # [side, size]
    weight = interpolated((weight @ source).T, size).T
    return weight, interpolated(bias[None], size)[0]


@pytest.fixture
def line():
    torch.manual_seed(0)
    weight, bias = torch.randn(SIDE, SIDE).double(), torch.randn(SIDE).double()
    return lambda size: torch.randn(2, 3, size).double(), weight, bias


@pytest.mark.parametrize("source, target", [(6, 9), (9, 6), (6, 1), (1, 6), (7, 50), (50, 7)])
def test_resampling_matrix_is_torchs_antialiased_bilinear_kernel(source, target):
    like = torch.zeros(1, dtype=torch.float64)
    matrix = resampling_matrix(source, target, like)
    torch.testing.assert_close(matrix, interpolated(torch.eye(source).double(), target).T)
    torch.testing.assert_close(matrix.sum(1), torch.ones(target).double())


@pytest.mark.parametrize("policy", POLICIES)
def test_training_size_is_the_plain_product(line, policy):
    draw, weight, bias = line
    x = draw(SIDE)
    expected = torch.einsum("jk,nck->ncj", weight, x) + bias
    assert torch.equal(mix_lines(x, weight, bias, policy), F.linear(x, weight, bias))
    torch.testing.assert_close(mix_lines(x, weight, bias, policy), expected)


@pytest.mark.parametrize("size", [12, 24])
def test_windows_at_multiples(line, size):
    draw, weight, bias = line
    x = draw(size)
    mixed = mix_lines(x, weight, bias, "window")
    for start in range(0, size, SIDE):
        part = slice(start, start + SIDE)
        torch.testing.assert_close(mixed[..., part], x[..., part] @ weight.T + bias)


@pytest.mark.parametrize("size", [7, 11, 15, 23])
def test_last_window_ends_with_the_line(line, size):
    draw, weight, bias = line
    x = draw(size)
    mixed = mix_lines(x, weight, bias, "window")
    whole = size // SIDE * SIDE
    for start in range(0, whole, SIDE):
        part = slice(start, start + SIDE)
        torch.testing.assert_close(mixed[..., part], x[..., part] @ weight.T + bias)
    last = x[..., size - SIDE :] @ weight.T + bias
    torch.testing.assert_close(mixed[..., whole:], last[..., whole - size :])


@pytest.mark.parametrize("policy, size", [("resample", s) for s in (1, 4, 9, 13)] + [("window", 4)])
def test_resampling_equals_resampled_weights(line, policy, size):
    draw, weight, bias = line
    x = draw(size)
    weight_there, bias_there = resampled_weights(weight, bias, size)
    expected = x @ weight_there.T + bias_there
    torch.testing.assert_close(mix_lines(x, weight, bias, policy), expected)


def test_resampling_keeps_the_answer_to_constants(line):
    _, weight, bias = line
    mixed = mix_lines(torch.ones(1, 13).double(), weight, bias, "resample")
    torch.testing.assert_close(mixed, interpolated((weight.sum(1) + bias)[None], 13))


def test_grid_windows_with_remainders_on_both_axes():
    torch.manual_seed(0)
    side, height, width = 3, 7, 8
    weight = torch.randn(side**2, side**2).double()
    x = torch.randn(2, 4, height, width).double()
    expected = torch.full_like(x, torch.nan)
    # Windows in reverse, so that earlier ones overwrite what the last ones share with them.
    for top in (height - side, 3, 0):
        for left in (width - side, 3, 0):
            part = x[:, :, top : top + side, left : left + side].flatten(2)
            mixed = torch.einsum("ik,nck->nci", weight, part).unflatten(2, (side, side))
            expected[:, :, top : top + side, left : left + side] = mixed
    torch.testing.assert_close(mix_grid(x, weight, side, "window"), expected)


@pytest.mark.parametrize("height, width", [(2, 2), (5, 8), (9, 2)])
def test_grid_resampling_is_the_resampled_kernel(height, width):
    torch.manual_seed(0)
    side = 3
    weight = torch.randn(side**2, side**2).double()
    x = torch.randn(2, 4, height, width).double()
    eye_h, eye_w = torch.eye(height).double(), torch.eye(width).double()
    into_h, into_w = interpolated(eye_h, side).T, interpolated(eye_w, side).T  # [side, size]
    eye = torch.eye(side).double()
    back_h, back_w = interpolated(eye, height).T, interpolated(eye, width).T  # [size, side]
    kernel = weight.reshape(side, side, side, side)
    kernel = torch.einsum("ia,jb,abcd,ck,dl->ijkl", back_h, back_w, kernel, into_h, into_w)
    expected = torch.einsum("ijkl,nckl->ncij", kernel, x)
    torch.testing.assert_close(mix_grid(x, weight, side, "resample"), expected)
    if max(height, width) <= side:
        torch.testing.assert_close(mix_grid(x, weight, side, "window"), expected)


def test_grid_smaller_than_a_window_on_one_axis_only():
    torch.manual_seed(0)
    weight = torch.randn(9, 9).double()
    x = torch.randn(1, 2, 2, 6).double()
    mixed = mix_grid(x, weight, 3, "window")
    halves = [mix_grid(part, weight, 3, "resample") for part in (x[..., :3], x[..., 3:])]
    torch.testing.assert_close(mixed, torch.cat(halves, dim=-1))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("size", [(3, 3), (4, 7), (2, 5)])
def test_gradients_reach_the_stored_weights(policy, size):
    torch.manual_seed(0)
    weight = torch.randn(9, 9, dtype=torch.float64, requires_grad=True)
    x = torch.randn(1, 2, *size, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, w: mix_grid(x, w, 3, policy), (x, weight))


@pytest.mark.parametrize("policy", POLICIES)
def test_weight_updates_take_effect_at_once(policy):
    torch.manual_seed(0)
    weight, x = torch.randn(9, 9), torch.randn(1, 2, 4, 7)
    before = mix_grid(x, weight, 3, policy)
    weight.mul_(2)
    torch.testing.assert_close(mix_grid(x, weight, 3, policy), 2 * before)


def test_errors_name_value_and_remedy():
    with pytest.raises(ValueError, match="policy='stretch'.*'window'.*'resample'"):
        check_size_policy(7, "stretch")
    with pytest.raises(ValueError, match="side=0.*56, 28, 14 and 7"):
        check_size_policy(0, "window")
    with pytest.raises(ValueError, match="side=7.5"):
        check_size_policy(7.5, "window")
