"""Channels-last training and testing by one line of a config."""

from __future__ import annotations

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Keeps the convolution weights, and so all maps, channels-last in memory.

    Values stay the same up to rounding; pointwise convolutions and pooling get faster on CPUs and
    on GPUs with tensor cores. A convolution with channels-last weights puts out a channels-last
    map whatever it is given, so the images themselves need no conversion. In a config::

        custom_hooks = [dict(type="ChannelsLastHook")]
    """

    def before_run(self, runner: Runner) -> None:
        """Convert the model in place, before training, validation or testing."""
        runner.model.to(memory_format=torch.channels_last)

    def before_test(self, runner: Runner) -> None:
        """Convert again: ``DeployHook`` may have made new convolutions by now."""
        self.before_run(runner)
