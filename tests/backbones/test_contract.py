"""What every backbone promises, checked on every registered one.

Families are found in the registry, so a new one is held to the contract without a change here. Its
blocks and arguments are the real ones; only depths and dims are small, to be quick.
"""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from mmengine.registry import MODELS
from small_backbones import CONFIGS, NO_FAMILY, build, every_backbone, every_own_backbone
from torch import nn

from mmplugins.backbones import PyramidBackbone, backbone_config, build_backbone, list_backbones
from mmplugins.backbones.catalog import families
from mmplugins.backbones.token_mixers import Pooling

SUBSETS = [(0,), (1,), (2,), (3,), (0, 3), (1, 2), (0, 1, 2, 3)]
"""Each output alone, with and without gaps below and between, and all."""


def of_part(name: str, parts: list[str]) -> bool:
    return any(f"{name}.".startswith(f"{part}.") for part in parts)


def total(outs, seed: int = 0):
    """A scalar to which every output element contributes differently."""
    random = torch.Generator().manual_seed(seed)
    return sum((out * torch.randn(out.shape, generator=random)).sum() for out in outs)


def test_every_registered_backbone_is_here():
    registered = {
        name
        for name, cls in MODELS.module_dict.items()
        if isinstance(cls, type)
        and issubclass(cls, PyramidBackbone)
        and cls.__module__.startswith("mmplugins.")
    }
    assert registered
    assert registered == {config["type"] for config in CONFIGS.values()}
    assert registered == {cls.__name__ for cls in families().values()} | set(NO_FAMILY)


# Exact counts without output norms, by the published definitions.
BODY = {
    "poolformer": dict(
        s12=11_401_152, s24=20_874_944, s36=30_348_736, m36=55_401_984, m48=72_702_912,
        s12_identity=11_401_152, s12_pppa=13_524_416, s12_ppaa=16_021_568, s12_pppf=11_405_954,
        s12_ppff=11_636_450,
    ),
    "poolformerv2": dict(
        s12=11_377_688, s24=20_827_440, s36=30_277_192, m36=55_306_632, m48=72_575_520
    ),
    "identityformer": dict(
        s12=11_377_688, s24=20_827_440, s36=30_277_192, m36=55_306_632, m48=72_575_520
    ),
    "randformer": dict(
        s12=11_612_986, s24=21_298_036, s36=30_983_086, m36=56_012_526, m48=73_516_712
    ),
    "convformer": dict(s18=23_669_704, s36=36_907_408, m36=53_411_472, b36=94_439_568),
    "caformer": dict(s18=23_236_912, s36=36_192_358, m36=52_564_710, b36=93_310_566),
    "riformer": dict(  # trained form: PoolFormer's, and an affine map in each block
        s12=11_401_152 + 6_656, s24=20_874_944 + 13_312, s36=30_348_736 + 19_968,
        m36=55_401_984 + 26_496, m48=72_702_912 + 35_328,
    ),
    "smlpnet": dict(t=23_481_304, s=47_787_600, b=64_981_616),
    "convnext": dict(
        tiny=27_818_592, small=49_453_152, base=87_564_416, large=196_227_264, xlarge=348_143_872
    ),
}  # fmt: skip
FROZEN = {
    "randformer": dict(s12=235_298, s24=470_596, s36=705_894, m36=705_894, m48=941_192),
}
SIZE_TIED = {"smlpnet": dict(t=31_864, s=39_312, b=39_312)}


def test_body_counts_cover_all_variants():
    assert list_backbones()
    counted = {f"{family}_{arch}" for family, archs in BODY.items() for arch in archs}
    assert counted == set(list_backbones())


