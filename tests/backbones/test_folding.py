"""Folded models: equal to the trained form, of plain modules, whatever their parts are."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from small_backbones import build, every_backbone, every_own_backbone
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mmplugins.backbones import (
    TOKEN_MIXERS,
    CAFormer,
    ConvFormer,
    ConvNeXt,
    MetaFormer,
    PoolFormer,
    sMLPNet,
)
from mmplugins.backbones.folding import absorb_norm
from mmplugins.backbones.layers import GroupNorm1, PointwiseLinear, Scale, StarReLU

SHALLOW = dict(depths=(1, 1, 1, 1), dims=(32, 64, 96, 128))


@every_backbone
@pytest.mark.parametrize(("batch", "size"), [(1, (97, 131)), (3, (64, 96))])
@torch.no_grad()
def test_equal_to_the_trained_form(name, batch, size, randomise, assert_close):
    """At odd sizes, for any batch, in both memory formats."""
    model = randomise(build(name)).eval()
    x = torch.randn(batch, 3, *size)
    expected = model(x)
    assert model.switch_to_deploy() is model
    for memory_format in (torch.contiguous_format, torch.channels_last):
        given = x.contiguous(memory_format=memory_format)
        before = given.clone()
        for out, e in zip(model(given), expected, strict=True):
            assert_close(out, e)
        assert torch.equal(given, before)


@every_backbone
@torch.no_grad()
def test_exact_in_double_precision(name, randomise):
    model = randomise(build(name)).double().eval()
    x = torch.randn(2, 3, 65, 64, dtype=torch.double)
    expected = model(x)
    for out, e in zip(model.switch_to_deploy()(x), expected, strict=True):
        assert (out - e).abs().max() <= 1e-12 * e.abs().max()


@every_backbone
def test_refused_in_training(name):
    with pytest.raises(RuntimeError, match=r"training mode.*eval\(\)"):
        build(name).train().switch_to_deploy()


@every_backbone
@torch.no_grad()
def test_twice_is_once(name, randomise):
    model = randomise(build(name)).eval().switch_to_deploy()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.switch_to_deploy()
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], value) for key, value in before.items())


@every_backbone
def test_gradients_still_flow(name, randomise, assert_close):
    """Deployed models are differentiated, too, for example by tools that explain predictions."""
    model = randomise(build(name)).double().eval()  # in float32 a relu near 0 may change sides
    x = torch.randn(1, 3, 64, 64, dtype=torch.double, requires_grad=True)
    (expected,) = torch.autograd.grad(model(x)[-1].square().sum(), x)
    (grad,) = torch.autograd.grad(model.switch_to_deploy()(x)[-1].square().sum(), x)
    assert_close(grad, expected, rel=1e-8)


@torch.no_grad()
@pytest.mark.parametrize("norm1", ["GN1", "LN", "BN", dict(type="GN1", bias=False), None])
@pytest.mark.parametrize(
    "mixer", ["Pooling", "DepthwiseConv", "SepConv", "Attention", "Identity", "Affine"]
)
@pytest.mark.parametrize("shortcut", [True, False])
def test_any_norm_before_any_mixer(norm1, mixer, shortcut, randomise, assert_close):
    model = MetaFormer(
        **SHALLOW, token_mixers=mixer, norm1=norm1, layer_scale=0.1, res_scale=1.0,
        shortcut=shortcut, mlp_act="StarReLU", out_norm=None,
        stem=dict(kernel_size=7, stride=4, padding=2, post_norm="BN"),
        downsample=dict(kernel_size=3, stride=2, padding=1, pre_norm=norm1),
    )  # fmt: skip
    model = randomise(model).double().eval()  # float32 overflows without norms
    x = torch.randn(2, 3, 65, 97, dtype=torch.double)
    expected = model(x)
    for out, e in zip(model.switch_to_deploy()(x), expected, strict=True):
        assert_close(out, e, rel=1e-10)


@torch.no_grad()
@pytest.mark.parametrize("act", ["ReLU", "SiLU", "GELU", "SquaredReLU", "StarReLU", "Tanh"])
@pytest.mark.parametrize("scale", [0.7, -0.7, 0.0])
def test_any_activation(act, scale, randomise, assert_close):
    act = dict(type=act)
    mixer = dict(type="SepConv", act=act)
    model = randomise(MetaFormer(**SHALLOW, token_mixers=mixer, mlp_act=act)).eval()
    for module in model.modules():
        if act["type"] == "StarReLU" and hasattr(module, "scale"):
            module.scale.fill_(scale)
    x = torch.randn(1, 3, 64, 97)
    expected = model(x)
    for out, e in zip(model.switch_to_deploy()(x), expected, strict=True):
        assert_close(out, e)


@torch.no_grad()
def test_own_mixer_takes_part_without_knowing(randomise, assert_close):
    """Its norm and scale stay, unless it names its layers."""

    @TOKEN_MIXERS.register_module(name="MixerOfThisTest")
    class Shift(nn.Module):
        def __init__(self, dim, named):
            super().__init__()
            self.first, self.last = nn.Conv2d(dim, dim, 1), nn.Conv2d(dim, dim, 1)
            if named:
                self.linear_ends = ("first", "last")

        def forward(self, x):
            return self.last(self.first(x).roll(1, 2).tanh())

    try:
        sizes = []
        for named in (False, True):
            mixer = dict(type="MixerOfThisTest", named=named)
            model = randomise(MetaFormer(**SHALLOW, token_mixers=mixer, layer_scale=1.0)).eval()
            x = torch.randn(1, 3, 64, 64)
            expected = model(x)
            for out, e in zip(model.switch_to_deploy()(x), expected, strict=True):
                assert_close(out, e)
            sizes.append(sum(p.numel() for p in model.parameters()))
    finally:
        TOKEN_MIXERS.module_dict.pop("MixerOfThisTest")
    assert sizes[0] - sizes[1] == 3 * sum(SHALLOW["dims"])  # norm weight, norm bias, layer scale


@pytest.fixture
def in_float64():
    """As the default, which timm's own folding takes for the layers that it makes."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@torch.no_grad()
