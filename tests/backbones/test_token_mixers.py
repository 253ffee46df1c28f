"""Token mixers against their formulas, and their registry."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from mmplugins.backbones import TOKEN_MIXERS, MetaFormer
from mmplugins.backbones.token_mixers import (
    Attention,
    DepthwiseConv,
    Identity,
    Pooling,
    SepConv,
    build_token_mixer,
)


@pytest.mark.parametrize("size", [3, 5, 7])
def test_pooling_is_the_mean_of_the_neighbours_minus_the_position(size):
    x = torch.randn(2, 3, 4, 6)
    out = Pooling(3, pool_size=size)(x)
    reach = size // 2
    for i in range(4):
        for j in range(6):
            rows = slice(max(0, i - reach), i + reach + 1)
            columns = slice(max(0, j - reach), j + reach + 1)
            expected = x[:, :, rows, columns].mean((2, 3)) - x[:, :, i, j]
            assert torch.allclose(out[:, :, i, j], expected, atol=1e-6)


def test_identity_returns_its_input():
    x = torch.randn(2, 3, 4, 6)
    assert Identity(3)(x) is x


@pytest.mark.parametrize("size", [3, 5])
def test_depthwise_conv(size, assert_close):
    mixer = DepthwiseConv(3, kernel_size=size)
    x = torch.randn(2, 3, 4, 6)
    patches = F.unfold(x, size, padding=size // 2).view(2, 3, size * size, 4 * 6)
    expected = torch.einsum("nckl,ck->ncl", patches, mixer.weight.flatten(1))
    assert_close(mixer(x).detach(), expected.view_as(x).detach())


@pytest.mark.parametrize(("expansion", "size"), [(2, 7), (3, 5)])
@torch.no_grad()
def test_sep_conv(expansion, size, randomise, assert_close):
    mixer = randomise(SepConv(4, expansion=expansion, kernel_size=size))
    assert {n for n, _ in mixer.named_parameters()} == {
        *("pwconv1.weight", "act1.scale", "act1.bias", "dwconv.weight", "pwconv2.weight")
    }
    x = torch.randn(2, 4, 5, 8)
    hidden = 4 * expansion
    y = torch.einsum("oc,nchw->nohw", mixer.pwconv1.weight.flatten(1), x)
    y = mixer.act1.scale * y.clamp(min=0) ** 2 + mixer.act1.bias
    y = F.unfold(y, size, padding=size // 2).view(2, hidden, size * size, 40)
    y = torch.einsum("nckl,ck->ncl", y, mixer.dwconv.weight.flatten(1)).view(2, hidden, 5, 8)
    expected = torch.einsum("oc,nchw->nohw", mixer.pwconv2.weight.flatten(1), y)
    assert_close(mixer(x), expected)


@pytest.mark.parametrize(("qkv_bias", "proj_bias"), [(False, False), (False, True), (True, True)])
@pytest.mark.parametrize("head_dim", [32, 8])
@torch.no_grad()
def test_attention(head_dim, qkv_bias, proj_bias, randomise, assert_close):
    mixer = randomise(Attention(64, head_dim, qkv_bias=qkv_bias, proj_bias=proj_bias))
    assert mixer.qkv.weight.shape == (192, 64) and mixer.proj.weight.shape == (64, 64)
    assert (mixer.qkv.bias is not None, mixer.proj.bias is not None) == (qkv_bias, proj_bias)
    n, h, w = 2, 5, 7
    x = torch.randn(n, 64, h, w)
    qkv = torch.einsum("oc,nchw->nohw", mixer.qkv.weight, x)
    if qkv_bias:
        qkv = qkv + mixer.qkv.bias.view(-1, 1, 1)
    q, k, v = qkv.reshape(n, 3, 64 // head_dim, head_dim, h * w).unbind(1)
    weights = (torch.einsum("ngdq,ngdk->ngqk", q, k) / head_dim**0.5).softmax(-1)
    mixed = torch.einsum("ngqk,ngdk->ngdq", weights, v).reshape(n, 64, h, w)
    expected = torch.einsum("oc,nchw->nohw", mixer.proj.weight, mixed)
    if proj_bias:
        expected = expected + mixer.proj.bias.view(-1, 1, 1)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        assert_close(mixer(x.contiguous(memory_format=memory_format)), expected)


def test_attention_over_the_4200_positions_of_a_detector(randomise, assert_close):
    """800x1344 pixels at stride 16, by the kernel that never holds the scores, both ways."""
    mixer = randomise(Attention(64))
    x = torch.randn(1, 64, 50, 84).contiguous(memory_format=torch.channels_last).requires_grad_()
    results = []
    for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.MATH):
        with sdpa_kernel(backend):
            out = mixer(x)
            (grad,) = torch.autograd.grad(out.square().sum(), x)
        assert out.is_contiguous(memory_format=torch.channels_last)
        results.append((out.detach(), grad))
    for fused, plain in zip(*results, strict=True):
        assert_close(fused, plain, rel=1e-4)


def test_attention_heads_must_divide_the_channels():
    with pytest.raises(ValueError, match="dim=80, head_dim=32: .* multiple of head_dim"):
        Attention(80)


@pytest.mark.parametrize(
    ("mixer", "argument"),
    [(Pooling, "pool_size"), (DepthwiseConv, "kernel_size"), (SepConv, "kernel_size")],
)
def test_even_windows_are_refused(mixer, argument):
    with pytest.raises(ValueError, match=f"{argument}=4: expected an odd number"):
        mixer(8, **{argument: 4})


@pytest.mark.parametrize("name", ["Identity", "Pooling", "DepthwiseConv", "SepConv", "Attention"])
def test_every_mixer_keeps_the_shape(name):
    mixer = build_token_mixer(name, 32)
    for size in [(1, 1), (1, 2), (7, 5)]:
        assert mixer(torch.randn(2, 32, *size)).shape == (2, 32, *size)


def test_unknown_mixer_offers_the_nearest():
    with pytest.raises(ValueError, match="Unknown token mixer 'Poolin'.*Did you mean 'Pooling'"):
        build_token_mixer("Poolin", 8)


def test_own_mixer_in_one_stage():
    @TOKEN_MIXERS.register_module()
    class Shift(nn.Module):
        def __init__(self, dim, step=1):
            super().__init__()
            self.step = step

        def forward(self, x):
            return x.roll(self.step, -1) - x

    try:
        mixers = ["Pooling", dict(type="Shift", step=2), "Identity", "Shift"]
        model = MetaFormer((1, 1, 1, 1), (8, 8, 8, 8), mixers)
        steps = [getattr(s.blocks[0].token_mixer, "step", None) for s in model.stages]
        assert steps == [None, 2, None, 1]
        assert len(model(torch.randn(1, 3, 64, 64))) == 4
    finally:
        TOKEN_MIXERS.module_dict.pop("Shift")
