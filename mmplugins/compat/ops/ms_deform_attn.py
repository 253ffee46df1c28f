"""Multi-scale deformable attention (Deformable DETR, Zhu et al., 2020,
https://arxiv.org/abs/2010.04159, section 4.1).

mmcv has the forward pass in plain PyTorch, and uses it on CPU. Here it runs on every device, and
autograd computes the backward pass.
"""

import torch
from torch import Tensor

from .dispatch import extension_op, widen


def _attend(value: Tensor, spatial_shapes: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    # mmcv imports this package, so mmcv's own module cannot be imported before a call.
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    return multi_scale_deformable_attn_pytorch(value, spatial_shapes.tolist(), locations, weights)


@extension_op
def ms_deform_attn_forward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Attend to a few sampled points of each feature level.

    Args:
        value: Shape (N, sum of H * W over the levels, heads, channels).
        value_spatial_shapes: Int of shape (levels, 2): H and W.
        value_level_start_index: Implied by the shapes; unused, as ``im2col_step``.
        sampling_locations: Shape (N, queries, heads, levels, points, 2): (x, y), 0..1 over a level.
        attention_weights: Shape (N, queries, heads, levels, points).
        im2col_step: Unused.

    Returns:
        Shape (N, queries, heads * channels), in the type of ``value``.
    """
    tensors = widen(value, sampling_locations, attention_weights)
    return _attend(tensors[0], value_spatial_shapes, *tensors[1:]).to(value.dtype)


@extension_op
def ms_deform_attn_backward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Add the gradients by value, locations and weights to the last three tensors.

    Shapes as in :func:`ms_deform_attn_forward`; ``grad_output`` has the output's shape.
    """
    with torch.enable_grad():
        tensors = widen(value, sampling_locations, attention_weights)
        leaves = [t.detach().requires_grad_() for t in tensors]
        output = _attend(leaves[0], value_spatial_shapes, *leaves[1:])
        gradients = torch.autograd.grad(output, leaves, grad_output.to(output.dtype))
    grad_value += gradients[0]
    grad_sampling_loc += gradients[1]
    grad_attn_weight += gradients[2]
