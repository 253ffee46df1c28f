"""Text of files that OpenMMLab hands to Python: read as data, or as one of a few names."""

import contextlib
import functools
import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

from .patch import patch, replaced


def _read_as_data(text: str, file_format: str = ".py") -> Any:
    """The config in a checkpoint, if it is plain data and names registered classes only."""
    return _reader().harmless_config(text, "the checkpoint")


def _reader() -> ModuleType:
    # By name and late: it belongs to a room above, and with it all of mmplugins is imported. The
    # start-up hook must not do that before an inferencer is really built.
    return importlib.import_module("mmplugins.checkpoint.config_text")


@patch("mmengine.infer.infer", needed=lambda module: True)
def config_of_inferencers_is_data(module: ModuleType) -> None:
    """``DetInferencer(weights=FILE)`` runs the text that FILE gives for its config."""
    original = module.BaseInferencer.__init__

    @functools.wraps(original)
    def __init__(self, model=None, *args, **kwargs):
        with contextlib.ExitStack() as stack:
            read = staticmethod(_read_as_data)
            stack.enter_context(replaced(module.Config, "fromstring", read))
            if not model:  # else the config is the user's own
                stack.enter_context(_reader().registered_only())
            original(self, model, *args, **kwargs)

    module.BaseInferencer.__init__ = __init__


@patch("mmengine.runner.runner", "mmengine.runner._flexible_runner", needed=lambda module: True)
def config_of_resumed_is_not_run(module: ModuleType) -> None:
    """``resume`` runs the text of ``meta['config']``, to compare the number of GPUs of old files.

    No file of mmengine has it; the number of processes is compared by ``ExactResumeHook``.
    """
    from mmengine.config import Config

    name = "Runner" if hasattr(module, "Runner") else "FlexibleRunner"
    runner = getattr(module, name)
    original = runner.resume

    @functools.wraps(original)
    def resume(self, *args, **kwargs):
        with replaced(Config, "fromstring", staticmethod(lambda *args, **kwargs: Config())):
            return original(self, *args, **kwargs)

    runner.resume = resume


def _named(*owners: Any, prefix: str = "") -> Callable[[str], Any]:
    """Stand for ``eval`` where the text is to be a name: an attribute of one of the owners."""

    def lookup(text: str) -> Any:
        name = str(text).removeprefix(prefix)
        for owner in owners:
            if name.isidentifier() and not name.startswith("_") and hasattr(owner, name):
                return getattr(owner, name)
        raise ValueError(f"{str(text)[:80]!r} names nothing in {owners[0].__name__}")

    return lookup


@patch("mmcv.ops.nms", needed=lambda module: True)
def suppression_by_name(module: ModuleType) -> None:
    """``batched_nms`` runs ``nms=dict(type=TEXT)`` of a config as Python."""
    vars(module)["eval"] = _named(module)


@patch("mmdet.models.task_modules.tracking.camera_motion_compensation", needed=lambda module: True)
def warp_mode_by_name(module: ModuleType) -> None:
    """``CameraMotionCompensation`` runs its ``warp_mode`` as Python."""
    vars(module)["eval"] = _named(module.cv2, prefix="cv2.")


@patch("mmcv.cnn.rfsearch.search", needed=lambda module: True)
def searched_layers_by_name(module: ModuleType) -> None:
    """``RFSearchHook`` runs the names of layers in its config as Python."""
    vars(module)["eval"] = _named(module, module.nn, prefix="nn.")
