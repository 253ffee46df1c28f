"""Mixed precision without an accelerator."""

import functools
import warnings
from types import ModuleType

from .mend import mend, replaced


@mend("mmengine.optim.optimizer.amp_optimizer_wrapper", needed=lambda module: True)
def amp_on_cpu(module: ModuleType) -> None:
    """``AmpOptimizerWrapper is only available ... on gpu`` from ``--amp`` on a CPU.

    mmengine's own autocast takes bfloat16 on a CPU, and torch's gradient scaler passes losses
    and steps through unscaled there; only the assertion stands in the way.
    """
    wrapper = module.AmpOptimWrapper
    original = wrapper.__init__

    @functools.wraps(original)
    def __init__(self, *args, **kwargs):
        from mmengine.device import get_device

        if get_device() != "cpu":
            return original(self, *args, **kwargs)
        with replaced(module, "is_cuda_available", lambda: True), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*GradScaler")
            return original(self, *args, **kwargs)

    wrapper.__init__ = __init__
