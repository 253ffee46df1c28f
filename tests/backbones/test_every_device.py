"""The matrix: every family in every form, layout and precision, at sizes down to 32x32."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import mmplugins
from mmplugins.backbones.catalog import families
from mmplugins.benchmark.gpu_check.matrix import RUNS, SIZES, TOLERANCE, Case, cases, run_case

PACKAGE = Path(mmplugins.__file__).parent
NO_CARD = "needs a CUDA device: run `pytest -m gpu` on a machine with one"
needs_card = pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_CARD)


def test_no_private_operator_is_called():
    """Public functions alone say what they want on every device."""
    # A table for exporters only names operators: `torch.ops.torchvision.nms.default: ...`.
    private = re.compile(
        r"torch\.ops\.(?![\w.]+\.default: )|torch\._C\._nn|native_group_norm|native_layer_norm"
    )
    for room in ("backbones", "deployment"):
        files = list((PACKAGE / room).rglob("*.py"))
        assert files
        assert not [path.name for path in files if private.search(path.read_text())]


def assert_agrees(case: Case, device: str) -> None:
    """Close to float64 at every size, or all gradients finite; farther off, the run raises."""
    found = run_case(case, torch.device(device))
    if case.form == "trained":
        assert found == dict(gradients=1)
    else:
        assert len(found) == len(SIZES) and max(found.values()) <= TOLERANCE[case.precision]


def short_and_long():
    """The matrix on a CPU; the long tests have what two shorter ones say together."""
    for case in cases(("eager",)):
        short = case.precision == "float32" or (
            case.form != "evaluated" and case.memory_format == "channels_last"
        )
        yield pytest.param(case, id=str(case), marks=[] if short else [pytest.mark.slow])


@pytest.mark.parametrize("case", list(short_and_long()))
def test_on_a_cpu(case):
    assert_agrees(case, "cpu")


@pytest.mark.slow
@pytest.mark.parametrize("form", ["trained", "evaluated", "deployed"])
@pytest.mark.parametrize("family", ["poolformerv2", "convformer"])
def test_compiled_on_a_cpu(family, form):
    assert_agrees(Case(family, form, "channels_last", "float32", "compiled"), "cpu")


@pytest.mark.gpu
@needs_card
@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("family", families())
def test_on_a_gpu(family, run):
    wrong = []
    for case in cases((run,)):
        if case.family == family:
            try:
                assert_agrees(case, "cuda")
            except Exception as error:  # all that is wrong is told at once
                wrong.append(f"{case}: {type(error).__name__}: {error}")
    assert not wrong


@pytest.mark.gpu
@needs_card
@torch.no_grad()
def test_cuda_graphs_give_the_same():
    from mmplugins.backbones import PoolFormer

    tiny = dict(depths=(1, 1, 1, 1), dims=(32, 32, 32, 32))
    model = PoolFormer(tiny).cuda().eval()
    images = [torch.randn(1, 3, side, 64, device="cuda") for side in (64, 96, 64)]
    expected = [model(x) for x in images]
    mmplugins.compile_blocks(model, mode="reduce-overhead", backend="eager")
    for x, maps in zip(images, expected, strict=True):
        for out, e in zip(model(x), maps, strict=True):
            torch.testing.assert_close(out, e, rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
@needs_card
@torch.no_grad()
def test_few_large_maps_are_normed_as_by_the_formula():
    from mmplugins.backbones.few_large_maps import are_few_large_maps
    from mmplugins.backbones.layers import GroupNorm1

    norm = GroupNorm1(64).cuda()
    x = torch.randn(2, 64, 128, 128, device="cuda") + 3
    assert are_few_large_maps(x)
    expected = torch.nn.functional.group_norm(x, 1, norm.weight, norm.bias, norm.eps)
    torch.testing.assert_close(norm(x), expected, rtol=1e-4, atol=1e-5)
    with torch.autocast("cuda", torch.bfloat16):
        assert norm(x.bfloat16()).dtype is torch.float32
