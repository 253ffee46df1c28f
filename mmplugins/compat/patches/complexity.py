"""Counting FLOPs."""

import functools
from types import ModuleType

from .packages import _is_distribution
from .patch import patch, rebind


@patch("mmengine.analysis.print_helper", needed=lambda module: _is_distribution("mmsegmentation"))
def flops_of_given_inputs(module: ModuleType) -> None:
    """``"input_shape" and "inputs" cannot be both set`` from mmseg 1.2's ``get_flops.py``.

    That tool makes the inputs from the shape and passes both; the inputs say it all.
    """
    original = module.get_model_complexity_info

    @functools.wraps(original)
    def get_model_complexity_info(model, input_shape=None, inputs=None, *args, **kwargs):
        shape = input_shape if inputs is None else None
        return original(model, shape, inputs, *args, **kwargs)

    rebind(module, "get_model_complexity_info", get_model_complexity_info)
