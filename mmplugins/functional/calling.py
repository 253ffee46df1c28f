"""When the short ways are taken, and in which precision they compute."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor


def is_traced() -> bool:
    """Whether a graph is being recorded, in which the plain formulas should stand."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing() or torch.onnx.is_in_onnx_export()


def is_exported() -> bool:
    """Whether a graph is being recorded that leaves this process, as a file for example."""
    exporting = getattr(torch.compiler, "is_exporting", None)  # since PyTorch 2.7
    return torch.onnx.is_in_onnx_export() or (exporting is not None and exporting())


def compute_dtype(x: Tensor) -> torch.dtype:
    """Precision of a convolution of ``x``: autocast's if autocast is on, else that of ``x``."""
    device = x.device.type
    casts = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    return torch.get_autocast_dtype(device) if casts and x.dtype != torch.float64 else x.dtype


def without_autocast(x: Tensor) -> AbstractContextManager:
    """Context in which operations on the device of ``x`` keep the precision they are given."""
    device = x.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()


def by_channel(values: Tensor) -> Tensor:
    """View one value per channel ``[C]`` so that it meets maps ``[N, C, H, W]``."""
    return values.view(-1, 1, 1)


def cast(tensor: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """Bring a tensor to a precision; ``None`` stays ``None``."""
    return None if tensor is None else tensor.to(dtype)


def on_triton(*tensors: Tensor) -> bool:
    """Whether the Triton kernels serve: dense CUDA tensors of one layout, in float32 or half."""
    first = tensors[0]
    return (
        first.is_cuda
        and _has_triton()
        and all(
            t.is_cuda
            and t.dtype in (torch.float32, torch.float16, torch.bfloat16)
            and t.shape == first.shape
            and t.stride() == first.stride()
            and t.is_contiguous(memory_format=memory_format(t))
            for t in tensors
        )
    )


def memory_format(x: Tensor) -> torch.memory_format:
    """The layout of ``x``: channels-last for maps that lie so, else contiguous."""
    if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last):
        return torch.channels_last
    return torch.contiguous_format


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None
