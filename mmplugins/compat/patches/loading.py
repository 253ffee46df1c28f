"""Loading weights into models: others may prepare a model for the file, and no file lacks meta."""

import functools
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from .patch import patch, rebind

#: Called with a model and the state dict before mmengine loads the one into the other.
BEFORE_LOADING: list[Callable[[Any, Mapping[str, Any]], None]] = []


def prepare_for(model: Any, checkpoint: Mapping[str, Any]) -> None:
    """Let all of :data:`BEFORE_LOADING` see what a model will load."""
    for prepare in BEFORE_LOADING:
        prepare(model, checkpoint.get("state_dict", checkpoint))


@patch("mmengine.runner.checkpoint", needed=lambda module: True)
def prepared_before_loading(module: ModuleType) -> None:
    """Runner, ``init_detector``, ``init_model`` and the inferencers all load by this function.

    mmseg's ``init_model`` then takes a ``meta`` for granted, which bare state dicts do not have.
    """
    load = module._load_checkpoint_to_model

    @functools.wraps(load)
    def prepared(model: Any, checkpoint: Any, *args: Any, **kwargs: Any) -> Any:
        prepare_for(model, checkpoint)
        loaded = load(model, checkpoint, *args, **kwargs)
        return loaded if "meta" in loaded else {**loaded, "meta": {}}

    rebind(module, "_load_checkpoint_to_model", prepared)
