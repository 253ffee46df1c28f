"""Convolution at chosen pixels only (Guided Anchoring, Wang et al., 2019,
https://arxiv.org/abs/1901.03278).

One op gathers the windows of the pixels, and the other one scatters the products.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

from .dispatch import extension_op


@extension_op
def masked_im2col_forward(
    im: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    col: Tensor,
    kernel_h: int,
    kernel_w: int,
    pad_h: int,
    pad_w: int,
) -> None:
    """Write the window of each chosen pixel into a column of ``col``.

    Args:
        im: Image of shape (1, C, H, W).
        mask_h_idx: Rows of the chosen pixels, int64 of shape (M,).
        mask_w_idx: Their columns.
        col: Shape (C * kernel_h * kernel_w, M); overwritten, 0 outside the image.
        kernel_h: Window height.
        kernel_w: Window width.
        pad_h: Rows of the window above the pixel.
        pad_w: Columns of the window left of it.
    """
    padded = pad(im[0], (pad_w, kernel_w, pad_h, kernel_h))
    rows = mask_h_idx + torch.arange(kernel_h, device=im.device)[:, None, None]
    columns = mask_w_idx + torch.arange(kernel_w, device=im.device)[:, None]
    col.copy_(padded[:, rows, columns].view(col.shape))


@extension_op
def masked_col2im_forward(
    col: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    im: Tensor,
    height: int,
    width: int,
    channels: int,
) -> None:
    """Write each column of ``col`` to its pixel of ``im``; other pixels stay.

    Args:
        col: Shape (channels, M).
        mask_h_idx: Rows of the chosen pixels, int64 of shape (M,).
        mask_w_idx: Their columns.
        im: Image of shape (1, channels, height, width).
        height: Implied by ``im``, as the rest.
        width: Implied.
        channels: Implied.
    """
    im[0, :, mask_h_idx, mask_w_idx] = col.to(im.dtype)
