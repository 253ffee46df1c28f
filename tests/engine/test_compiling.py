"""Compiled blocks: the same values and gradients, few graphs, and no run that stops for them."""

from __future__ import annotations

import copy
import logging
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_training
import torch
import torch._functorch.config as functorch
from functorch.compile import nop
from mmengine.registry import MODELS
from torch import nn
from torch._dynamo.backends.common import aot_autograd

import mmplugins
from mmplugins.backbones import CAFormer, ConvFormer, ConvNeXt, MetaFormer, PoolFormer, PoolFormerV2
from mmplugins.engine.compiling import (
    TORCH_2_4,
    block_compiler,
    blocks_of,
    cache_folder,
    structure_of,
)

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
TINY = dict(depths=(1, 1, 2, 1), dims=(8, 16, 24, 32))
ATTENTIVE = dict(depths=(1, 1, 1, 1), dims=(8, 16, 32, 32))


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture
def log(monkeypatch):
    """Messages of compiling, by level."""
    lines = []
    monkeypatch.setattr(
        "mmplugins.engine.compiling.print_log",
        lambda text, logger=None, level=logging.INFO: lines.append((level, text)),
    )
    return lines


def gradients(model, x):
    model.zero_grad()
    outs = model(x)
    sum((out.float() * (i + 1)).square().mean() for i, out in enumerate(outs)).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same_gradients(found, expected, rel=1e-5):
    assert found.keys() == expected.keys()
    largest = max(grad.abs().max() for grad in expected.values())
    for name, grad in expected.items():
        assert (found[name] - grad).norm() <= rel * max(grad.norm(), largest), name


def test_blocks_of_any_backbone():
    model = PoolFormer(TINY)
    assert blocks_of(model) == [block for stage in model.stages for block in stage.blocks]
    resnet = MODELS.build(dict(type="mmdet.ResNet", depth=50))
    assert len(blocks_of(resnet)) == 3 + 4 + 6 + 3
    timm = MODELS.build(dict(type="TimmBackbone", model_name="convnext_atto"))
    assert [type(block).__name__ for block in blocks_of(timm)] == ["ConvNeXtBlock"] * 12
    whole = nn.Sequential(nn.Conv2d(3, 4, 1))
    assert blocks_of(whole) == [whole]


def test_blocks_of_one_structure_are_told_by_classes_and_shapes():
    deep = ConvFormer(dict(depths=(1, 1, 3, 1), dims=(8, 8, 16, 16)), drop_path_rate=0.5)
    structures = [structure_of(block) for block in blocks_of(deep)]
    assert structures[2] == structures[4] != structures[1]
    assert structures[0] != structures[1]  # the first has no DropPath, as its rate is 0


def test_names_copies_and_pickles():
    model = PoolFormer(TINY).eval()
    names = list(model.state_dict())
    assert mmplugins.compile_blocks(model, backend="eager") is model
    assert list(model.state_dict()) == names
    assert [n for n, m in model.named_modules() if m._compiled_call_impl] == [
        f"stages.{i}.blocks.{j}" for i, depth in enumerate(TINY["depths"]) for j in range(depth)
    ]
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = model(x)
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert not any(m._compiled_call_impl for m in twin.modules())
            for out, e in zip(twin(x), expected, strict=True):
                torch.testing.assert_close(out, e)


@pytest.mark.parametrize(
    "family",
    [PoolFormer, *(pytest.param(f, marks=pytest.mark.slow) for f in (ConvFormer, ConvNeXt))],
)
def test_few_graphs_for_many_sizes(family):
    """Twenty sizes and five rates of stochastic depth: three graphs at most of a structure."""
    model = family(TINY, drop_path_rate=0.4).train()
    compiler = block_compiler(model, backend="eager")
    random = torch.Generator().manual_seed(0)
    sizes = torch.randint(64, 160, (20, 2), generator=random).tolist()
    for height, width in sizes[:5]:
        gradients(model, torch.randn(2, 3, height, width))
    after_five = compiler.graphs
    structures = {structure_of(block) for block in blocks_of(model)}
    for height, width in sizes[5:]:
        with torch.no_grad():
            model.eval()(torch.randn(2, 3, height, width))
    in_evaluation = compiler.graphs - after_five
    assert 0 < after_five <= 3 * len(structures)
    assert 0 < in_evaluation <= 3 * len(structures)


