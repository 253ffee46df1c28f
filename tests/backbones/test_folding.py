"""The algebra of deploying, where a norm or a mixer is none of those that the families have."""

from __future__ import annotations

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from mmplugins.backbones import TOKEN_MIXERS, MetaFormer
from mmplugins.backbones.folding import absorb_norm
from mmplugins.backbones.layers import GroupNorm1

SHALLOW = dict(depths=(1, 1, 1, 1), dims=(16, 24, 32, 48))


@pytest.fixture
def assert_deploys(randomise, assert_close):
    """Function that deploys a model of these settings and compares the outputs."""

    @torch.no_grad()
    def assert_deploys(**settings):
        model = randomise(MetaFormer(**SHALLOW, **settings)).eval()
        x = torch.randn(2, 3, 70, 95)
        expected = model(x)
        for out, e in zip(model.switch_to_deploy()(x), expected, strict=True):
            assert_close(out, e)

    return assert_deploys


NORMS = dict(
    statistics_of_the_batch=dict(type="BN", track_running_stats=False),
    without_weights=dict(type="BN", affine=False),
    several_groups=dict(type="GN", num_groups=4),
    by_instance="IN",
)


@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
@pytest.mark.parametrize("place", ["norm1", "post_norm", "pre_norm"])
def test_any_norm_in_any_place(norm, place, assert_deploys):
    patches = dict(kernel_size=4, stride=4)
    if place == "norm1":
        return assert_deploys(norm1=norm, layer_scale=0.5)
    patches |= {place: norm}
    if place == "post_norm":
        return assert_deploys(stem=patches)
    return assert_deploys(downsample=patches | dict(kernel_size=2, stride=2))


def test_a_norm_made_of_group_norm_keeps_its_own_ways(monkeypatch, assert_deploys):
    class Doubling(GroupNorm1):
        def forward(self, x):
            return 2 * super().forward(x)

    monkeypatch.setitem(MODELS.module_dict, "Doubling", Doubling)
    assert_deploys(norm1="Doubling", layer_scale=0.5)


def test_a_mixer_that_widens_channel_by_channel(monkeypatch, assert_deploys):
    class Widening(nn.Module):
        linear_ends = ("wide", "narrow")

        def __init__(self, dim):
            super().__init__()
            self.wide = nn.Conv2d(dim, 2 * dim, 1, groups=dim)
            self.narrow = nn.Conv2d(2 * dim, dim, 3, padding=1)

        def forward(self, x):
            return self.narrow(self.wide(x).relu())

    monkeypatch.setitem(TOKEN_MIXERS.module_dict, "Widening", Widening)
    assert_deploys(token_mixers="Widening", layer_scale=0.5)


def test_what_cannot_be_absorbed_is_returned():
    norm = nn.BatchNorm2d(8, track_running_stats=False)
    conv = nn.Conv2d(8, 4, 1)
    before = conv.weight.clone()
    assert absorb_norm(norm, conv) is norm
    assert torch.equal(conv.weight, before)
