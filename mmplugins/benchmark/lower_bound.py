"""The lower bound of a row: the time of its convolutions, matrix products and attention alone.

One pass of the eager row is watched and every such operation noted, with its shapes and dtype as it
runs (deployed or not, under autocast or not). The lower bound then does nothing but these
operations, as often as the row does, on tensors of the same shapes. What a model does in between,
norms, activations, scales, shortcuts, changes of memory format, is what lies above the bound.

The bound does not depend on the row's memory format: of each operation the fastest of its equal
forms is taken, found by a short trial of each. A convolution runs contiguous or channels-last; a
pointwise one also as a linear layer, and a linear layer also as a pointwise convolution. So forms
of one network have the same bound. Equal operations share their tensors, and biases are applied by
the operation itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from .memory import shape_twin
from .operations import FUSED_ATTENTION
from .stopwatch import Stopwatch, undisturbed
from .subjects import Subject

_aten = torch.ops.aten
_LINEAR = {_aten.mm: 0, _aten.addmm: 1}
_BATCHED = {_aten.bmm: 0, _aten.baddbmm: 1}
_CONVOLUTIONS = (_aten.convolution, _aten._convolution, _aten.cudnn_convolution)

TRIALS = 5
"""Timed runs of each form of an operation, of which the best counts."""


@dataclass(frozen=True)
class Operation:
    """One operation with its shapes.

    Attributes:
        kind: ``'convolution'``, ``'linear'``, ``'product'`` (of batches) or ``'attention'``.
        shapes: Of its inputs; of a linear layer the map ``(N, C, H, W)`` and ``(out, C, 1, 1)``.
        dtype: Of its inputs.
        bias: Whether it has one.
        settings: Stride, padding, dilation, transposed, output padding and groups.
    """

    kind: str
    shapes: tuple[tuple[int, ...], ...]
    dtype: torch.dtype
    bias: bool = False
    settings: tuple[Any, ...] = ()


def operations_of(subject: Subject, images: Tensor) -> Counter[Operation]:
    """The operations of one inference pass of an eager row, and how often each runs.

    Raises:
        ValueError: If the row is compiled.
    """
    if subject.compiled:
        raise ValueError("compiled: operations inside are not seen; watch the eager row")
    try:
        twin, shapes = shape_twin(subject)
        with shapes, _Watch() as watch:
            twin.infer(subject.images(images.shape[-2:], len(images)))
    except RuntimeError:  # PyTorch's word that shapes do not tell what is found: proposals
        fused = torch.backends.mkldnn.flags(enabled=False) if subject.row.deploy else nullcontext()
        with fused, _Watch() as watch:
            subject.infer(images)
    return watch.found


class _Watch(TorchDispatchMode):
    """Notes the operations that run inside."""

    def __init__(self):
        super().__init__()
        self.found: Counter[Operation] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        operation = _noted(func.overloadpacket, args)
        if operation is not None:
            self.found[operation] += 1
        return func(*args, **(kwargs or {}))


def _noted(packet: Any, args: tuple) -> Operation | None:
    if packet in _CONVOLUTIONS:
        x, weight, bias = args[:3]
        shapes = tuple(x.shape), tuple(weight.shape)
        stride, padding, dilation, transposed, out_padding, groups = args[3:9]
        settings = (*map(tuple, (stride, padding, dilation)), transposed, tuple(out_padding))
        plain = max(weight.shape[2:]) == max(stride) == 1 and not any(padding) and groups == 1
        kind = "linear" if plain and not transposed and weight.ndim == 4 else "convolution"
        return Operation(kind, shapes, x.dtype, bias is not None, (*settings, groups))
    if packet in _LINEAR:
        x, weight = args[_LINEAR[packet] :][:2]
        map_shape = 1, x.shape[1], x.shape[0], 1
        one = (1, 1)
        settings = (one, (0, 0), one, False, (0, 0), 1)
        shapes = map_shape, (weight.shape[1], weight.shape[0], 1, 1)
        return Operation("linear", shapes, x.dtype, packet is _aten.addmm, settings)
    if packet in _BATCHED:
        a, b = args[_BATCHED[packet] :][:2]
        return Operation("product", (tuple(a.shape), tuple(b.shape)), a.dtype)
    if packet.__name__.startswith(FUSED_ATTENTION):
        return Operation("attention", tuple(tuple(t.shape) for t in args[:3]), args[0].dtype)
    return None


def forms_of(operation: Operation, device: torch.device) -> dict[str, Callable[[], Any]]:
    """The equal forms of an operation, each on tensors of its own, by name."""

    def filled(shape: tuple[int, ...]) -> Tensor:
        return torch.full(shape, 0.5, dtype=operation.dtype, device=device)

    inputs = [filled(shape) for shape in operation.shapes]
    if operation.kind == "attention":
        return {"attention": lambda: F.scaled_dot_product_attention(*inputs)}
    if operation.kind == "product":
        return {"product": lambda: torch.bmm(*inputs)}
    x, weight = inputs
    transposed, groups = operation.settings[3], operation.settings[5]
    out_channels = weight.shape[1] * groups if transposed else weight.shape[0]
    bias = filled((out_channels,)) if operation.bias else None

    def convolution(x: Tensor, weight: Tensor) -> Callable[[], Any]:
        return lambda: torch.convolution(x, weight, bias, *operation.settings)

    forms = {"contiguous": convolution(x, weight)}
    if x.ndim == 4:
        last = [t.contiguous(memory_format=torch.channels_last) for t in inputs]
        forms["channels_last"] = convolution(*last)
    if operation.kind == "linear":
        rows, matrix = filled((prod(x.shape) // x.shape[1], x.shape[1])), weight.flatten(1)
        forms["linear"] = lambda: F.linear(rows, matrix, bias)
    return forms


class LowerBound:
    """The lower bound of a row at a size, ready to be timed.

    Args:
        operations: As :func:`operations_of` returns them.
        device: Where to run.

    Attributes:
        operations: The operations and how often each runs.
        chosen: The fastest form of each, by name.
    """

    def __init__(self, operations: Counter[Operation], device: torch.device):
        self.operations = operations
        self.chosen: dict[Operation, str] = {}
        self._runs: list[tuple[Callable[[], Any], int]] = []
        watch = Stopwatch(device)
        with torch.no_grad():
            for operation, count in operations.items():
                forms = forms_of(operation, device)
                best = min(forms, key=lambda name: _best_time(forms[name], watch))  # noqa: B023
                self.chosen[operation] = best
                self._runs.append((forms[best], count))

    def run(self, watch: Stopwatch) -> None:
        """Do all operations once, as one lap ``'lower_bound'``."""
        with torch.no_grad():
            for operation, count in self._runs:
                for _ in range(count):
                    operation()
        watch.lap("lower_bound")


def _best_time(run: Callable[[], Any], watch: Stopwatch) -> float:
    times = []
    run()
    for _ in range(TRIALS):
        with undisturbed():
            watch.start()
            run()
            watch.lap("trial")
            times.append(watch.stop()["trial"])
    return min(times)