@pytest.mark.parametrize(
    "way",
    [
        pytest.param("with_cp", marks=pytest.mark.skipif(TORCH_2_4, reason="torch 2.4 cannot")),
        "autocast",
        "drop_path",
    ]
    + [pytest.param(way, marks=pytest.mark.slow) for way in ("frozen", "deployed")],
)
def test_goes_with(way, randomise):
    """The same gradients with what else a training or test may have."""
    settings = dict(with_cp=way == "with_cp", frozen_stages=1 if way == "frozen" else -1)
    settings["out_indices"] = (1, 2)  # convolutions below, attention above
    model = randomise(
        CAFormer(ATTENTIVE, drop_path_rate=0.5 if way == "drop_path" else 0, **settings)
    )
    model.train(way != "deployed")
    if way == "deployed":
        model.switch_to_deploy()
    x = torch.randn(2, 3, 64, 64)
    found = []
    for compiled in (False, True):
        if compiled:
            # The backend "eager" draws random numbers in eager's order.
            block_compiler(model, backend="eager" if way == "drop_path" else "aot_eager")
        torch.manual_seed(0)
        with torch.autocast("cpu", enabled=way == "autocast"):
            found.append(gradients(model, x))
    assert_same_gradients(found[1], found[0], 0.02 if way == "autocast" else 1e-5)


@needs_compiler
@pytest.mark.parametrize(
    "build",
    [
        lambda: PoolFormerV2(TINY, out_indices=(0,), out_norm=None),
        pytest.param(lambda: ConvFormer(TINY, out_indices=(0,)), marks=pytest.mark.slow),
        pytest.param(lambda: CAFormer(ATTENTIVE), marks=pytest.mark.slow),
        pytest.param(lambda: PoolFormer(TINY), marks=pytest.mark.slow),
        pytest.param(lambda: ConvNeXt(TINY), marks=pytest.mark.slow),
    ],
    ids=["poolformerv2", "convformer", "caformer", "poolformer", "convnext"],
)
def test_gradients_are_those_of_eager(build, randomise, log):
    model = randomise(build()).train()
    x = torch.randn(2, 3, 64, 96)
    expected = gradients(model, x)
    compiler = block_compiler(model)
    assert_same_gradients(gradients(model, x), expected)
    assert compiler.graphs > 0 and not compiler.failed and compiler.seconds > 0
    assert not log  # no warning
    assert any(Path(cache_folder()).rglob("*.py"))  # what the next run finds


@needs_compiler
def test_no_compiler_is_one_warning_with_the_remedy(monkeypatch, log):
    import torch._inductor.config as inductor

    monkeypatch.setattr("shutil.which", lambda name: None)
    model = PoolFormer(TINY).train()
    x = torch.randn(2, 3, 65, 64)
    expected = gradients(model, x)
    folder = str(torch.randint(10**9, ()).item())
    with inductor.patch({"cpp.cxx": (f"/no/such/compiler/{folder}",), "fx_graph_cache": False}):
        compiler = block_compiler(model)
        inductor.fx_graph_cache = False
        for _ in range(2):
            assert_same_gradients(gradients(model, x), expected)
    assert compiler.failed
    warnings = [text for level, text in log if level == logging.WARNING]
    assert len(warnings) == 1 and "install g++" in warnings[0]


@pytest.mark.skipif(
    not hasattr(functorch, "force_non_lazy_backward_lowering"), reason="of a newer PyTorch"
)
def test_a_backward_pass_that_cannot_be_compiled_runs_eager(log):
    def fail(graph, inputs):
        raise RuntimeError("no such loop")

    model = PoolFormer(TINY).train()
    x = torch.randn(2, 3, 64, 64)
    expected = gradients(model, x)
    compiler = block_compiler(model, backend=aot_autograd(fw_compiler=nop, bw_compiler=fail))
    for _ in range(2):
        assert_same_gradients(gradients(model, x), expected)
    assert compiler.failed
    warnings = [text for level, text in log if level == logging.WARNING]
    assert len(warnings) == 1 and "no such loop" in warnings[0], warnings


@pytest.mark.slow
@needs_compiler
def test_frozen_weights_give_the_same_maps(randomise, log):
    model = randomise(CAFormer(ATTENTIVE)).eval().switch_to_deploy()
    sizes = [torch.randn(1, 3, 64, 96), torch.randn(1, 3, 96, 64)]
    with torch.no_grad():
        expected = [model(x) for x in sizes]
        compiler = block_compiler(model, freeze=True)
        for x, maps in zip(sizes, expected, strict=True):
            for out, e in zip(model(x), maps, strict=True):
                torch.testing.assert_close(out, e, rtol=1e-4, atol=1e-5 * e.abs().max().item())
    assert compiler.graphs == len(sizes) and not log  # each of the whole backbone


