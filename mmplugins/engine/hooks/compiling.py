"""Compiling the backbone, and nothing else, by one line of a config."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..unwrapping import bare_model


@HOOKS.register_module()
class CompileBackboneHook(Hook):
    """Compiles ``model.backbone`` with ``torch.compile`` before training, validation or testing.

    Heads and losses of detectors, whose shapes follow the objects of each picture, stay as they
    are: compiled as a whole, they would be compiled again and again. Names of parameters, and so
    checkpoints, stay the same. In a config::

        custom_hooks = [dict(type="CompileBackboneHook")]

    Args:
        dynamic: Policy for pictures of changing sizes. True compiles once for all sizes, None for
            the first size and then, when another comes, for all, False for each size anew: the
            fastest for one or two sizes, slow for many. Defaults to True.
        **options: Further arguments of ``torch.compile``, such as ``mode='max-autotune'``.
    """

    def __init__(self, dynamic: bool | None = True, **options: Any):
        self.options = dict(dynamic=dynamic, **options)

    def before_run(self, runner: Runner) -> None:
        """Have the backbone compiled when it is first called.

        Raises:
            ValueError: If the model has no part ``backbone``, or that has ``with_cp``.
        """
        model = bare_model(runner.model)
        if not hasattr(model, "backbone"):
            raise ValueError(
                f"CompileBackboneHook: {type(model).__name__} has no part called backbone; remove "
                "the hook from custom_hooks"
            )
        if getattr(model.backbone, "with_cp", False):
            raise ValueError(
                "CompileBackboneHook and model.backbone.with_cp=True exclude each other, as "
                "torch.compile chooses by itself what to compute twice: set with_cp=False, or "
                "remove the hook from custom_hooks"
            )
        model.backbone.compile(**self.options)
