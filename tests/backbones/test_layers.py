"""Small layers against their formulas."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmplugins.backbones.layers import (
    ChannelMLP,
    GroupNorm1,
    LayerNorm2d,
    Scale,
    SquaredReLU,
    StarReLU,
    build_act,
    build_norm,
)


def standardised(x, axes, eps):
    centred = x - x.mean(axes, keepdim=True)
    return centred / (centred.square().mean(axes, keepdim=True) + eps).sqrt()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("layer", "axes", "eps"), [(GroupNorm1, (1, 2, 3), 1e-5), (LayerNorm2d, (1,), 1e-6)]
)
def test_norms(layer, axes, eps, bias, randomise, assert_close):
    norm = randomise(layer(6, bias=bias))
    assert len(list(norm.parameters())) == 1 + bias
    x = torch.randn(3, 6, 5, 7) * 1e-3 + 2  # small deviations, so that eps matters
    expected = standardised(x.double(), axes, eps) * norm.weight.view(6, 1, 1)
    if bias:
        expected = expected + norm.bias.view(6, 1, 1)
    assert_close(norm(x), expected.float(), rel=1e-3)
    assert not torch.allclose(norm(x), randomise(layer(6, eps=1e-4, bias=bias))(x), rtol=0.1)


def test_layer_norm_neither_copies_nor_loses_channels_last():
    x = torch.randn(2, 6, 5, 7).contiguous(memory_format=torch.channels_last)
    assert LayerNorm2d(6)(x).is_contiguous(memory_format=torch.channels_last)


def test_star_relu():
    act = StarReLU(scale=0.5, bias=-0.25)
    x = torch.tensor([-2.0, 0.0, 3.0], requires_grad=True)
    assert act(x).tolist() == [-0.25, -0.25, 0.5 * 9 - 0.25]
    act(x).sum().backward()
    assert x.grad.tolist() == [0, 0, 2 * 0.5 * 3]
    assert act.scale.grad.tolist() == [9] and act.bias.grad.tolist() == [3]
    start = StarReLU()
    assert (start.scale.tolist(), start.bias.tolist()) == ([1], [0])


def test_squared_relu():
    assert SquaredReLU()(torch.tensor([-2.0, 3.0])).tolist() == [0, 9]


def test_scale():
    scale = Scale(2, 0.5)
    with torch.no_grad():
        scale.scale[1] = 3
    out = scale(torch.ones(1, 2, 2, 2))
    assert out[0, 0].unique().tolist() == [0.5] and out[0, 1].unique().tolist() == [3]


@pytest.mark.parametrize("bias", [True, False])
def test_channel_mlp(bias, randomise, assert_close):
    mlp = randomise(ChannelMLP(4, ratio=3, bias=bias))
    x = torch.randn(2, 4, 3, 5)
    weights = [layer.weight.flatten(1) for layer in (mlp.fc1, mlp.fc2)]
    biases = [layer.bias.view(-1, 1, 1) if bias else 0 for layer in (mlp.fc1, mlp.fc2)]
    hidden = F.gelu(torch.einsum("oc,nchw->nohw", weights[0], x) + biases[0])
    assert hidden.shape[1] == 12
    assert_close(mlp(x), torch.einsum("oc,nchw->nohw", weights[1], hidden) + biases[1])


def test_layers_by_name_and_dict():
    assert isinstance(build_norm("BN", 4), nn.BatchNorm2d)
    assert isinstance(build_norm(None, 4), nn.Identity)
    assert isinstance(build_norm("SyncBN", 4), nn.SyncBatchNorm)  # from OpenMMLab's registry
    frozen = build_norm(dict(type="SyncBN", requires_grad=False), 4)  # as OpenMMLab's configs say
    assert not any(p.requires_grad for p in frozen.parameters())
    assert build_norm(dict(type="GN", num_groups=2), 4).num_groups == 2
    norm = build_norm(dict(type="LN", eps=0.5, bias=False), 4)
    assert isinstance(norm, LayerNorm2d) and norm.eps == 0.5 and norm.bias is None
    assert isinstance(build_act("SiLU"), nn.SiLU)
    assert isinstance(build_act(None), nn.Identity)
    assert build_act(dict(type="StarReLU", scale=2.0)).scale.item() == 2


@pytest.mark.parametrize("spec", ["GN2", dict(type="GN2"), dict(eps=1e-6)])
def test_unknown_norm_lists_the_known(spec):
    with pytest.raises(ValueError, match="Unknown norm .*: expected one of GN1, LN, BN"):
        build_norm(spec, 4)


def test_unknown_activation_offers_the_nearest():
    with pytest.raises(ValueError, match="Unknown activation 'StarRelu'.*Did you mean 'StarReLU'"):
        build_act("StarRelu")
