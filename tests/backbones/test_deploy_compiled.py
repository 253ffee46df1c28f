"""Deploy forms under torch.compile: one graph, the same result, fused convolutions kept."""

from __future__ import annotations

import shutil

import pytest
import torch
from mmengine.utils import digit_version
from small_backbones import build, every_backbone
from torch import nn

from mmplugins.backbones import PoolFormer
from mmplugins.backbones.fused_conv import FusedConv2d
from mmplugins.functional import inference_conv

needs_fused = pytest.mark.skipif(
    not inference_conv.fused_kernels(), reason="this build of PyTorch has no fused kernels"
)
OWN = {torch.ops.mmplugins.fused_conv2d.default: 1, torch.ops.mmplugins.pointwise_pair.default: 2}
"""Operators of this package, and how many convolutions each is."""


@needs_fused
@every_backbone
@torch.no_grad()
def test_one_graph_of_fused_operators(name, randomise, assert_close):
    model = randomise(build(name)).eval().switch_to_deploy()
    torch._dynamo.reset()
    graphs = []

    def watched(graph, inputs):
        graphs.append(graph)
        return torch._dynamo.lookup_backend("aot_eager")(graph, inputs)

    x = torch.randn(1, 3, 97, 128)
    compiled = torch.compile(model, backend=watched, fullgraph=True, dynamic=False)
    for out, e in zip(compiled(x), model(x), strict=True):
        assert_close(out, e)
    operators = [node.target for node in graphs[0].graph.nodes if node.op == "call_function"]
    fused = sum(isinstance(module, FusedConv2d) for module in model.modules())
    assert sum(OWN.get(operator, 0) for operator in operators) == fused
    assert not {torch.conv2d, nn.functional.conv2d} & set(operators)


@needs_fused
@torch.no_grad()
@pytest.mark.parametrize("name", ["poolformerv2_s12", "convformer_s18", "smlpnet_t"])
def test_one_graph_for_all_sizes(name, randomise, assert_close):
    """Of sMLPNet, for all on one side of the training size, where resampling changes its form."""
    if name == "smlpnet_t" and digit_version(torch.__version__) < digit_version("2.6"):
        pytest.skip("torch 2.4 reasons about the sizes of resampling without end")
    model = randomise(build(name)).eval().switch_to_deploy()
    torch._dynamo.reset()
    graphs = []

    def watched(graph, inputs):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(model, backend=watched, fullgraph=True, dynamic=True)
    for size in [(160, 192), (192, 160), (96, 128)]:
        x = torch.randn(1, 3, *size)
        for out, e in zip(compiled(x), model(x), strict=True):
            assert_close(out, e)
    assert len(graphs) == 1


@needs_fused
def test_gradients_take_the_plain_way(randomise, assert_close):
    model = randomise(build("poolformer_s12")).eval().switch_to_deploy()
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    x = torch.randn(1, 3, 64, 64, requires_grad=True)
    (expected,) = torch.autograd.grad(model(x)[-1].square().sum(), x)
    (grad,) = torch.autograd.grad(compiled(x)[-1].square().sum(), x)
    assert_close(grad, expected, rel=1e-4)


@needs_fused
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
@torch.no_grad()
def test_inductor(randomise, assert_close):
    """PyTorch's own compiler; new weights are seen without compiling again."""
    model = PoolFormer(dict(depths=(1, 1, 1, 1), dims=(16, 16, 16, 16)), out_indices=(0, 1))
    model = randomise(model).eval().switch_to_deploy()
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, dynamic=False)
    x = torch.randn(1, 3, 64, 96)
    for factor in (1.0, 0.5):
        for parameter in model.parameters():
            parameter.mul_(factor)
        for out, e in zip(compiled(x), model(x), strict=True):
            assert_close(out, e)
