"""Compiling the blocks of the backbone by one line of a config."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..compiling import Compiler, block_compiler, cache_folder
from ..unwrapping import bare_model
from .progress import ProgressHook


@HOOKS.register_module()
class CompileBackboneHook(Hook):
    """Compiles the blocks of ``model.backbone`` before training, validation or testing.

    Heads and losses of detectors, whose shapes follow the objects of each picture, stay as they
    are. In a config, or by ``--compile`` of the tools::

        custom_hooks = [dict(type="CompileBackboneHook")]

    Args:
        memory_budget: See :func:`~mmplugins.engine.compiling.compile_blocks`. Defaults to 0.5.
        **settings: Its other arguments; ``freeze`` holds in tests only, beside ``DeployHook``.
    """

    def __init__(self, memory_budget: float = 0.5, **settings: Any):
        self.settings = dict(memory_budget=memory_budget, **settings)
        self._compiler: Compiler | None = None
        self._told, self._announced = 0, False

    def before_run(self, runner: Runner) -> None:
        """Have the blocks compiled when they are first called.

        Raises:
            ValueError: If the model has no part ``backbone``.
        """
        self._compile(runner, {**self.settings, "freeze": False})

    def before_test(self, runner: Runner) -> None:
        """Compile again: ``DeployHook`` may have folded the blocks by now.

        Raises:
            ValueError: If weights are to be frozen, and the model is not deployed.
        """
        self._compile(runner, self.settings)

    def _before_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Say that the first step or batch compiles, so that it does not look like a standstill."""
        if not self._announced:
            self._announced = True
            _say(
                runner,
                "Compiling the blocks of the backbone: the first steps take a minute or two; what "
                f"is made is kept in {cache_folder()} for the next run",
            )

    def _after_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Say what was compiled since the last step or batch."""
        compiler = self._compiler
        if compiler is not None and compiler.graphs > self._told:
            self._told = compiler.graphs
            _say(runner, f"Compiled so far: {compiler.graphs} graphs in {compiler.seconds:.0f} s")

    def _compile(self, runner: Runner, settings: dict[str, Any]) -> None:
        self._compiler = block_compiler(bare_model(runner.model), **settings)
        self._told = 0


def _say(runner: Runner, text: str) -> None:
    """Into the log, and beside the progress on the console."""
    runner.logger.info(text)
    for hook in runner.hooks:
        if isinstance(hook, ProgressHook):
            hook.say(text)