@pytest.mark.parametrize("name", list_backbones())
def test_body_count(name):
    family, _, arch = name.partition("_")
    with torch.device("meta"):
        model = build_backbone(name, out_norm=None)
    parameters = list(model.parameters())
    assert sum(p.numel() for p in parameters) == BODY[family][arch]
    frozen = sum(p.numel() for p in parameters if not p.requires_grad)
    assert frozen == FROZEN.get(family, {}).get(arch, 0)
    if family in SIZE_TIED:
        names = (".row.", ".column.")
        tied = (p.numel() for n, p in model.named_parameters() if any(m in n for m in names))
        assert sum(tied) == SIZE_TIED[family][arch]


@pytest.mark.parametrize("name", list_backbones())
def test_published_count(name):
    """The papers count the classifier too: a norm, then a linear layer or an MLP to 1000 classes.

    Of RIFormer the deployed form is published, which is PoolFormer's.
    """
    family, _, arch = name.partition("_")
    variant = families()[family].variants[arch]
    dim = variant.dims[-1]
    head = 2 * dim + 1000 * dim + 1000
    if family in ("convformer", "caformer"):
        head = 2 * dim + (4 * dim * dim + 4 * dim) + 2 * 4 * dim + (4000 * dim + 1000)
    body = BODY["poolformer" if family == "riformer" else family][arch]
    rounded = 1 if isinstance(variant.params, int) else 0.1
    assert abs((body + head) / 1e6 - variant.params) < rounded


@every_backbone
@pytest.mark.parametrize(("batch", "size"), [(2, (224, 224)), (3, (97, 131)), (1, (33, 64))])
@torch.no_grad()
def test_shapes_and_strides(name, batch, size):
    model = build(name).eval()
    outs = model(torch.randn(batch, 3, *size))
    assert isinstance(outs, tuple) and len(outs) == 4
    assert model.out_strides == (4, 8, 16, 32)
    assert tuple(info["num_chs"] for info in model.feature_info) == model.out_channels
    assert tuple(info["reduction"] for info in model.feature_info) == model.out_strides
    for out, channels, stride in zip(outs, model.out_channels, model.out_strides, strict=True):
        assert out.shape[:2] == (batch, channels)
        for side, pixels in zip(out.shape[2:], size, strict=True):
            assert abs(side - pixels / stride) < 1  # so exact where the stride divides the side
        assert out.isfinite().all()


@every_backbone
def test_wrong_input_is_named(name):
    model = build(name).eval()
    for shape in [(1, 3, 31, 64), (1, 3, 64, 31), (3, 64, 64)]:
        with pytest.raises(ValueError, match=r"at least\s+32"):
            model(torch.zeros(shape))


@every_backbone
def test_other_channels(name):
    out = build(name, in_channels=5, out_indices=(0,)).eval()(torch.randn(1, 5, 64, 64))
    assert out[0].shape[2:] == (16, 16)


@every_backbone
def test_out_indices(name, randomise, assert_close):
    """Outputs do not depend on the others; all that is built takes part in the backward pass."""
    x = torch.randn(2, 3, 64, 96)
    full = randomise(build(name)).eval()
    with torch.no_grad():
        expected = full(x)
    weights = full.state_dict()
    for indices in SUBSETS:
        model = build(name, out_indices=indices).eval()
        wanted = model.state_dict().keys()
        assert not any(
            of_part(key, [f"stages.{i}" for i in range(indices[-1] + 1, 4)]) for key in wanted
        )
        model.load_state_dict({key: weights[key] for key in wanted})
        outs = model(x)
        assert model.out_strides == tuple(4 * 2**i for i in indices)
        for i, out in zip(indices, outs, strict=True):
            assert_close(out.detach(), expected[i])
        total(outs).backward()
        for key, parameter in model.named_parameters():
            if parameter.requires_grad:
                assert parameter.grad is not None, (indices, key)
                assert parameter.grad.isfinite().all(), (indices, key)
                assert parameter.grad.any() or no_effect(model, key), (indices, key)


