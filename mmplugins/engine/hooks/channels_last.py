"""Channels-last training and testing by one line of a config."""

from __future__ import annotations

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Keeps the convolution weights, and so all feature maps, channels-last in memory.

    Values stay the same up to rounding; pointwise convolutions and pooling get faster on CPUs and
    on GPUs with tensor cores. A convolution with channels-last weights puts out a channels-last
    feature map for any input, so the images need no conversion. In a config::

        custom_hooks = [dict(type="ChannelsLastHook")]
    """

    def before_run(self, runner: Runner) -> None:
        """Convert the model in place, before training, validation or testing."""
        to_channels_last(runner.model)

    def before_test(self, runner: Runner) -> None:
        """Convert again: ``DeployHook`` may have made new convolutions by now."""
        self.before_run(runner)


def to_channels_last(model: nn.Module) -> nn.Module:
    """Lay the weights of a model channels-last, in place.

    In training, the logits of mmseg's heads (their ``conv_seg``) are put out in PyTorch's default
    format: if channels lie last, PyTorch's log-softmax on a CPU first copies the enlarged logits.
    """
    model.to(memory_format=torch.channels_last)
    for head in model.modules():
        layer = getattr(head, "conv_seg", None)
        if isinstance(layer, nn.Module) and _planes not in layer._forward_hooks.values():
            layer.register_forward_hook(_planes)
    return model


def _planes(layer: nn.Module, args: tuple, logits: Tensor) -> Tensor:
    return logits.contiguous() if layer.training else logits
