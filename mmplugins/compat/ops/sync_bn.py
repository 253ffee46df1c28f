"""The local steps of mmcv's synchronized batch norm (``MMSyncBN``). mmcv communicates.

Inputs have the shape (N, C, L). Statistics have the shape (C,), in float32 as mmcv allocates them.
"""

from torch import Tensor

from .dispatch import extension_op, widen


@extension_op
def sync_bn_forward_mean(input: Tensor, mean: Tensor) -> None:
    """Write the mean of each channel of ``input``, (N, C, L), into ``mean``, (C,)."""
    mean.copy_(widen(input)[0].mean((0, 2)))


@extension_op
def sync_bn_forward_var(input: Tensor, mean: Tensor, var: Tensor) -> None:
    """Write the mean square distance from ``mean``, (C,), of each channel into ``var``, (C,)."""
    var.copy_((widen(input)[0] - mean[:, None]).square().mean((0, 2)))


@extension_op
def sync_bn_forward_output(
    input: Tensor,
    mean: Tensor,
    var: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    norm: Tensor,
    std: Tensor,
    output: Tensor,
    eps: float,
    momentum: float | Tensor,
    group_size: int,
) -> None:
    """Normalize, and update the running statistics.

    Args:
        input: Shape (N, C, L).
        mean: Shape (C,), over all ranks.
        var: Shape (C,), over all ranks, biased.
        weight: Shape (C,), or None for no affine part.
        bias: Shape (C,), or None.
        running_mean: Shape (C,), updated; or None.
        running_var: Shape (C,), updated with the unbiased variance; or None.
        norm: Shape (N, C, L); overwritten with the normalized input.
        std: Shape (C,); overwritten with sqrt(var + eps).
        output: Shape (N, C, L); overwritten with norm * weight + bias.
        eps: Added to the variance.
        momentum: Share of the new statistics in the running ones.
        group_size: Number of ranks, which take part with N samples each.
    """
    std.copy_((var + eps).sqrt())
    norm.copy_((widen(input)[0] - mean[:, None]) / std[:, None])
    if weight is None or bias is None:
        output.copy_(norm)
    else:
        output.copy_(norm * weight[:, None] + bias[:, None])
    if running_mean is not None and running_var is not None:
        count = input.size(0) * input.size(2) * group_size
        unbiased = var * count / (count - 1) if count > 1 else var
        running_mean.copy_(momentum * mean + (1 - momentum) * running_mean)
        running_var.copy_(momentum * unbiased + (1 - momentum) * running_var)


@extension_op
def sync_bn_backward_param(
    grad_output: Tensor, norm: Tensor, grad_weight: Tensor, grad_bias: Tensor
) -> None:
    """Write the gradients by weight and bias, (C,); ``grad_output`` and ``norm`` are (N, C, L)."""
    (gradient,) = widen(grad_output)
    grad_weight.copy_((gradient * norm).sum((0, 2)))
    grad_bias.copy_(gradient.sum((0, 2)))


@extension_op
def sync_bn_backward_data(
    grad_output: Tensor,
    weight: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    norm: Tensor,
    std: Tensor,
    grad_input: Tensor,
) -> None:
    """Write the gradient by the input, (N, C, L), into ``grad_input``.

    ``grad_weight`` and ``grad_bias``, (C,), are means over all ranks. ``norm`` and ``std`` are what
    the forward op wrote.
    """
    (gradient,) = widen(grad_output)
    count = gradient.size(0) * gradient.size(2)
    shift = (norm * grad_weight[:, None] + grad_bias[:, None]) / count
    grad_input.copy_((gradient - shift) * (weight / std)[:, None])