@pytest.mark.usefixtures("in_float64")  # maps of these weights reach 1e7
@pytest.mark.parametrize(
    "name", ["test_resnet", "test_efficientnet", "resnetv2_18", "repvgg_a0", "repvit_m0_9"]
)
def test_timm_models(name, randomise, assert_close):
    model = randomise(MODELS.get("TimmBackbone")(name, out_indices=(1, 2))).eval()
    x = torch.randn(2, 3, 64, 96)
    expected, count = model(x), len(list(model.parameters()))
    for out, e in zip(model.switch_to_deploy()(x), expected, strict=True):
        assert_close(out, e)
    assert len(list(model.parameters())) < count


@every_backbone
def test_an_empty_batch(name, randomise):
    """As a process has one that was given no image; trained, deployed, and in training."""
    model, x = randomise(build(name)), torch.randn(0, 3, 65, 96)
    shapes = [out.shape for out in model(x)]
    assert all(shape[0] == 0 for shape in shapes)
    if name != "TimmBackbone":  # timm's own layers
        sum(out.sum() for out in model(x)).backward()
    model.eval().switch_to_deploy()
    with torch.no_grad():
        assert [out.shape for out in model(x)] == shapes


@every_backbone
def test_what_is_frozen_stays_so(name):
    model = build(name, frozen_stages=4, out_norm=None).eval().switch_to_deploy()
    assert not [key for key, p in model.named_parameters() if p.requires_grad]


@pytest.mark.parametrize("built_there", [True, False])
def test_deployed_in_inference_mode(built_there, randomise, assert_close):
    """It may be called anywhere, and leaves weights of the kind that they were."""
    x = torch.randn(1, 3, 65, 64)
    with torch.inference_mode(built_there):
        model = randomise(build("caformer_s18")).eval()
    with torch.inference_mode():
        expected = model(x)
    with torch.inference_mode(not built_there):
        model.switch_to_deploy()
    assert {p.is_inference() for p in model.parameters()} == {built_there}
    with torch.inference_mode():
        for out, e in zip(model(x), expected, strict=True):
            assert_close(out, e)


@every_own_backbone
def test_the_blocks_stay_what_they_are_with_less_in_them(name):
    model = build(name).eval()
    before = {n: type(m) for n, m in model.named_modules()}
    model.switch_to_deploy()
    after = {n: type(m) for n, m in model.named_modules()}
    assert after.keys() <= before.keys()
    for n, kind in after.items():
        assert issubclass(before[n], kind) or kind.__name__ in ("Identity", "SquaredReLU"), n
    assert sum(p.numel() for p in model.parameters()) <= sum(
        p.numel() for p in build(name).parameters()
    ) + sum(m.out_channels for m in model.modules() if isinstance(m, nn.Conv2d))


@pytest.mark.parametrize("family", [PoolFormer, ConvFormer, CAFormer, ConvNeXt])
def test_factors_are_gone(family):
    model = family(SHALLOW).eval().switch_to_deploy()
    assert not any(isinstance(m, StarReLU) for m in model.modules())
    left = [n for n, m in model.named_modules() if isinstance(m, Scale)]
    # A factor on a shortcut has no layer to go to.
    assert [n for n in left if "res_scale" not in n] == []


@torch.no_grad()
def test_a_layer_scale_that_is_more_than_a_scale_stays(randomise, assert_close):
    model = randomise(MetaFormer(**SHALLOW, layer_scale=0.5)).eval()
    for block in (block for stage in model.stages for block in stage.blocks):
        block.layer_scale1 = nn.Sequential(block.layer_scale1, nn.Tanh())
    x = torch.randn(1, 3, 64, 64)
    expected = model(x)
    for out, e in zip(model.switch_to_deploy()(x), expected, strict=True):
        assert_close(out, e)


@torch.no_grad()
def test_flops_are_those_of_the_trained_form():
    for cls in (PoolFormer, ConvFormer, CAFormer, ConvNeXt):
        model = cls(SHALLOW).eval()
        x = torch.randn(1, 3, 64, 64)
        totals = []
        for _ in range(2):
            with FlopCounterMode(display=False) as counter:
                model(x)
            totals.append(counter.get_total_flops())
            model.switch_to_deploy()
        assert totals[0] == totals[1]


def test_batch_norms_are_gone():
    model = sMLPNet(SHALLOW).eval().switch_to_deploy()
    norms = [name for name, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 4 and all(name.endswith("norm1") for name in norms)  # before a GELU


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


@torch.no_grad()
def test_matrix_products_are_deployed_as_convolutions():
    model = ConvNeXt(SHALLOW).eval()
    layer = model.stages[1].blocks[0].mlp.fc1
    x = torch.randn(2, 64, 5, 7)
    expected = F.conv2d(x, layer.weight, layer.bias)
    assert type(layer) is PointwiseLinear and torch.allclose(layer(x), expected, atol=1e-6)
    model.switch_to_deploy()
    assert type(model.stages[1].blocks[0].mlp.fc1) is nn.Conv2d
