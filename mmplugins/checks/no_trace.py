"""Doing things without a trace: random state, OpenMMLab's globals and the console stay as found."""

from __future__ import annotations

import io
import random
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import numpy as np
import torch
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.utils import ManagerMixin

_LOGGER = "mmplugins.preflight"
"""Name of the logger and of the message hub that are current while it lasts."""


@contextmanager
def no_trace(scope: str | None) -> Iterator[None]:
    """Run the block in a scope of OpenMMLab, in silence, and put global state back afterwards.

    Put back are the random generators of Python, numpy and torch (GPUs included), the gradient
    mode, and the instances that OpenMMLab keeps by name: loggers, message hubs, visualizers and
    default scopes. GPU memory that has become free is given back. What the block prints or logs is
    dropped; exceptions pass through.

    Args:
        scope: Default scope of the block, for example ``'mmdet'``; None for none at all, as
            configs of the new style have it.
    """
    kept = {cls: cls._instance_dict.copy() for cls in _managers(ManagerMixin)}
    python, generator = random.getstate(), np.random.get_state()
    # A GPU that nobody has used yet has no state to keep, and need not be woken for it.
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    try:
        with (
            torch.random.fork_rng(devices),
            torch.enable_grad(),
            redirect_stdout(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            MMLogger.get_instance(_LOGGER, log_level="CRITICAL")
            MessageHub.get_instance(_LOGGER)
            if scope is None:  # else the scope of an earlier runner holds
                DefaultScope._instance_dict = OrderedDict()
            with DefaultScope.overwrite_default_scope(scope):
                yield
    finally:
        random.setstate(python)
        np.random.set_state(generator)
        for cls in _managers(ManagerMixin):  # the block may have imported more of them
            cls._instance_dict = kept.get(cls, OrderedDict())
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()


def _managers(cls: Any) -> Iterator[Any]:
    """The classes of which OpenMMLab keeps instances by name; each keeps its own."""
    for inner in cls.__subclasses__():
        yield inner
        yield from _managers(inner)
