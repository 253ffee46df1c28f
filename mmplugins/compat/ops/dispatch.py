"""Rules of all ops: where kernels come from, in which precision they run, and under which modes."""

import functools
from collections.abc import Callable

import torch
import torchvision  # noqa: F401  (registers the kernels, and here as it fails inside a jit trace)
from torch import Tensor

KERNELS = torch.ops.torchvision
"""torchvision's operators, in the form that is closest to mmcv's: forward and backward apart."""


def widen(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Bring tensors to one floating type of at least 32 bits.

    Half types have too few digits for coordinates and sums, and torchvision wants equal types. The
    caller writes results by ``copy_`` or ``+=``, which cast them back.

    Args:
        tensors: Any number of tensors, each of any shape and type.

    Returns:
        The same tensors in float32, or in float64 if any of them has it.
    """
    dtype = functools.reduce(torch.promote_types, (t.dtype for t in tensors), torch.float32)
    return tuple(t.to(dtype) for t in tensors)


def extension_op(function: Callable) -> Callable:
    """Run an op without autograd and autocast, as a compiled op runs.

    mmcv computes gradients itself: its ``autograd.Function`` classes call the backward ops.
    Autocast would run the matrix products of the plain-torch paths in half precision.

    Args:
        function: The op; at least one of its arguments is a tensor.

    Returns:
        The op with its name, docstring and signature.
    """

    @functools.wraps(function)
    def run(*args, **kwargs):
        tensor = next(v for v in (*args, *kwargs.values()) if isinstance(v, Tensor))
        with torch.no_grad(), torch.autocast(tensor.device.type, enabled=False):
            return function(*args, **kwargs)

    return run
