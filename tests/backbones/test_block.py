"""The block as a formula: what its parts may be, in which precision, and what records it."""

from __future__ import annotations

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from mmplugins.backbones import backbone_config
from mmplugins.backbones.metaformer import MetaFormerBlock

FAMILIES = [
    "poolformer_s12", "poolformerv2_s12", "convformer_s18", "caformer_s18", "riformer_s12",
    "convnext_tiny", "smlpnet_t",
]  # fmt: skip
TINY = dict(depths=(1, 1, 2, 1), dims=(32, 32, 32, 64))
every_family = pytest.mark.parametrize("name", FAMILIES)


def tiny(name, **settings):
    return MODELS.build(backbone_config(name) | dict(arch=TINY) | settings)


def loss_of(model, x):
    return sum(out.square().mean() for out in model(x))


@pytest.mark.parametrize("shortcut", [True, False])
@pytest.mark.parametrize("mlp_ratio", [0, 2])
def test_a_block_is_the_formula_of_the_paper(shortcut, mlp_ratio, randomise):
    block = MetaFormerBlock(8, "DepthwiseConv", layer_scale=0.1, res_scale=1.0, shortcut=shortcut,
                            mlp_ratio=mlp_ratio)  # fmt: skip
    w = dict(randomise(block).named_parameters())
    x = torch.randn(2, 8, 5, 6)

    def norm(x, name):
        y = (x - x.mean((1, 2, 3), keepdim=True)) / (
            x.var((1, 2, 3), correction=0, keepdim=True) + 1e-5
        ).sqrt()
        return y * w[f"{name}.weight"].view(8, 1, 1) + w[f"{name}.bias"].view(8, 1, 1)

    def add(x, y, i):
        y = y * w[f"layer_scale{i}.scale"].view(8, 1, 1)
        return x * w[f"res_scale{i}.scale"].view(8, 1, 1) + y if shortcut else y

    y = nn.functional.conv2d(norm(x, "norm1"), w["token_mixer.weight"], padding=1, groups=8)
    expected = add(x, y, 1)
    if mlp_ratio:
        y = torch.einsum("oi,nihw->nohw", w["mlp.fc1.weight"].flatten(1), norm(expected, "norm2"))
        y = nn.functional.gelu(y + w["mlp.fc1.bias"].view(-1, 1, 1))
        y = torch.einsum("oi,nihw->nohw", w["mlp.fc2.weight"].flatten(1), y)
        expected = add(expected, y + w["mlp.fc2.bias"].view(-1, 1, 1), 2)
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "name",
    ["convformer_s18"]
    + [pytest.param(n, marks=pytest.mark.slow) for n in ("poolformer_s12", "convnext_tiny")],
)
def test_training_compiles_as_one_graph(name, randomise, assert_close):
    model = randomise(tiny(name)).train()
    x = torch.randn(2, 3, 64, 64)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    grads = []
    for run in (model, compiled):
        model.zero_grad()
        loss_of(run, x).backward()
        grads.append({n: p.grad.clone() for n, p in model.named_parameters()})
    for n, grad in grads[0].items():
        assert (grads[1][n] - grad).norm() <= 1e-4 * grad.norm() + 1e-7, n


def test_hooks_on_parts_are_called():
    block = MetaFormerBlock(8, "Pooling", layer_scale=0.1)
    seen = []
    for name in ("norm1", "token_mixer", "layer_scale1", "norm2", "mlp.act", "layer_scale2"):
        block.get_submodule(name).register_forward_hook(lambda *_, name=name: seen.append(name))
    block(torch.randn(1, 8, 4, 4))
    assert seen == ["norm1", "token_mixer", "layer_scale1", "norm2", "mlp.act", "layer_scale2"]


def test_other_parts_than_built_ones_are_called():
    block = MetaFormerBlock(8, "Pooling", layer_scale=0.1)
    block.layer_scale1 = nn.Sequential(block.layer_scale1, nn.Tanh())
    x = torch.randn(1, 8, 4, 4)
    mixed = block.layer_scale1(block.token_mixer(block.norm1(x)))
    y = x + mixed
    torch.testing.assert_close(block(x), y + block.layer_scale2(block.mlp(block.norm2(y))))


@pytest.mark.parametrize("name", ["poolformer_s12", "convformer_s18"])
def test_runs_on_the_meta_device_and_exports(name):
    with torch.device("meta"):
        model = tiny(name).train()
        loss_of(model, torch.empty(1, 3, 64, 64)).backward()
    assert all(p.grad.is_meta for p in model.parameters())
    model = tiny(name).eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        exported = torch.export.export(model, (x,)).module()(x)
        for out, expected in zip(exported, model(x), strict=True):
            torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)


@every_family
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_model_in_half_precision_drops_paths(name, dtype):
    """All of it in one precision: the factors of drop path must not widen the maps."""
    model = tiny(name, drop_path_rate=0.5).to(dtype).train()
    maps = model(torch.randn(4, 3, 64, 64, dtype=dtype))
    assert all(x.dtype == dtype for x in maps)
    sum(x.float().mean() for x in maps).backward()
    assert all(p.grad.dtype == dtype for p in model.parameters() if p.grad is not None)