def no_effect(model, key):
    """The norm's bias before pooling cancels, so that its gradient is zero."""
    block, _, part = key.rpartition("norm1.")
    return part == "bias" and isinstance(model.get_submodule(f"{block}token_mixer"), Pooling)


@every_backbone
def test_negative_out_indices_count_from_the_end(name):
    assert build(name, out_indices=(-2, -1)).out_indices == (2, 3)


@every_backbone
@pytest.mark.parametrize("out_indices", [(), (4,), (-5,), (2, 1), (1, 1), (3, -1), ("0",)])
def test_bad_out_indices_are_named(name, out_indices):
    with pytest.raises(ValueError, match="out_indices=") as error:
        build(name, out_indices=out_indices)
    assert repr(out_indices) in str(error.value)


@every_own_backbone
def test_frozen_stages(name):
    trainable = {n for n, p in build(name).named_parameters() if p.requires_grad}
    for frozen_stages in range(-1, 5):
        parts = (
            [] if frozen_stages < 0 else ["stem", *(f"stages.{i}" for i in range(frozen_stages))]
        )
        model = build(name, frozen_stages=frozen_stages)
        buffers = {n: b.clone() for n, b in model.named_buffers() if of_part(n, parts)}
        for mode in (True, False, True):
            assert model.train(mode) is model
            for n, module in model.named_modules():
                assert module.training == (mode and not of_part(n, parts)), (frozen_stages, n)
            free = {n for n, p in model.named_parameters() if p.requires_grad}
            assert free == {n for n in trainable if not of_part(n, parts)}
        outs = model(torch.randn(2, 3, 64, 64))
        if free:
            total(outs).backward()
        for n, before in buffers.items():
            assert torch.equal(model.get_buffer(n), before)
    for wrong in (-2, 5):
        with pytest.raises(ValueError, match=f"frozen_stages={wrong}"):
            build(name, frozen_stages=wrong)


@every_backbone
def test_recomputing_changes_nothing(name, randomise, assert_close):
    """Outputs, gradients and batch-norm statistics, with branches dropped at random."""
    x = torch.randn(4, 3, 64, 64)
    results = []
    for with_cp in (False, True):
        model = randomise(build(name, with_cp=with_cp, drop_path_rate=0.5)).train()
        torch.manual_seed(1)
        outs = model(x)
        total(outs).backward()
        grads = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        results.append((outs, grads, dict(model.named_buffers())))
    (outs, grads, buffers), (cp_outs, cp_grads, cp_buffers) = results
    assert grads and grads.keys() == cp_grads.keys() and buffers.keys() == cp_buffers.keys()
    for out, cp_out in zip(outs, cp_outs, strict=True):
        assert_close(cp_out.detach(), out.detach())
    for n, grad in grads.items():
        assert_close(cp_grads[n], grad)
    if name != "TimmBackbone":  # whose documentation says that batch norms count twice
        for n, buffer in buffers.items():
            assert torch.equal(cp_buffers[n], buffer), n


@every_backbone
def test_drop_path_acts_in_training_only(name, randomise):
    model = randomise(build(name, drop_path_rate=0.9))
    x = torch.randn(1, 3, 64, 64).expand(16, -1, -1, -1)
    with torch.no_grad():
        evaluated, trained = model.eval()(x)[-1], model.train()(x)[-1]
    assert torch.allclose(evaluated, evaluated[:1].expand_as(evaluated), atol=1e-4)
    assert not torch.allclose(trained, trained[:1].expand_as(trained), atol=1e-2)


@every_backbone
def test_memory_formats_agree(name, randomise, assert_close):
    model = randomise(build(name))
    x = torch.randn(2, 3, 97, 131)
    grads = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        model = model.to(memory_format=memory_format).eval()
        given = x.contiguous(memory_format=memory_format).requires_grad_()
        outs = model(given)
        (grad,) = torch.autograd.grad(total(outs), given)
        grads.append((*(out.detach() for out in outs), grad))
    for first, last in zip(*grads, strict=True):
        assert_close(last, first)


