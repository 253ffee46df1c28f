"""Every backbone in deploy form: equal to its trained form, and made of few passes over memory."""

from __future__ import annotations

import copy
import pickle
from collections import Counter

import pytest
import torch
from mmengine.registry import MODELS
from small_backbones import build, every_backbone
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from mmplugins.backbones import (
    TOKEN_MIXERS,
    CAFormer,
    ConvFormer,
    ConvNeXt,
    MetaFormer,
    PoolFormer,
    PoolFormerV2,
    sMLPNet,
)
from mmplugins.backbones.fused_conv import FusedConv2d
from mmplugins.functional import inference_conv, inference_maps

SHALLOW = dict(depths=(1, 1, 1, 1), dims=(32, 64, 96, 128))

needs_fused = pytest.mark.skipif(
    not inference_conv.fused_kernels(), reason="this build of PyTorch has no fused kernels"
)


@every_backbone
@pytest.mark.parametrize(("batch", "size"), [(1, (97, 131)), (3, (64, 96))])
@torch.no_grad()
def test_equal_to_the_trained_form(name, batch, size, randomise, assert_close):
    """At odd sizes, for any batch, in both memory formats, fused and by plain operators."""
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
    with torch.backends.mkldnn.flags(enabled=False):
        for out, e in zip(model(x), expected, strict=True):
            assert_close(out, e)


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
@torch.no_grad()
def test_both_forms_load_into_the_deployed_model(name, randomise):
    model = randomise(build(name)).eval()
    x = torch.randn(1, 3, 64, 64)
    trained = copy.deepcopy(model.state_dict())
    expected = model.switch_to_deploy()(x)
    for weights in (trained, model.state_dict()):
        kept = {key: value.clone() for key, value in weights.items()}
        other = build(name).eval().switch_to_deploy()
        other(x)  # what the fused kernels keep of the old weights must go
        other.load_state_dict(weights)
        for out, e in zip(other(x), expected, strict=True):
            assert torch.equal(out, e)
        assert all(torch.equal(weights[key], value) for key, value in kept.items())


@every_backbone
def test_deployed_weights_are_refused_by_the_trained_form(name):
    deployed = build(name).eval().switch_to_deploy().state_dict()
    with pytest.raises(ValueError, match="deploy form for a .* in trained form"):
        build(name).load_state_dict(deployed, strict=False)


@every_backbone
def test_incomplete_weights_are_refused(name):
    weights = dict(build(name).state_dict())
    lost = next(key for key in weights if key.endswith("weight"))
    del weights[lost]
    with pytest.raises(ValueError, match="only a complete set can be folded") as error:
        build(name).eval().switch_to_deploy().load_state_dict(weights, strict=False)
    assert lost in str(error.value)


@every_backbone
@torch.no_grad()
def test_copies_are_the_same(name, randomise):
    model = randomise(build(name)).eval().switch_to_deploy()
    x = torch.randn(1, 3, 64, 64)
    expected = model(x)
    weights = model.state_dict()
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        for out, e in zip(twin(x), expected, strict=True):
            assert torch.equal(out, e)
        twin.load_state_dict(weights)
        assert twin.switch_to_deploy() is twin


@every_backbone
def test_gradients_still_flow(name, randomise, assert_close):
    """Deployed models are differentiated, too, for example by tools that explain predictions."""
    model = randomise(build(name)).double().eval()  # in float32 a relu near 0 may change sides
    x = torch.randn(1, 3, 64, 64, dtype=torch.double, requires_grad=True)
    (expected,) = torch.autograd.grad(model(x)[-1].square().sum(), x)
    (grad,) = torch.autograd.grad(model.switch_to_deploy()(x)[-1].square().sum(), x)
    assert_close(grad, expected, rel=1e-8)


@torch.no_grad()
@pytest.mark.parametrize("norm1", ["GN1", "LN", "BN", None])
@pytest.mark.parametrize("mixer", ["Pooling", "DepthwiseConv", "SepConv", "Attention", "Identity"])
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


@needs_fused
@torch.no_grad()
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("mean", [10.0, 100.0])
@pytest.mark.parametrize("mixer", ["Pooling", "Identity"])
def test_statistics_far_from_zero(mean, seed, mixer, randomise, assert_close):
    """Group norm of maps whose mean is many deviations: the variance must not cancel.

    At 100 deviations float32 itself costs more than 1e-5; nothing may be lost beyond that.
    """
    settings = dict(token_mixers=mixer, layer_scale=1.0, out_norm="GN1")
    model = randomise(MetaFormer(**SHALLOW, **settings), seed).eval()
    model.stem.conv.bias.add_(mean)
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(seed))
    expected = copy.deepcopy(model).double()(x.double())
    trained = model(x)
    for out, t, e in zip(model.switch_to_deploy()(x), trained, expected, strict=True):
        own = ((t - e).abs().max() / e.abs().max()).item()
        assert_close(out.double(), e, rel=max(1e-5, 2 * own))


