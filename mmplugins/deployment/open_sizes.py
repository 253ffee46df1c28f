"""Modules of mmseg and torch that bake the size of the traced picture in, by ones that do not."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def open_sizes(model: nn.Module) -> None:
    """Replace, in place, what an exporter would fix to the size of its example."""
    from mmseg.models.utils import Upsample

    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is Upsample and not child.size:
                setattr(module, name, OpenUpsample(child))
            elif type(child) is nn.AdaptiveAvgPool2d:
                setattr(module, name, OpenAdaptivePool(child.output_size))


class OpenUpsample(nn.Module):
    """mmseg's ``Upsample`` by a whole factor, for open sizes (its own calls ``int`` on them)."""

    def __init__(self, upsample: nn.Module):
        super().__init__()
        factor = upsample.scale_factor
        self.factors = factor if isinstance(factor, tuple) else (factor, factor)
        self.mode, self.align_corners = upsample.mode, upsample.align_corners

    def forward(self, x: Tensor) -> Tensor:
        """Resize ``[N, C, H, W]``."""
        size = [
            side * int(factor) if float(factor).is_integer() else int(side * factor)
            for side, factor in zip(x.shape[-2:], self.factors, strict=True)
        ]
        return F.interpolate(x, size, mode=self.mode, align_corners=self.align_corners)


class OpenAdaptivePool(nn.Module):
    """``AdaptiveAvgPool2d`` as two products with matrices of means, which ONNX has at any size.

    Args:
        output_size: As of ``nn.AdaptiveAvgPool2d``.
    """

    def __init__(self, output_size: int | tuple[int, int]):
        super().__init__()
        self.sides = (output_size, output_size) if isinstance(output_size, int) else output_size

    def forward(self, x: Tensor) -> Tensor:
        """Pool ``[N, C, H, W]`` to ``[N, C, h, w]``."""
        if tuple(self.sides) == (1, 1):
            return x.mean((2, 3), keepdim=True)
        down = _means(x.shape[-2], self.sides[0], x)
        across = _means(x.shape[-1], self.sides[1], x)
        return down @ x @ across.T


def _means(length: int, count: int, like: Tensor) -> Tensor:
    """Matrix ``[count, length]`` of the means of torch's adaptive windows, which may overlap."""
    place = torch.arange(length, device=like.device)[None]
    window = torch.arange(count, device=like.device)[:, None]
    begin = window * length // count
    end = ((window + 1) * length + count - 1) // count
    inside = (place >= begin) & (place < end)
    return (inside / (end - begin)).to(like.dtype)
