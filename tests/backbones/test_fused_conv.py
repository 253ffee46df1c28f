"""The convolution of deployed models where it is used in other ways than the backbones use it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mmplugins.backbones.fused_conv import FusedConv2d
from mmplugins.backbones.pyramid import fold_children

KERNELS = pytest.mark.parametrize("kernel_size", [1, 3])


def test_a_hooked_convolution_stays():
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1)).eval()
    seen = []
    model[0].register_forward_hook(lambda module, args, out: seen.append(out.shape))
    fold_children(model)
    assert type(model[0]) is nn.Conv2d and type(model[2]) is FusedConv2d
    model(torch.randn(1, 4, 5, 5))
    assert seen == [(1, 4, 5, 5)]


@KERNELS
@torch.no_grad()
def test_a_wrong_number_of_channels_is_named(kernel_size):
    conv = FusedConv2d(nn.Conv2d(16, 8, kernel_size))
    with pytest.raises(RuntimeError, match="to have 16 channels, but got 15 channels"):
        conv(torch.randn(1, 15, 5, 5))


@torch.no_grad()
def test_a_map_below_the_kernel_is_named():
    with pytest.raises(RuntimeError, match=r"Kernel size: \(7 x 7\)"):
        FusedConv2d(nn.Conv2d(3, 8, 7))(torch.randn(1, 3, 5, 5))


@KERNELS
@torch.no_grad()
def test_a_map_without_batch_and_a_batch_without_maps(kernel_size):
    plain = nn.Conv2d(16, 8, kernel_size)
    conv = FusedConv2d(plain, "relu")
    for shape in [(16, 5, 6), (0, 16, 5, 6)]:
        x = torch.randn(shape)
        torch.testing.assert_close(conv(x), plain(x).relu(), rtol=1e-5, atol=1e-5)


@KERNELS
@torch.inference_mode()
def test_weights_of_inference_mode_may_change(kernel_size):
    """PyTorch counts no changes of such tensors."""
    plain = nn.Conv2d(16, 8, kernel_size)
    conv = FusedConv2d(plain)
    assert conv.weight.is_inference()
    x = torch.randn(1, 16, 5, 5)
    for _ in range(2):
        torch.testing.assert_close(conv(x), plain(x), rtol=1e-5, atol=1e-5)
        conv.weight.mul_(-2)
