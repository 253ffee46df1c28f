"""Rules of all ops: which kernel runs, in which precision, and under which modes."""

import contextlib
import functools
from collections.abc import Callable

import torch
from torch import Tensor

# The import registers torch.ops.torchvision.*. It stands here because it would fail inside a jit
# trace. A torchvision that was built for another torch raises RuntimeError or OSError.
with contextlib.suppress(ImportError, OSError, RuntimeError, AttributeError):
    import torchvision  # noqa: F401


def torchvision_kernel(name: str, device: torch.device) -> Callable | None:
    """Look up a torchvision operator.

    Args:
        name: Operator name in the ``torchvision`` namespace, for example ``"roi_align"``.
        device: Device of the tensors it is to run on.

    Returns:
        The operator. None if torchvision did not load, or has no kernel for the device, as a CPU
        build has none for CUDA tensors. The caller then takes its path in plain torch.
    """
    try:
        operator = getattr(torch.ops.torchvision, name).default
        key = getattr(torch._C.DispatchKey, device.type.upper())
    except AttributeError:
        return None
    return operator if operator.has_kernel_for_dispatch_key(key) else None


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
