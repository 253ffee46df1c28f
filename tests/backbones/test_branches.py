"""Halves of a block in few passes: same function, fewer bytes, no copies, no graph breaks."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from mmengine.registry import MODELS
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from mmplugins.backbones import backbone_config, build_backbone
from mmplugins.backbones.layers import Scale
from mmplugins.backbones.metaformer import MetaFormerBlock

FAMILIES = [
    "poolformer_s12", "poolformerv2_s12", "convformer_s18", "caformer_s18", "riformer_s12",
    "convnext_tiny", "smlpnet_t",
]  # fmt: skip
TINY = dict(depths=(1, 1, 2, 1), dims=(32, 32, 32, 64))
every_family = pytest.mark.parametrize("name", FAMILIES)


def tiny(name, **settings):
    return MODELS.build(backbone_config(name) | dict(arch=TINY) | settings)


def hook_everything(model):
    """Make every block take its formulas word by word, module by module."""
    for module in model.modules():
        if not list(module.children()) or isinstance(module, Scale):
            module.register_forward_hook(lambda *_: None)
    return model


def loss_of(model, x):
    return sum(out.square().mean() for out in model(x))


def kept_by(model, x):
    """Bytes kept for the backward pass beside the parameters, each storage counted once."""
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor  # alive, so that no address is reused
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss_of(model, x)
    return sum(t.untyped_storage().nbytes() for at, t in kept.items() if at not in parameters)


@every_family
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_training_step_is_that_of_the_formulas(name, memory_format, randomise, assert_close):
    fused = randomise(tiny(name, drop_path_rate=0.4)).train()
    fused = fused.to(memory_format=memory_format)
    plain = hook_everything(copy.deepcopy(fused))
    x = torch.randn(3, 3, 70, 96).contiguous(memory_format=memory_format)
    results = []
    for model in (fused, plain):
        torch.manual_seed(0)  # the same branches are dropped
        loss = loss_of(model, x)
        loss.backward()
        results.append((loss, {n: p.grad for n, p in model.named_parameters()}))
    (loss, grads), (plain_loss, plain_grads) = results
    assert_close(loss.detach(), plain_loss.detach())
    for n, grad in grads.items():
        if plain_grads[n] is None:
            assert grad is None
        elif not n.endswith("norm1.bias") or grad.any():  # before pooling, exactly zero
            assert (grad - plain_grads[n]).norm() <= 1e-4 * plain_grads[n].norm() + 1e-7, n


@pytest.mark.parametrize(
    ("name", "share"),
    [
        ("poolformer_s12", 0.6), ("poolformerv2_s12", 0.55), ("convformer_s18", 0.6),
        ("caformer_s18", 0.65), ("convnext_tiny", 0.7),
    ],
)  # fmt: skip
def test_keeps_fewer_bytes_than_timm(name, share):
    ours = build_backbone(name, out_norm=None).train()
    theirs = timm.create_model(name, features_only=True).train()
    x = torch.randn(1, 3, 128, 128)
    assert kept_by(ours, x) <= share * kept_by(theirs, x)


@pytest.mark.parametrize(
    ("settings", "maps"),
    [
        # in units of a map: inputs of both norms, the MLP's input and hidden map
        (dict(token_mixer="Pooling", layer_scale=0.1), 1 + 1 + 1 + 4),
        # also normed input; 2 + 2 in the wider mixer; output for res scales is the norms' input
        (dict(token_mixer="SepConv", norm1="LN", norm2="LN", mlp_act="StarReLU", res_scale=1.0),
         1 + 1 + 2 + 2 + 1 + 1 + 4),
    ],
)  # fmt: skip
def test_bytes_kept_by_a_block(settings, maps, randomise):
    block = randomise(MetaFormerBlock(32, **settings)).train()
    x = torch.randn(2, 32, 16, 16).contiguous(memory_format=torch.channels_last).requires_grad_()
    parameters = {p.untyped_storage().data_ptr() for p in block.parameters()}
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        block(x)
    saved = sum(t.untyped_storage().nbytes() for at, t in kept.items() if at not in parameters)
    assert saved <= 1.05 * maps * x.numel() * 4  # the rest: statistics by position or image


class Copies(TorchDispatchMode):
    """Counts the operators that do nothing but copy a map of some size."""

    def __init__(self, least):
        super().__init__()
        self.least, self.found = least, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in ("clone", "copy_", "_to_copy") and out.numel() >= self.least:
            self.found.append((name, tuple(out.shape)))
        return out


@pytest.mark.parametrize(
    ("name", "by_design"),
    [
        ("poolformer_s12", 0), ("poolformerv2_s12", 0), ("riformer_s12", 0),
        # the kernel gradients of 7x7 depthwise convolutions read input and gradient by channel
        ("convformer_s18", 2 * 5), ("caformer_s18", 2 * 2), ("convnext_tiny", 2 * 5),
    ],
)  # fmt: skip
def test_no_map_is_copied(name, by_design, randomise):
    """Channels-last: forward and backward, from gradients in the layout of the outputs."""
    model = randomise(tiny(name, out_norm=None)).train()
    model = model.to(memory_format=torch.channels_last)
    x = torch.randn(2, 3, 128, 128).contiguous(memory_format=torch.channels_last)
    weights = max(p.numel() for p in model.parameters())
    with Copies(least=min(weights, 2 * 64 * 4 * 4) + 1) as copies:
        outs = model(x)
        torch.autograd.backward(outs, [torch.ones_like(out) for out in outs])
    maps = [shape for _, shape in copies.found if shape[0] == 2 and len(shape) == 4]
    assert len(maps) <= by_design, maps


@pytest.mark.parametrize("name", ["poolformer_s12", "convformer_s18", "convnext_tiny"])
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
