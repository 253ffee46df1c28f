"""Testing in deployed form, from a config."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..engine.unwrapping import bare_model
from .reparameterize import reparameterize


@HOOKS.register_module()
class DeployHook(Hook):
    """Test a model in deployed form, from a file of either form.

    With ``custom_hooks = [dict(type='DeployHook')]``, a file in trained form is loaded as it is and
    the model folded before the test. For a file in deployed form the model is folded before it is
    loaded, with this hook or without (:func:`.follow_the_file`).
    """

    priority = "HIGHEST"  # before the hooks that compile or convert what there is

    def before_train(self, runner: Runner) -> None:
        """Refuse to train.

        Raises:
            RuntimeError: Always.
        """
        raise RuntimeError("DeployHook in a training run: the deployed form is for inference")

    def before_test(self, runner: Runner) -> None:
        """Fold the model if that has not been done."""
        model = bare_model(runner.model)  # what the file is loaded into
        reparameterize(model.eval())
