"""The convolution of deployed models: activation and shortcut are part of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..functional.inference_conv import (
    Geometry,
    can_fuse,
    fused_conv2d,
    is_pointwise,
    pack_weight,
    plain_conv2d,
)
from .token_mixers import DepthwiseConv


class FusedConv2d(nn.Conv2d):
    """``act(conv(x)) + residual``, in one pass over memory where the device has a kernel for it.

    Parameters are those of ``nn.Conv2d``. On the CPU without gradient, a second copy of the weight
    is kept in the blocks of the kernel; it is made anew when the weight changes, and is neither
    saved nor copied with the model.

    Args:
        conv: Convolution with zero padding whose parameters to take over.
        act: Activation, a name of :data:`~mmplugins.functional.inference_conv.ACTIVATIONS`, or
            None. Defaults to None.
    """

    def __init__(self, conv: nn.Conv2d, act: str | None = None):
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,
            conv.stride,
            conv.padding,
            conv.dilation,
            conv.groups,
            bias=False,
            device="meta",
        )
        self.weight, self.bias, self.act = conv.weight, conv.bias, act
        self._packed, self._packed_of = None, (None,)
        self.train(conv.training)

    @staticmethod
    def fits(module: nn.Module) -> bool:
        """Whether ``module`` is a plain convolution, which this class computes too."""
        return (
            type(module) in (nn.Conv2d, DepthwiseConv)
            and module.padding_mode == "zeros"
            and isinstance(module.padding, tuple)
        )

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Convolve ``x [N, C, H, W]`` and add ``residual``, of the shape of the result."""
        geometry = Geometry(self.padding, self.stride, self.dilation, self.groups)
        if can_fuse(x, self.weight):
            packed = self._pack(geometry, x.shape)
            return fused_conv2d(x, packed, self.bias, geometry, self.act, residual)
        return plain_conv2d(x, self.weight, self.bias, geometry, self.act, residual)

    def _pack(self, geometry: Geometry, input_size: torch.Size) -> Tensor:
        weight = self.weight
        version = 0 if weight.is_inference() else weight._version
        size = None if is_pointwise(weight, geometry) else input_size
        made_of, *state = self._packed_of
        if made_of is not weight or state != [weight.data_ptr(), version, size]:
            self._packed = pack_weight(weight, geometry, input_size)
            self._packed_of = (weight, weight.data_ptr(), version, size)
        return self._packed

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | dict(_packed=None, _packed_of=(None,))

    def extra_repr(self) -> str:
        """Show the activation in the printed model."""
        return super().extra_repr() + (f", act={self.act!r}" if self.act else "")