@torch.no_grad()
@needs_fused
def test_bands_change_nothing(monkeypatch, randomise, assert_close):
    model = randomise(PoolFormer(SHALLOW)).eval().switch_to_deploy()
    x = torch.randn(2, 3, 97, 64)
    whole = model(x)
    monkeypatch.setattr(inference_maps, "BAND", 4096)
    for out, e in zip(model(x), whole, strict=True):
        assert out.is_contiguous(memory_format=torch.channels_last)
        assert_close(out, e, rel=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["pointwise", "dense", "depthwise"])
def test_new_weights_are_seen(kind):
    """However they come: in place, as another parameter, as other data, at another size."""
    settings = dict(pointwise=(8, 1), dense=(8, 3), depthwise=(8, 3, 1, 1, 1, 8))[kind]
    conv = nn.Conv2d(8, *settings)
    fused = FusedConv2d(conv, "relu")

    def check(*size):
        x = torch.randn(1, 8, *size)
        expected = nn.functional.relu(nn.Conv2d._conv_forward(fused, x, fused.weight, fused.bias))
        torch.testing.assert_close(fused(x), expected, rtol=1e-5, atol=1e-5)

    check(9, 7)
    fused.weight.mul_(-1)
    check(9, 7)
    fused.weight = nn.Parameter(torch.randn_like(fused.weight))
    check(9, 7)
    fused.weight.data = torch.randn_like(fused.weight)
    check(9, 7)
    fused.load_state_dict(conv.state_dict())
    check(5, 11)


class Operators(TorchDispatchMode):
    """Names of all operators that run, views left out."""

    VIEWS = ("view", "permute", "unsqueeze", "split", "as_strided", "detach", "expand", "select",
             "transpose", "slice", "alias", "unbind", "_unsafe_view", "t")  # fmt: skip

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        out = func(*args, **(kwargs or {}))
        big = any(
            isinstance(x, torch.Tensor) and x.numel() >= 1000
            for x in (out if isinstance(out, list | tuple) else (out, *args))
        )
        if name not in self.VIEWS and big:
            self.names[name] += 1
        return out

    def __enter__(self):
        self.names = Counter()
        return super().__enter__()


MAPS = dict(  # operators on maps in one block: mixer branch + MLP branch
    PoolFormer=(PoolFormer, 4 + 6),  # statistics are a sum and a norm
    PoolFormerV2=(PoolFormerV2, 5 + 8),
    ConvFormer=(ConvFormer, 6 + 5),
    CAFormer=(CAFormer, 5 + 5),
    ConvNeXt=(ConvNeXt, 4),
    sMLPNet=(sMLPNet, 8 + 4),  # norm, GELU, depthwise, rows, columns, and one of each to fuse
)


@needs_fused
@torch.no_grad()
@pytest.mark.parametrize("family", MAPS)
def test_passes_over_memory(family, randomise):
    """Speed as a count: operators that touch a map, at most so many per block, and no copies."""
    cls, allowed = MAPS[family]
    counts = []
    for depth in (1, 2):
        arch = dict(depths=(1, 1, depth, 1), dims=SHALLOW["dims"])
        model = randomise(cls(arch, out_norm=None)).eval().switch_to_deploy()
        x = torch.randn(1, 3, 128, 128).contiguous(memory_format=torch.channels_last)
        model(x)  # weights are packed now
        with Operators() as operators:
            model(x)
        counts.append(operators.names)
    block = counts[1] - counts[0]
    assert block.total() <= allowed, block
    copies = {"clone", "contiguous", "copy_", "_to_copy", "cat"}
    assert not copies & set(counts[1]), counts[1]


@needs_fused
@torch.no_grad()
def test_flops_are_those_of_the_trained_form(randomise):
    for cls in (PoolFormer, ConvFormer, CAFormer, ConvNeXt):
        model = randomise(cls(SHALLOW)).eval()
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


@torch.no_grad()
@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "resnetv2_18", "repvgg_a0"])
def test_timm_models(name, randomise, assert_close):
    model = randomise(MODELS.get("TimmBackbone")(name, out_indices=(1, 2))).eval()
    x = torch.randn(2, 3, 64, 96)
    expected = model(x)
    for out, e in zip(model.switch_to_deploy()(x), expected, strict=True):
        assert_close(out, e)


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