@every_backbone
@torch.no_grad()
def test_bfloat16_autocast_is_close(name, randomise):
    model = randomise(build(name)).eval()
    x = torch.randn(1, 3, 97, 131)
    with torch.autocast("cpu", torch.bfloat16):
        outs = model(x)
    for out, expected in zip(outs, model(x), strict=True):
        assert out.isfinite().all()
        assert (out.float() - expected).norm() < 0.05 * expected.norm()


@every_backbone
@torch.no_grad()
def test_copies_are_the_same(name, randomise):
    model = randomise(build(name)).eval()
    x = torch.randn(1, 3, 64, 64)
    expected = model(x)
    loaded = build(name).eval()
    loaded.load_state_dict(model.state_dict())
    for twin in (loaded, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert not twin.training
        for out, e in zip(twin(x), expected, strict=True):
            assert torch.equal(out, e)


@every_backbone
def test_seed_determines_the_start(name):
    starts = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        model = build(name)
        model.init_weights()
        starts.append(model.state_dict())
    first, again, other = starts
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


QUICK = ("caformer_s18", "smlpnet_t")  # convolutions, attention, and mixers tied to a size


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in CONFIGS]
)
@torch.no_grad()
def test_compiles_as_one_graph(name, randomise, assert_close):
    model = randomise(build(name)).eval()
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    x = torch.randn(1, 3, 64, 64)
    for out, e in zip(compiled(x), model(x), strict=True):
        assert_close(out, e)


@every_own_backbone
def test_layer_depth_covers_all_parameters(name):
    """Depths grow with the stage; the output norms, like neck and head, are in the last layer."""
    model = build(name)
    names = [n for n, _ in model.named_parameters()]
    depths = {n: model.get_layer_depth(f"backbone.{n}", "backbone.")[0] for n in names}
    layers = {model.get_layer_depth(f"backbone.{n}", "backbone.")[1] for n in names}
    assert len(layers) == 1
    (last,) = layers
    assert {d for n, d in depths.items() if n.startswith("stem.")} == {0}
    assert all(0 < d < last - 1 for n, d in depths.items() if n.startswith("stages."))
    assert {d for n, d in depths.items() if n.startswith("out_norms.")} <= {last - 1}
    for i in range(3):
        lower = [d for n, d in depths.items() if n.startswith(f"stages.{i}.blocks.")]
        upper = [d for n, d in depths.items() if n.startswith(f"stages.{i + 1}.blocks.")]
        assert max(lower) < min(upper)


@pytest.mark.parametrize("family", families())
def test_unknown_arch_is_answered_with_the_nearest(family):
    cls = families()[family]
    arch = next(iter(cls.variants))
    with pytest.raises(ValueError, match="Unknown arch") as error:
        cls(arch=f"{arch}x")
    assert f"Did you mean {arch!r}?" in str(error.value)
    assert all(known in str(error.value) for known in cls.variants)
    with pytest.raises(ValueError, match="expected one of .* or a dict with depths and dims"):
        cls(arch=dict(depths=(1, 1, 1, 1)))


def test_unknown_backbone_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"Unknown backbone 'poolformer_s13'.*poolformer_s12"):
        build_backbone("poolformer_s13")


def test_names_and_configs_agree():
    for name in list_backbones():
        config = backbone_config(name)
        assert f"{config['type'].lower()}_{config['arch']}" == name
        assert isinstance(MODELS.get(config["type"]), type)
    assert backbone_config("timm/resnet50") == dict(type="TimmBackbone", model_name="resnet50")


def test_no_two_outputs_share_a_norm():
    """Each output norm has weights of its own and acts on its output alone."""
    model = build_backbone("poolformer_s12", out_indices=(1, 3))
    assert list(model.out_norms) == ["1", "3"]
    assert not any(isinstance(m, nn.Identity) for m in model.out_norms.values())
