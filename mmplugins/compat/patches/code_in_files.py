"""Text of files that OpenMMLab hands to Python: read as data, or as one of a few names."""

import contextlib
import functools
import importlib
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from .patch import patch


@contextlib.contextmanager
def _configs_read_by(config: type, read: Callable[[str], Any]) -> Iterator[None]:
    """Let ``Config.fromstring`` read text by another function for the length of a block."""
    before = vars(config)["fromstring"]
    config.fromstring = staticmethod(lambda text, file_format=".py": read(text))
    try:
        yield
    finally:
        config.fromstring = before


def _read_as_data(text: str) -> Any:
    """The config in a checkpoint, if it is plain data and names registered classes only."""
    # By name and late: compat knows nothing of the rest, and this is needed with mmplugins only.
    reader = importlib.import_module("mmplugins.checkpoint.config_text")
    return reader.harmless_config(text, "the checkpoint")


@patch("mmengine.infer.infer", needed=lambda module: True)
def config_of_inferencers_is_data(module: ModuleType) -> None:
    """``DetInferencer(weights=FILE)`` runs the text that FILE gives for its config."""
    original = module.BaseInferencer._init_model

    @functools.wraps(original)
    def _init_model(self, *args, **kwargs):
        with _configs_read_by(module.Config, _read_as_data):
            return original(self, *args, **kwargs)

    module.BaseInferencer._init_model = _init_model


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
        with _configs_read_by(Config, lambda text: Config()):
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
    module.eval = _named(module)


@patch("mmdet.models.task_modules.tracking.camera_motion_compensation", needed=lambda module: True)
def warp_mode_by_name(module: ModuleType) -> None:
    """``CameraMotionCompensation`` runs its ``warp_mode`` as Python."""
    module.eval = _named(module.cv2, prefix="cv2.")


@patch("mmcv.cnn.rfsearch.search", needed=lambda module: True)
def searched_layers_by_name(module: ModuleType) -> None:
    """``RFSearchHook`` runs the names of layers in its config as Python."""
    module.eval = _named(module, module.nn, prefix="nn.")
