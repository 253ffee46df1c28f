"""Speed as a count: the operators that one pass runs. On small inputs a GPU waits for each call."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

VIEWS = ("detach", "_unsafe_view", "alias")
"""Operators that run nothing, though PyTorch does not call them views."""


class Kernels(TorchDispatchMode):
    """Counts the operators that run inside, views left out.

    Attributes:
        names: How often each ran.
    """

    def __init__(self):
        super().__init__()
        self.names: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if not func.is_view and func.overloadpacket.__name__ not in VIEWS:
            self.names[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def inference_kernels(backbone: nn.Module, images: Tensor) -> Counter[str]:
    """Operators of one pass without gradient, by name."""
    with torch.no_grad(), Kernels() as kernels:
        backbone(images)
    return kernels.names


def training_kernels(backbone: nn.Module, images: Tensor) -> Counter[str]:
    """Operators of a forward and a backward pass in training mode, by name.

    The loss is the sum of the means of the feature maps.
    """
    with Kernels() as kernels:
        sum(out.float().mean() for out in backbone.train()(images)).backward()
    return kernels.names
