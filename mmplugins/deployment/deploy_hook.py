"""Testing in deployed form, from a config."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..backbones.deploy_state import MARK
from ..engine.unwrapping import bare_model
from .reparameterize import reparameterize


@HOOKS.register_module()
class DeployHook(Hook):
    """Test a model in deployed form, from a file of either form.

    With ``custom_hooks = [dict(type='DeployHook')]``, a file in trained form is loaded as it is and
    the model folded before the test. For a file in deployed form the model is folded before it is
    loaded, with this hook or without.
    """

    priority = "HIGHEST"  # before LoadReportHook, which compares the file with the model

    def before_train(self, runner: Runner) -> None:
        """Refuse to train.

        Raises:
            RuntimeError: Always.
        """
        raise RuntimeError("DeployHook in a training run: the deployed form is for inference")

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Fold the model if the file holds the deployed form; it is loaded after this."""
        if MARK in checkpoint.get("state_dict", checkpoint):
            self.before_test(runner)

    def before_test(self, runner: Runner) -> None:
        """Fold the model if that has not been done."""
        model = bare_model(runner.model)  # what the file is loaded into
        reparameterize(model.eval())
