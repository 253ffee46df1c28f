"""Comparison of a function and its gradients with a plain formula."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

Function = Callable[..., Tensor]


def gradients_of(function: Function, inputs: list[Tensor | None]) -> tuple[Tensor, list[Tensor]]:
    """Result, and the gradients of a fixed mixture of it for all inputs that need one."""
    inputs = [i if i is None else i.detach().requires_grad_(i.requires_grad) for i in inputs]
    result = function(*inputs)
    mixture = torch.linspace(0, 2, result.numel()).cos().bfloat16().view(result.shape)
    wanted = [i for i in inputs if i is not None and i.requires_grad]
    return result, list(torch.autograd.grad((result * mixture.to(result.dtype)).sum(), wanted))


def distance(actual: Tensor, expected: Tensor) -> float:
    """Euclidean length of the difference, relative to that of ``expected``."""
    return float((actual.double() - expected).detach().norm() / expected.detach().norm())


def assert_same_function_(function: Function, formula: Function, inputs: list) -> None:
    """Same results and gradients as a plain formula, whatever the layout and precision.

    In float64 to 1e-10, beside PyTorch's numerical check. In float32 to 1e-5. A bfloat16 value is
    itself off by up to 2**-8 = 4e-3, so results and gradients in it are held to twice that, as
    distance from what float64 makes of the same inputs; or, where terms cancel in a sum, to twice
    the distance of the formula in bfloat16.
    """
    inputs = [None if i is None else i.double().requires_grad_(i.requires_grad) for i in inputs]
    assert gradcheck(function, inputs)
    expected = gradients_of(formula, inputs)
    exact = [expected[0], *expected[1]]
    for layout in (torch.contiguous_format, torch.channels_last):
        placed = [
            i.detach().contiguous(memory_format=layout).requires_grad_(i.requires_grad)
            if i is not None and i.ndim == 4 and i.shape[-1] > 1 else i for i in inputs
        ]  # fmt: skip
        for dtype, bound in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
            given = [
                None if i is None else i.to(dtype).detach().requires_grad_(i.requires_grad)
                for i in placed
            ]
            result, grads = gradients_of(function, given)
            assert result.is_contiguous(memory_format=layout)
            assert result.dtype == dtype and all(g.dtype == dtype for g in grads)
            for a, e in zip([result, *grads], exact, strict=True):
                assert distance(a, e) < bound
        half = [
            None if i is None else i.bfloat16().detach().requires_grad_(i.requires_grad)
            for i in placed
        ]
        rounded = [None if i is None else i.double().requires_grad_(i.requires_grad) for i in half]
        truth = gradients_of(formula, rounded)
        (result, grads), (plain, plain_grads) = (gradients_of(f, half) for f in (function, formula))
        triples = zip([result, *grads], [plain, *plain_grads], [truth[0], *truth[1]], strict=True)
        for a, p, e in triples:
            assert a.dtype == torch.bfloat16
            assert distance(a, e) <= max(2**-7, 2 * distance(p, e))


def assert_twice_fails_(function: Function, inputs: list) -> None:
    """The second derivative is refused, not computed wrongly."""
    inputs = [None if i is None else i.detach().requires_grad_() for i in inputs]
    (grad,) = torch.autograd.grad(function(*inputs).square().sum(), inputs[0], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def bytes_saved_(function: Function, *inputs: Tensor) -> int:
    """Bytes kept for the backward pass beside parameters, each storage counted once."""
    parameters = {i.untyped_storage().data_ptr() for i in inputs if i.ndim < 4 or i.shape[-1] < 8}
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        function(*inputs)
    return sum(t.untyped_storage().nbytes() for at, t in kept.items() if at not in parameters)


@pytest.fixture
def assert_same_function():
    """Function that compares results and gradients with a formula's."""
    return assert_same_function_


@pytest.fixture
def assert_twice_fails():
    """Function that sees to it that a second derivative is refused."""
    return assert_twice_fails_


@pytest.fixture
def bytes_saved():
    """Function that counts what a function keeps for the backward pass."""
    return bytes_saved_


@pytest.fixture
def random():
    """Function that draws an input which needs a gradient."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).requires_grad_()

    return draw
