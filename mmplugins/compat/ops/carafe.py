"""CARAFE upsampling (Wang et al., 2019, https://arxiv.org/abs/1905.02188, section 3.2).

Every output pixel is a weighted sum over a k x k window around its source pixel, and has weights of
its own. The loop runs over the k * k positions of the window. So it needs as much memory as the
output.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import pad

from .dispatch import extension_op, widen


@extension_op
def carafe_naive_forward(
    features: Tensor,
    masks: Tensor,
    output: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Write the reassembled features into ``output``.

    Args:
        features: Shape (N, C, H, W).
        masks: Window weights of shape (N, group_size * kernel_size ** 2, sH, sW), with s the
            scale factor.
        output: Shape (N, C, sH, sW); overwritten.
        kernel_size: Side of the window, odd.
        group_size: Groups of channels with weights of their own.
        scale_factor: Output pixels per input pixel and axis.
    """
    wide, wide_masks = widen(features, masks)
    result = _blocks(wide.new_zeros(output.shape), group_size, scale_factor)
    padded, weights = _window_view(wide, wide_masks, kernel_size, group_size, scale_factor)
    for tap, window in _windows(padded, kernel_size, features.shape[2:]):
        result.addcmul_(window, weights[:, :, tap, None])
    output.copy_(result.view(output.shape))


@extension_op
def carafe_naive_backward(
    top_grad: Tensor,
    features: Tensor,
    masks: Tensor,
    bottom_grad: Tensor,
    mask_grad: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Add the gradients by features and masks to ``bottom_grad`` and ``mask_grad``.

    Args:
        top_grad: Gradient of shape (N, C, sH, sW).
        features: As in :func:`carafe_naive_forward`, as the rest.
        masks: Window weights.
        bottom_grad: Of the shape of ``features``; added to.
        mask_grad: Of the shape of ``masks``; added to.
        kernel_size: Side of the window, odd.
        group_size: Groups of channels with weights of their own.
        scale_factor: Output pixels per input pixel and axis.
    """
    wide, wide_masks, gradient = widen(features, masks, top_grad)
    gradient = _blocks(gradient.contiguous(), group_size, scale_factor)
    padded, weights = _window_view(wide, wide_masks, kernel_size, group_size, scale_factor)
    by_padded, by_weights = torch.zeros_like(padded), torch.zeros_like(weights)
    targets = _windows(by_padded, kernel_size, features.shape[2:])
    for (tap, window), (_, target) in zip(
        _windows(padded, kernel_size, features.shape[2:]), targets, strict=True
    ):
        by_weights[:, :, tap] = (window * gradient).sum(2)
        target += (weights[:, :, tap, None] * gradient).sum((4, 6), keepdim=True)
    border = kernel_size // 2
    inner = by_padded[..., border : border + features.size(2), border : border + features.size(3)]
    bottom_grad += inner.reshape(bottom_grad.shape)
    mask_grad += by_weights.view(mask_grad.shape)


@extension_op
def carafe_forward(
    features: Tensor,
    masks: Tensor,
    rfeatures: Tensor,
    routput: Tensor,
    rmasks: Tensor,
    output: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Do as :func:`carafe_naive_forward`, and copy ``features`` to ``rfeatures`` for backward.

    ``routput`` and ``rmasks`` are scratch buffers of the compiled op. They stay as they are.
    """
    rfeatures.copy_(features)
    carafe_naive_forward(features, masks, output, kernel_size, group_size, scale_factor)


@extension_op
def carafe_backward(
    top_grad: Tensor,
    rfeatures: Tensor,
    masks: Tensor,
    rtop_grad: Tensor,
    rbottom_grad_hs: Tensor,
    rbottom_grad: Tensor,
    rmask_grad: Tensor,
    bottom_grad: Tensor,
    mask_grad: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Do as :func:`carafe_naive_backward`, with the features that the forward op copied.

    The other ``r*`` tensors are scratch buffers of the compiled op. They stay as they are.
    """
    settings = (kernel_size, group_size, scale_factor)
    carafe_naive_backward(top_grad, rfeatures, masks, bottom_grad, mask_grad, *settings)


def _blocks(image: Tensor, groups: int, scale: int) -> Tensor:
    """View (N, groups * X, sH, sW) as (N, groups, X, H, s, W, s)."""
    n, channels, height, width = image.shape
    return image.view(n, groups, channels // groups, height // scale, scale, width // scale, scale)


def _window_view(
    features: Tensor, masks: Tensor, kernel_size: int, groups: int, scale: int
) -> tuple[Tensor, Tensor]:
    """Zero-padded features as (N, groups, X, H + k - 1, W + k - 1) and weights as blocks."""
    border = kernel_size // 2
    padded = pad(features, (border,) * 4).unflatten(1, (groups, -1))
    return padded, _blocks(masks.contiguous(), groups, scale)


def _windows(padded: Tensor, kernel_size: int, size: torch.Size) -> Iterator[tuple[int, Tensor]]:
    """Yield (tap, view of shape (N, groups, X, H, 1, W, 1)) for each position in the window."""
    height, width = size
    for tap in range(kernel_size**2):
        y, x = divmod(tap, kernel_size)
        yield tap, padded[..., y : y + height, None, x : x + width, None]
