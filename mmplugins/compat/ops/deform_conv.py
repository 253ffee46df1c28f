"""Deformable convolution, v1 (Dai et al., 2017, https://arxiv.org/abs/1703.06211) and v2 with
modulation (Zhu et al., 2018, https://arxiv.org/abs/1811.11168).

Version 1 is version 2 without mask and bias. Both call one forward and one backward function of
torchvision, with the settings in its order: along y and x each, then the groups.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .dispatch import KERNELS, extension_op, widen


@extension_op
def deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> None:
    """Write the deformable convolution of ``input`` into ``output``.

    Args:
        input: Shape (N, C, H, W).
        weight: Shape (O, C / group, kH, kW).
        offset: Shape (N, deformable_group * 2 * kH * kW, Ho, Wo): (y, x) per kernel tap, in pixels.
        output: Shape (N, O, Ho, Wo); overwritten.
        columns: Scratch buffer of the compiled op. Unused, as are ``ones`` and ``im2col_step``.
        ones: Unused.
        kW: Kernel width.
        kH: Kernel height.
        dW: Stride along x.
        dH: Stride along y.
        padW: Padding along x.
        padH: Padding along y.
        dilationW: Dilation along x.
        dilationH: Dilation along y.
        group: Convolution groups.
        deformable_group: Groups of channels with offsets of their own.
        im2col_step: Unused.
    """
    settings = (dH, dW, padH, padW, dilationH, dilationW, group, deformable_group)
    output.copy_(_forward(input, weight, offset, None, None, settings))


@extension_op
def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    gradOutput: Tensor,
    gradInput: Tensor,
    gradOffset: Tensor,
    weight: Tensor,
    columns: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> None:
    """Add the gradients by input and offset to ``gradInput`` and ``gradOffset``.

    Shapes and settings as in :func:`deform_conv_forward`; ``gradOutput`` has the output's shape.
    """
    settings = (dH, dW, padH, padW, dilationH, dilationW, group, deformable_group)
    gradients = _backward(gradOutput, input, weight, offset, None, None, settings)
    gradInput += gradients[0]
    gradOffset += gradients[2]


@extension_op
def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    gradOutput: Tensor,
    gradWeight: Tensor,
    columns: Tensor,
    ones: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    scale: float,
    im2col_step: int,
) -> None:
    """Add ``scale`` times the gradient by the weight to ``gradWeight``.

    Shapes and settings as in :func:`deform_conv_forward`; ``gradOutput`` has the output's shape.
    """
    settings = (dH, dW, padH, padW, dilationH, dilationW, group, deformable_group)
    # The weight's own gradient does not depend on the weight, which this op is not given.
    weight = torch.zeros_like(gradWeight)
    gradients = _backward(gradOutput, input, weight, offset, None, None, settings)
    gradWeight += scale * gradients[1]


@extension_op
def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
) -> None:
    """Write the modulated deformable convolution of ``input`` into ``output``.

    Args:
        input: Shape (N, C, H, W).
        weight: Shape (O, C / group, kernel_h, kernel_w).
        bias: Shape (O,), or no element without ``with_bias``.
        ones: Scratch of the compiled op; unused, as ``columns``.
        offset: Shape (N, deformable_group * 2 * kernel_h * kernel_w, Ho, Wo): (y, x) per tap. Of
            larger maps, as mmdet's DyHead gives them, see :func:`_first`.
        mask: Shape (N, deformable_group * kernel_h * kernel_w, Ho, Wo): a factor per tap; likewise.
        output: Shape (N, O, Ho, Wo); overwritten.
        columns: Unused.
        kernel_h: Kernel height.
        kernel_w: Kernel width.
        stride_h: Stride along y.
        stride_w: Stride along x.
        pad_h: Padding along y.
        pad_w: Padding along x.
        dilation_h: Dilation along y.
        dilation_w: Dilation along x.
        group: Convolution groups.
        deformable_group: Groups of channels with offsets and masks of their own.
        with_bias: Whether to add ``bias``.
    """
    settings = (stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, group, deformable_group)
    bias_or_none = bias if with_bias else None
    factors = deformable_group * kernel_h * kernel_w
    offset = _first(offset, (2 * factors, *output.shape[2:]))
    mask = _first(mask, (factors, *output.shape[2:]))
    output.copy_(_forward(input, weight, offset, mask, bias_or_none, settings))


@extension_op
def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
) -> None:
    """Add the gradients by all inputs to the ``grad_*`` buffers, ``grad_output`` apart.

    Shapes and settings as in :func:`modulated_deform_conv_forward`.
    """
    settings = (stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, group, deformable_group)
    bias_or_none = bias if with_bias else None
    factors = deformable_group * kernel_h * kernel_w
    offset = _first(offset, (2 * factors, *grad_output.shape[2:]))
    mask = _first(mask, (factors, *grad_output.shape[2:]))
    by_input, by_weight, by_offset, by_mask, by_bias = _backward(
        grad_output, input, weight, offset, mask, bias_or_none, settings
    )
    grad_input += by_input
    grad_weight += by_weight
    grad_offset += _filled(by_offset, grad_offset.shape)
    grad_mask += _filled(by_mask, grad_mask.shape)
    if with_bias:
        grad_bias += by_bias


def _first(maps: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Take the first numbers of each sample in memory, as many as ``shape`` has.

    The compiled operator reads offsets and masks in this way, and does not look at their size. If
    they have the size of the output, these are all numbers.

    Raises:
        ValueError: If there are fewer. The compiled operator would read beyond its memory.
    """
    wanted = math.prod(shape)
    if maps[0].numel() < wanted:
        raise ValueError(
            f"modulated_deform_conv: offset or mask of shape {tuple(maps.shape)}: expected at "
            f"least {wanted} values per sample, for {shape}"
        )
    return maps.reshape(len(maps), -1)[:, :wanted].reshape(-1, *shape)


def _filled(maps: Tensor, shape: torch.Size) -> Tensor:
    """The reverse of :func:`_first`. Nothing depends on the other numbers: they are zeros."""
    flat = maps.flatten(1)
    return F.pad(flat, (0, math.prod(shape[1:]) - flat.shape[1])).view(shape)


def _prepare(
    input: Tensor, weight: Tensor, offset: Tensor, mask: Tensor | None, bias: Tensor | None
) -> tuple[tuple[Tensor, ...], bool]:
    """Bring all to one precision. torchvision takes no None, so mask and bias become tensors."""
    use_mask = mask is not None
    if mask is None:
        mask = input.new_zeros(input.size(0), 1)
    if bias is None:
        bias = input.new_zeros(weight.size(0))
    return widen(input, weight, offset, mask, bias), use_mask


def _forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    settings: tuple[int, ...],
) -> Tensor:
    tensors, use_mask = _prepare(input, weight, offset, mask, bias)
    return KERNELS.deform_conv2d(*tensors, *settings, use_mask)


def _backward(
    grad_output: Tensor,
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    settings: tuple[int, ...],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients by input, weight, offset, mask and bias."""
    tensors, use_mask = _prepare(input, weight, offset, mask, bias)
    grad_output = grad_output.to(tensors[0].dtype).contiguous()
    return KERNELS._deform_conv2d_backward(grad_output, *tensors, *settings, use_mask)
