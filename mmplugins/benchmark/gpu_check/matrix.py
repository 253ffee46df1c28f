"""Every family in every form, memory format, precision and size: what runs, and how exact it is."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from mmplugins.backbones.catalog import families
from mmplugins.engine.compiling import compile_blocks

from ..models import show_every_part

SMALL = dict(depths=(1, 1, 1, 1), dims=(32, 32, 64, 64))
FORMS = ("trained", "evaluated", "deployed")
MEMORY_FORMATS = ("contiguous", "channels_last")
PRECISIONS = ("float32", "bfloat16", "float16", "autocast")
RUNS = ("eager", "compiled")
SIZES = ((32, 32), (33, 47), (97, 131))
TOLERANCE = dict(float32=1e-4, bfloat16=0.1, float16=0.03, autocast=0.1)
"""Largest difference from float64, relative to the largest value of a map."""


@dataclass(frozen=True)
class Case:
    """One cell of the matrix; see the constants of this module for the values."""

    family: str
    form: str
    memory_format: str
    precision: str
    run: str

    def __str__(self) -> str:
        return " ".join((self.family, self.form, self.memory_format, self.precision, self.run))


def cases(runs: tuple[str, ...] = RUNS, of: Iterable[str] = ()) -> Iterator[Case]:
    """All cells of some families, or of all; eager ones first."""
    for run, family, form, memory_format, precision in product(
        runs, of or families(), FORMS, MEMORY_FORMATS, PRECISIONS
    ):
        yield Case(family, form, memory_format, precision, run)


def run_case(case: Case, device: torch.device) -> dict[str, float]:
    """Run a cell at every size, and compare it with float64 on the CPU.

    Returns:
        The largest relative difference by size, as ``{'32x32': 1e-6, ...}``; in training also
        ``gradients``, the part of the parameters whose gradient is finite.

    Raises:
        ArithmeticError: If a value is not finite or too far off.
        Exception: Whatever the network itself raises.
    """
    model = copy.deepcopy(_reference(case.family)).float()
    model.train(case.form == "trained")
    if case.form == "deployed":
        model.switch_to_deploy()
    dtype = torch.float32 if case.precision == "autocast" else getattr(torch, case.precision)
    memory_format = getattr(torch, f"{case.memory_format}_format", torch.channels_last)
    model = model.to(device, dtype).to(memory_format=memory_format)
    if case.run == "compiled":
        torch._dynamo.reset()
        compile_blocks(model)
    with full_float32():
        return _run_sizes(case, device, model, dtype, memory_format)


@contextmanager
def full_float32() -> Iterator[None]:
    """Products and convolutions of float32 without TF32, which PyTorch uses for the latter."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def _run_sizes(
    case: Case, device: torch.device, model: nn.Module, dtype: torch.dtype,
    memory_format: torch.memory_format,
) -> dict[str, float]:  # fmt: skip
    found = {}
    for size in SIZES:
        x = _images(size)
        given = x.to(device, dtype).contiguous(memory_format=memory_format)
        with torch.set_grad_enabled(case.form == "trained"), _autocast(case, device):
            maps = model(given)
        if case.form != "trained":  # in training, batch norms take the batch's own statistics
            name = "{}x{}".format(*size)
            found[name] = _difference(maps, _expected(case.family, size))
            if not found[name] <= TOLERANCE[case.precision]:
                raise ArithmeticError(f"{name}: {found[name]:.1e} off float64")
    if case.form == "trained":
        sum(m.float().square().mean() for m in maps).backward()
        grads = [p.grad for p in model.parameters() if p.requires_grad]
        finite = [grad is not None and bool(grad.isfinite().all()) for grad in grads]
        found["gradients"] = sum(finite) / len(finite)
        if found["gradients"] < 1:
            raise ArithmeticError("a gradient is missing or not finite")
    return found


def _autocast(case: Case, device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=case.precision == "autocast")


@cache
def _reference(family: str) -> nn.Module:
    model = MODELS.get(families()[family].__name__)(SMALL).double().eval()
    return show_every_part(model)


@cache
def _images(size: tuple[int, int]) -> Tensor:
    return torch.randn(2, 3, *size, dtype=torch.double, generator=torch.Generator().manual_seed(1))


@cache
@torch.no_grad()
def _expected(family: str, size: tuple[int, int]) -> tuple[Tensor, ...]:
    return _reference(family)(_images(size))


def _difference(maps: Any, expected: tuple[Tensor, ...]) -> float:
    differences = [
        ((m.double().cpu() - e).abs().max() / e.abs().max()).item()
        for m, e in zip(maps, expected, strict=True)
    ]
    return max(differences) if all(d == d for d in differences) else float("nan")
