import pytest
import torch
from mmcv.ops.sync_bn import SyncBatchNormFunction
from torch.nn.functional import batch_norm


def normalize(input, state, stats_mode="default"):
    running_mean, running_var, weight, bias = state
    args = (running_mean, running_var, weight, bias, 0.1, 1e-5, None, 1, stats_mode)
    return SyncBatchNormFunction.apply(input, *args)


def fresh_state():
    generator = torch.Generator().manual_seed(1)
    weight, bias = (torch.rand(3, generator=generator) for _ in range(2))
    return torch.zeros(3), torch.ones(3), weight.requires_grad_(), bias.requires_grad_()


@pytest.mark.parametrize("stats_mode", ["default", "N"])
def test_one_rank_is_batch_norm(stats_mode):
    input = (torch.randn(4, 3, 5, 6) * 2 + 1).requires_grad_()
    upstream = torch.randn(4, 3, 5, 6)
    state, torch_state = fresh_state(), fresh_state()
    output = normalize(input, state, stats_mode)
    expected = batch_norm(input, *torch_state, training=True)
    torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(state[:2], torch_state[:2])
    torch.testing.assert_close(
        torch.autograd.grad(output, (input, *state[2:]), upstream),
        torch.autograd.grad(expected, (input, *torch_state[2:]), upstream),
        atol=1e-4,
        rtol=1e-4,
    )


def test_without_affine_part_or_running_statistics():
    input = torch.randn(4, 3, 5, 6)
    output = normalize(input, (None, None, None, None))
    expected = batch_norm(input, None, None, training=True)
    torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-4)


def test_half():
    input = torch.randn(4, 3, 5, 6).half().requires_grad_()
    output = normalize(input, fresh_state())
    expected = batch_norm(input.detach().float(), *fresh_state(), training=True)
    torch.testing.assert_close(output, expected.half(), atol=2e-3, rtol=2e-3)
    output.sum().backward()
    assert input.grad.dtype == torch.float16
