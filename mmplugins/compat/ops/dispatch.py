"""Rules that all ops share: which kernel runs, in which precision, under which modes."""

import contextlib
import functools
from collections.abc import Callable

import torch
from torch import Tensor

# Imported when the stand-in loads, as the import registers torch.ops.torchvision.*: inside a jit
# trace it would fail. A torchvision built for another torch raises RuntimeError or OSError.
with contextlib.suppress(ImportError, OSError, RuntimeError, AttributeError):
    import torchvision  # noqa: F401


def torchvision_kernel(name: str, device: torch.device) -> Callable | None:
    """Look up a torchvision operator.

    Args:
        name: Operator name in the ``torchvision`` namespace, for example ``"roi_align"``.
        device: Device of the tensors it is to run on.

    Returns:
        The operator, or None where torchvision did not load or has no kernel for the device (a
        CPU build of torchvision beside CUDA tensors): the caller then takes its plain-torch path.
    """
    try:
        operator = getattr(torch.ops.torchvision, name).default
        key = getattr(torch._C.DispatchKey, device.type.upper())
    except AttributeError:
        return None
    return operator if operator.has_kernel_for_dispatch_key(key) else None


def widen(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Bring tensors to one floating type of at least 32 bits.

    Half types have too few digits for coordinates and sums, and torchvision wants equal types.
    Results go back through ``copy_`` or ``+=`` into the caller's buffer, which casts them.

    Args:
        tensors: Any number of tensors, each of any shape and type.

    Returns:
        The same tensors in float32, or in float64 if any of them has it.
    """
    dtype = functools.reduce(torch.promote_types, (t.dtype for t in tensors), torch.float32)
    return tuple(t.to(dtype) for t in tensors)


def extension_op(function: Callable) -> Callable:
    """Run an op as a compiled one runs: unseen by autograd, untouched by autocast.

    The gradients are mmcv's business (its ``autograd.Function`` classes call the backward ops);
    autocast would bring the matrix products of the plain-torch paths back to half precision.

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
