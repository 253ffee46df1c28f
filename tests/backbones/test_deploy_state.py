"""What a deployed model loads: the trained form, its own, and that of version 0.1."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from small_backbones import build, every_backbone
from torch import Tensor

from mmplugins.backbones import ConvNeXt, MetaFormer, sMLPNet
from mmplugins.backbones.deploy_state import MARK, VERSION


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
        other(x)
        other.load_state_dict(weights)
        for out, e in zip(other(x), expected, strict=True):
            assert torch.equal(out, e)
        assert all(torch.equal(weights[key], value) for key, value in kept.items())


@every_backbone
def test_deployed_weights_are_refused_by_the_trained_form(name):
    deployed = build(name).eval().switch_to_deploy().state_dict()
    with pytest.raises(ValueError, match="deployed form for a .* in trained form"):
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


WRITTEN = json.loads((Path(__file__).parent / "deployed_0_1.json").read_text())
"""Names and shapes in files that version 0.1 wrote of the models below, deployed."""

TINY = dict(depths=(1, 1, 1, 1), dims=(32, 32, 32, 32))
ATTENTION = dict(type="Attention", qkv_bias=True, proj_bias=True)
MODELS = dict(
    factors=lambda: MetaFormer(
        **TINY,
        token_mixers=["Pooling", "SepConv", "Attention", dict(type="RandomMixing", side=2)],
        mlp_act="StarReLU", layer_scale=0.1, res_scale=1.0,
    ),
    plain=lambda: MetaFormer(
        **TINY, token_mixers=["Pooling", "Identity", ATTENTION, "DepthwiseConv"],
        norm1=["GN1", "GN1", "LN", "BN"], layer_scale=0.1,
    ),
    convnext=lambda: ConvNeXt(TINY, out_indices=(1,)),
    smlpnet=lambda: sMLPNet(TINY, out_indices=(1,)),
)  # fmt: skip


def column(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1)


def group_norm(x, w):
    return F.group_norm(x, 1, w.get("norm.weight"), w.get("norm.bias"))


def layer_norm(x, weight=None, bias=None, eps=1e-6):
    x = F.layer_norm(x.movedim(1, -1), x.shape[1:2], weight, bias, eps)
    return x.movedim(-1, 1)


def pooling(x, w):
    rstd = (x.var((1, 2, 3), correction=0, keepdim=True) + 1e-5).rsqrt()
    mixed = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False) - x
    return mixed * column(w["gain"]) * rstd


def sep_conv(x, w):
    x = F.conv2d(group_norm(x, w), w["fc1.weight"], w["fc1.bias"]).relu() ** 2
    x = F.conv2d(
        x + w["middle.0.shift"], w["middle.1.weight"], padding=3, groups=len(w["fc1.bias"])
    )
    return F.conv2d(x, w["fc2.weight"])


def attention(x, w, norm):
    qkv = F.conv2d(norm(x), w["qkv.weight"], w["qkv.bias"]).flatten(2).chunk(3, 1)
    q, k, v = (part.mT[:, None] for part in qkv)
    y = F.scaled_dot_product_attention(q, k, v)[:, 0].mT.unflatten(2, x.shape[2:])
    return F.conv2d(y, w["proj.weight"], w.get("proj.bias"))


def random_mixing(x, w):
    return (group_norm(x, w).flatten(2) @ w["mixer.random_matrix"].mT).view_as(x)


def depthwise(x, w):
    statistics = w["norm.running_mean"], w["norm.running_var"]
    x = F.batch_norm(x, *statistics, w["norm.weight"], w["norm.bias"])
    x = F.conv2d(x, w["mixer.weight"], padding=1, groups=x.shape[1])
    return x * column(w["layer_scale"])


def mlp(x, w, act, norm):
    hidden = act(F.conv2d(norm(x), w["fc1.weight"], w["fc1.bias"]))
    return F.conv2d(hidden, w["fc2.weight"], w["fc2.bias"])


def convnext(x, w):
    x = F.conv2d(x, w["before.weight"], w["before.bias"], padding=3, groups=x.shape[1])
    return mlp(x, w, F.gelu, layer_norm)


def sparse_mlp(x, w):
    w = below(w, "mixer.")
    norm = (w[f"norm1.{name}"] for name in ("running_mean", "running_var", "weight", "bias"))
    x = F.gelu(F.batch_norm(x, *norm))
    x = F.gelu(
        F.conv2d(x, w["depthwise.weight"], w["depthwise.bias"], padding=1, groups=x.shape[1])
    )
    rows = F.linear(x, w["row.weight"], w["row.bias"])
    columns = F.linear(x.mT, w["column.weight"], w["column.bias"]).mT
    parts = dict(own=x, rows=rows, columns=columns)
    return sum(F.conv2d(part, w[f"fuse_{name}.weight"]) for name, part in parts.items())


BRANCHES = dict(
    factors=[pooling, sep_conv, lambda x, w: attention(x, w, lambda x: group_norm(x, {})),
             random_mixing],
    plain=[pooling, group_norm, lambda x, w: attention(x, w, layer_norm),
           depthwise],
    smlpnet=[sparse_mlp] * 2,
)  # fmt: skip
NORMS = dict(  # before the MLP, without their weights, which are in it; of a batch norm, nothing
    factors=[lambda x: group_norm(x, {})] * 4,
    plain=[lambda x: group_norm(x, {})] * 2 + [layer_norm, lambda x: x],
    smlpnet=[lambda x: layer_norm(x, eps=1e-5)] * 2,
)
ACTS = dict(factors=lambda x: x.relu() ** 2)
PATCHES = dict(convnext=[(4, 0), (2, 0)], smlpnet=[(4, 0), (2, 0)])


def below(weights: dict, prefix: str) -> dict:
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}


def written_out(name: str, weights: dict, x: Tensor) -> list[Tensor]:
    """What version 0.1 computed from such a file, by plain functions."""
    maps = []
    patches = PATCHES.get(name, [(4, 2)] + [(2, 1)] * 3)
    for i, (stride, padding) in enumerate(patches):
        w = below(weights, f"stages.{i}.downsample.conv." if i else "stem.conv.")
        if name == "convnext" and i:
            x = layer_norm(x)
        x = F.conv2d(x, w["weight"], w.get("bias"), stride, padding)
        if name == "convnext" and not i:
            x = layer_norm(x, weights["stem.norm.weight"], weights["stem.norm.bias"])
        block = below(weights, f"stages.{i}.blocks.0.")
        if name == "convnext":
            x = x + convnext(x, block)
        else:
            mix, wide = below(block, "token_mixer."), below(block, "mlp.")
            x = column(mix.get("res_scale", torch.ones(32))) * x + BRANCHES[name][i](x, mix)
            y = mlp(x, wide, ACTS.get(name, F.gelu), NORMS[name][i])
            x = column(wide.get("res_scale", torch.ones(32))) * x + y
        maps.append(x)
    if name not in PATCHES:
        return maps
    return [layer_norm(maps[1], weights["out_norms.1.weight"], weights["out_norms.1.bias"])]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("prefix", ["", "backbone."])
@torch.no_grad()
def test_files_deployed_by_version_0_1_load(name, prefix, assert_close):
    random = torch.Generator().manual_seed(0)
    weights = {}
    for key, shape in WRITTEN[name].items():
        value = torch.rand(shape, generator=random) + 0.5
        if len(shape) > 1:
            value = torch.randn(shape, generator=random) * value[0].numel() ** -0.5
        weights[key] = value
    weights[MARK] = torch.ones((), dtype=torch.uint8)
    counters = [key for key in weights if key.endswith("num_batches_tracked")]
    weights |= {key: torch.zeros((), dtype=torch.long) for key in counters}
    model = MODELS[name]().eval().switch_to_deploy()
    whole = torch.nn.ModuleDict(dict(backbone=model)) if prefix else model
    whole.load_state_dict({prefix + key: value for key, value in weights.items()})
    size = (64, 64) if name == "factors" else (224, 224) if name == "smlpnet" else (97, 65)
    x = torch.randn(2, 3, *size, generator=random)
    for out, e in zip(model(x), written_out(name, weights, x), strict=True):
        assert_close(out, e)
    assert model.state_dict()[MARK] == VERSION
    again = MODELS[name]().eval().switch_to_deploy()
    again.load_state_dict(model.state_dict())  # what is written now is of this version
