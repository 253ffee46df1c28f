"""Mixed precision without an accelerator."""

import functools
import warnings
from types import ModuleType

from .patch import patch, rebind, replaced


@patch("mmengine.optim.optimizer.amp_optimizer_wrapper", needed=lambda module: True)
def amp_on_cpu(module: ModuleType) -> None:
    """``AmpOptimizerWrapper is only available ... on gpu`` from ``--amp`` on a CPU.

    mmengine's own autocast takes bfloat16 on a CPU, and torch's gradient scaler passes losses
    and steps through unscaled there; only the assertion stands in the way. float16 needs scaled
    losses on a CPU as well, which a scaler made for the CPU does.
    """
    wrapper = module.AmpOptimWrapper
    original = wrapper.__init__

    @functools.wraps(original)
    def __init__(self, *args, **kwargs):
        from mmengine.device import get_device

        if get_device() != "cpu":
            return original(self, *args, **kwargs)
        import torch

        scaler = module.GradScaler
        if kwargs.get("dtype") in ("float16", torch.float16) and hasattr(torch.amp, "GradScaler"):
            scaler = functools.partial(torch.amp.GradScaler, "cpu")
        with (
            replaced(module, "GradScaler", scaler),
            replaced(module, "is_cuda_available", lambda: True),
            warnings.catch_warnings(),
        ):
            warnings.filterwarnings("ignore", message=".*GradScaler")
            return original(self, *args, **kwargs)

    wrapper.__init__ = __init__


@patch("mmengine.runner.amp", needed=lambda module: True)
def half_precision_on_cpu(module: ModuleType) -> None:
    """``In CPU autocast, only support torch.bfloat16``, though torch has float16 there, too."""
    original = module.autocast

    @functools.wraps(original)
    def autocast(device_type=None, dtype=None, enabled=True, cache_enabled=None):
        import torch
        from mmengine.device import get_device

        if dtype is torch.float16 and (device_type or get_device()) == "cpu":
            return torch.autocast("cpu", dtype, enabled, cache_enabled)
        return original(device_type, dtype, enabled, cache_enabled)

    rebind(module, "autocast", autocast)