def test_models_in_one_process_do_not_meet():
    """Widths of another model must not look like widths that change."""
    x = torch.randn(1, 3, 64, 64)
    for dims in ((8, 16, 24, 32), (16, 24, 32, 40)):
        seen = []

        def note(graph, inputs, seen=seen):
            seen.extend(value for value in inputs if not isinstance(value, torch.Tensor))
            return graph.forward

        model = PoolFormer(dict(TINY, dims=dims))
        block_compiler(model, backend=note)
        model(x)
        assert not seen  # no size is an argument of a graph


def test_what_the_compiler_cannot_take_runs_eager(log):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x):
            return self.conv(x) + float(torch.ones(1).numpy().sum())

    model = nn.Module()
    model.backbone = nn.Sequential(Odd(), Odd())
    compiler = block_compiler(model, backend="no such backend")
    x = torch.randn(1, 3, 4, 4)
    expected = model.backbone[1]._call_impl(model.backbone[0]._call_impl(x))
    torch.testing.assert_close(model.backbone(x), expected)
    assert compiler.failed
    assert [level for level, _ in log].count(logging.WARNING) == 1


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        (nn.Linear(1, 1), {}, "Linear has no part called backbone"),
        (PoolFormer(TINY), dict(memory_budget=2), "memory_budget=2: expected a share from 0 to 1"),
        (PoolFormer(TINY), dict(mode="fast"), "mode='fast': expected None or one of default"),
        (PoolFormer(TINY), dict(freeze=True), "freeze=True .* deploy the model first"),
        (
            PoolFormer(TINY).eval().switch_to_deploy(),
            dict(freeze=True, dynamic=True),
            "freeze=True and dynamic=True",
        ),
    ],
)
def test_wrong_arguments_are_named(model, settings, message):
    with pytest.raises(ValueError, match=message):
        mmplugins.compile_blocks(model, **settings)


def test_torch_2_4_and_activation_checkpointing(monkeypatch):
    monkeypatch.setattr("mmplugins.engine.compiling.TORCH_2_4", True)
    with pytest.raises(ValueError, match="with_cp=True and compiled blocks: .* leave with_cp out"):
        mmplugins.compile_blocks(PoolFormer(TINY, with_cp=True))


@needs_compiler
@pytest.mark.slow
def test_a_lower_budget_keeps_less(randomise):
    """Bytes kept for the backward pass, against eager's."""

    def kept(model):
        parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
        storages = {}

        def pack(tensor):
            storages[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            outs = model(torch.randn(2, 3, 128, 128))
        del outs
        return sum(
            t.untyped_storage().nbytes() for at, t in storages.items() if at not in parameters
        )

    model = randomise(MetaFormer(**TINY, token_mixers="SepConv", mlp_act="StarReLU")).train()
    eager = kept(model)
    shares = []
    for budget in (1.0, 0.5, 0.0):
        torch._dynamo.reset()
        block_compiler(model, budget)
        shares.append(kept(model) / eager)
    assert shares[2] <= shares[1] <= 0.65 and shares[1] < shares[0] < 1


@pytest.mark.slow
def test_two_processes():
    script = Path(__file__).parent / "compiled_in_two_processes.py"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*launcher, "--nproc_per_node", "2", str(script)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert ended.stdout.count("the same gradients") == 2


@pytest.mark.slow
@needs_compiler
def test_resumed_and_averaged_as_without_interruption(tmp_path, monkeypatch):
    """Half the way, then the rest from the checkpoint: the same bits, raw and averaged."""
    monkeypatch.chdir(tmp_path)
    hooks = 'custom_hooks = [dict(type="CompileBackboneHook"), dict(type="EMAHook", momentum=0.5)]'
    whole = tiny_training.train(tmp_path, "detector", hooks).checkpoint
    cfg = tiny_training.read_config(tmp_path, "detector", hooks)
    cfg.work_dir = str(tmp_path / "again")
    cfg.train_cfg.max_iters = 6
    cfg.default_hooks.checkpoint.interval = 6
    tiny_training.build_runner(cfg).train()
    cfg.train_cfg.max_iters = tiny_training.STEPS
    cfg.resume = True
    tiny_training.build_runner(cfg).train()
    file = tmp_path / "again" / f"iter_{tiny_training.STEPS}.pth"
    again = torch.load(file, weights_only=False)
    for part in ("state_dict", "ema_state_dict"):
        assert again[part].keys() == whole[part].keys()
        for key, value in whole[part].items():
            assert torch.equal(again[part][key], value), key
