"""The convolution of deployed models: activation and shortcut are part of it."""

from __future__ import annotations

from torch import Tensor, nn

from ..functional.inference_conv import Geometry, conv2d
from .layers import is_hooked
from .token_mixers import DepthwiseConv


class FusedConv2d(nn.Conv2d):
    """``act(conv(x)) + residual``, in one pass over memory where the device has a kernel for it.

    Parameters are those of ``nn.Conv2d``. On the CPU without gradient, a second copy of the weight
    is kept in the blocks of the kernel, see
    :func:`~mmplugins.functional.inference_conv.packed_weight`; it is neither saved nor copied with
    the model.

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
        self.train(conv.training)

    @staticmethod
    def fits(module: nn.Module) -> bool:
        """Whether ``module`` is a plain, unhooked convolution, which this class computes too."""
        return (
            type(module) in (nn.Conv2d, DepthwiseConv)
            and module.padding_mode == "zeros"
            and isinstance(module.padding, tuple)
            and not is_hooked(module)
        )

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Convolve ``x [N, C, H, W]`` and add ``residual``, of the shape of the result."""
        geometry = Geometry(self.padding, self.stride, self.dilation, self.groups)
        return conv2d(x, self.weight, self.bias, geometry, self.act, residual)

    def extra_repr(self) -> str:
        """Show the activation in the printed model."""
        return super().extra_repr() + (f", act={self.act!r}" if self.act else "")
