"""Peak memory of inference and of a training step, and what is kept for the backward pass.

On a GPU the peak is that of PyTorch's allocator. On a CPU, PyTorch keeps no account, and what the
system counts depends on what ran before; so the tensors are counted: after each operation the bytes
of all tensors alive (weights, images, gradients, optimiser state and maps; memory that two tensors
share counts once), of which the largest sum is the peak. What a kernel allocates for itself while
it runs is not seen, nor are weights in a library's own packed form. Shapes alone run through the
model where they tell all, so nothing is allocated, and a row that would not fit is found before the
system ends the whole program. Deployed rows, whose kernels want real data, and detectors with
proposals run for real.
"""

from __future__ import annotations

import contextlib
import copy
import gc
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from .subjects import Subject

COUNTED, ALLOCATOR = "live tensors", "allocator"
"""How a peak was found."""


@dataclass(frozen=True)
class Memory:
    """Memory of a row at a size and batch, in bytes.

    Attributes:
        peak: Largest sum over the pass, weights and images included.
        saved: What autograd keeps for the backward pass, weights not included; 0 at inference
            and of compiled rows. Tensors that an operation hides in its own context are not seen.
        method: ``'live tensors'`` or ``'allocator'``.
    """

    peak: int
    saved: int
    method: str


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors alive, among those given and those made inside.

    Args:
        held: Tensors alive from the start.

    Attributes:
        now: Bytes alive.
        peak: The most there were.
    """

    def __init__(self, held: Iterable[Tensor] = ()):
        super().__init__()
        self.now = self.peak = 0
        self._sizes: dict[int, int] = {}
        for tensor in held:
            self.add(tensor)

    def add(self, tensor: Tensor) -> Tensor:
        """Take a tensor's memory into account, until it is freed."""
        if tensor.layout != torch.strided:  # packed by a library, which does not tell its size
            return tensor
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self.now += self._sizes[key]
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._freed, key)
        return tensor

    def _freed(self, key: int) -> None:
        self.now -= self._sizes.pop(key)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        tree_map_only(Tensor, self.add, out)
        return out


class SavedBytes(saved_tensors_hooks):
    """Counts the bytes that autograd saves inside, each piece of memory once.

    Args:
        apart: Tensors, such as weights, that do not count.
    """

    def __init__(self, apart: Iterable[Tensor] = ()):
        self._apart = {tensor.untyped_storage()._cdata for tensor in apart}
        self._sizes: dict[int, int] = {}
        super().__init__(self._pack, lambda saved: saved)

    @property
    def total(self) -> int:
        """Bytes saved."""
        return sum(self._sizes.values())

    def __enter__(self) -> SavedBytes:
        super().__enter__()
        return self

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._apart:
            self._sizes[storage._cdata] = storage.nbytes()
        return tensor.detach()


def inference_memory(subject: Subject, size: tuple[int, int], batch: int) -> Memory:
    """Memory of one inference pass of a row; of a compiled one on a GPU only.

    Raises:
        ValueError: If the row is compiled, and not on a GPU.
        MemoryError: If the row would need more than the machine has free (CPU).
    """
    return _memory(subject, size, batch, lambda twin, images: (twin.infer(images), 0)[1])


def training_memory(subject: Subject, size: tuple[int, int], batch: int) -> Memory:
    """Memory of a training step with AdamW, once that has its state; compiled on a GPU only.

    Raises:
        ValueError: If the row is deployed, or is compiled and not on a GPU.
        MemoryError: If the row would need more than the machine has free (CPU).
    """

    def steps(twin: Subject, images: Tensor) -> int:
        optimizer = twin.optimizer()
        for _ in range(2):  # the first makes the optimiser's state
            saved = SavedBytes(_held(twin.model))
            # A hook would be compiled too.
            with contextlib.nullcontext() if twin.compiled else saved:
                loss = twin.loss(images)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return saved.total

    with subject.training():
        return _memory(subject, size, batch, steps)


def _memory(
    subject: Subject,
    size: tuple[int, int],
    batch: int,
    run: Callable[[Subject, Tensor], int],
) -> Memory:
    if subject.device.type == "cuda":
        return _allocated(subject, size, batch, run)
    if subject.compiled:
        raise ValueError("compiled: tensors inside are not seen; count the eager row")
    if subject.row.deploy:
        return _counted(subject, size, batch, run)
    try:
        twin, shapes = shape_twin(subject)
        with shapes:
            memory = _counted(twin, size, batch, run)
    except RuntimeError:  # shapes do not tell what is found: proposals, matched boxes
        return _counted(subject, size, batch, run)
    free = available_bytes()
    if free is not None and memory.peak > free:
        raise MemoryError(
            f"a peak of {memory.peak / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free"
        )
    return memory


def _counted(subject, size, batch, run) -> Memory:
    images = subject.images(size, batch)
    gc.collect()
    with LiveBytes([*_held(subject.model), images]) as live:
        saved = run(subject, images)
    return Memory(live.peak, saved, COUNTED)


def _allocated(subject, size, batch, run) -> Memory:
    release(subject.device)
    images = subject.images(size, batch)
    own = sum(tensor.untyped_storage().nbytes() for tensor in [*_held(subject.model), images])
    before = torch.cuda.memory_allocated(subject.device)
    torch.cuda.reset_peak_memory_stats(subject.device)
    saved = run(subject, images)
    torch.cuda.synchronize(subject.device)
    peak = torch.cuda.max_memory_allocated(subject.device)
    return Memory(peak - before + own, saved, ALLOCATOR)  # other rows' weights are there too


def _held(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


def shape_twin(subject: Subject) -> tuple[Subject, FakeTensorMode]:
    """A copy of a row whose weights have shapes and no data, and the mode to run it in."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    memo: dict[int, Any] = {}
    for tensor in _held(subject.model):
        twin = mode.from_tensor(tensor.detach())
        if isinstance(tensor, nn.Parameter):
            twin = nn.Parameter(twin, tensor.requires_grad)
        memo[id(tensor)] = twin
    subject = copy.copy(subject)
    subject.model = copy.deepcopy(subject.model, memo)
    return subject, mode


def available_bytes() -> int | None:
    """Memory that the system has free, or None where it does not say."""
    table = Path("/proc/meminfo")
    if not table.is_file():
        return None
    for line in table.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def release(device: torch.device) -> None:
    """Give back what is no longer used, after a failure."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
