"""The channel MLP as one function that keeps its input and the hidden map before activation.

With u the activation without its factors, ``act(h) = s u(h) + t`` (GELU: s = 1, t = 0; StarReLU:
u = relu(h)**2), and layer scale l, the output is

    y = l * (W2 (s u + t) + b2) = l s * (W2 u) + l * (t W2 1 + b2)

so all factors meet the result, which is the smaller map, and none the hidden one. Backwards, the
product P = dy u^T gives the gradients of W2, s and l at once; neither the activated map nor the
output of the second layer is needed. Squares keep relu(h), which is u's root and half its slope.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from .activations import star_relu_formula
from .calling import by_channel, cast, compute_dtype, is_traced, without_autocast
from .pointwise import join_bands, mix_channels, pointwise_gradients, position_bands

Activation = Literal["gelu", "gelu_tanh", "star_relu", "squared_relu"]


def channel_mlp(
    x: Tensor,
    weight1: Tensor,
    bias1: Tensor | None,
    weight2: Tensor,
    bias2: Tensor | None,
    activation: Activation = "gelu",
    act_scale: Tensor | None = None,
    act_bias: Tensor | None = None,
    out_scale: Tensor | None = None,
) -> Tensor:
    """``out_scale * conv1x1(act(conv1x1(x)))`` with the activation recomputed in backward.

    Saved for the backward pass: ``x`` and the hidden map before the activation. In float16 squares
    are taken of 1/16 of the values, a factor which the weights take back: hidden values overflow
    above 4080 instead of 255.

    Args:
        x: Map ``[N, C, H, W]``.
        weight1: Weight ``[hidden, C, 1, 1]`` of the first layer.
        bias1: Its bias ``[hidden]``, or None.
        weight2: Weight ``[C_out, hidden, 1, 1]`` of the second layer.
        bias2: Its bias ``[C_out]``, or None.
        activation: ``'gelu'``, ``'gelu_tanh'`` (its approximation), ``'star_relu'`` or
            ``'squared_relu'``. Defaults to ``'gelu'``.
        act_scale: Factor ``[1]`` of StarReLU.
        act_bias: Summand ``[1]`` of StarReLU.
        out_scale: Factors by channel ``[C_out]`` on the result (layer scale), or None for 1.

    Returns:
        Map ``[N, C_out, H, W]`` in the precision of a convolution of ``x``, or that of
        ``out_scale`` if it is wider.
    """
    if is_traced():
        hidden = F.conv2d(x, weight1, bias1)
        y = F.conv2d(_activate_fully(hidden, activation, act_scale, act_bias), weight2, bias2)
        return y if out_scale is None else y * by_channel(out_scale)
    return _ChannelMLP.apply(
        x, weight1, bias1, weight2, bias2, act_scale, act_bias, out_scale, activation,
        compute_dtype(x),
    )  # fmt: skip


def _activate_fully(
    hidden: Tensor, activation: Activation, scale: Tensor | None, bias: Tensor | None
) -> Tensor:
    if activation == "star_relu":
        return star_relu_formula(hidden, scale, bias)
    return F.relu(hidden).square() if activation == "squared_relu" else _gelu(hidden, activation)


def _gelu(hidden: Tensor, activation: Activation) -> Tensor:
    return F.gelu(hidden, approximate="tanh" if activation == "gelu_tanh" else "none")


def _wide(weight: Tensor) -> torch.dtype:
    """Precision of sums over weights: float32 at least."""
    return torch.promote_types(weight.dtype, torch.float32)


def _headroom(dtype: torch.dtype) -> float:
    """Divisor of what is squared; a power of two, so that nothing is rounded."""
    return 16.0 if dtype == torch.float16 else 1.0


def _activate(kept: Tensor, activation: Activation) -> Tensor:
    """u, of squares divided by ``headroom**2``, from the map that is kept for the backward pass."""
    return _gelu(kept, activation) if activation.startswith("gelu") else kept.square()


def _gain(unit: float, act_scale: Tensor | None, out_scale: Tensor | None) -> Tensor | float:
    """What ``W2 u`` is multiplied by: a number, ``[1]`` or ``[C_out]``."""
    gain: Tensor | float = unit
    for scale in (act_scale, out_scale):
        gain = gain if scale is None else gain * scale
    return gain


def _times(y: Tensor, gain: Tensor | float, in_place: bool) -> Tensor:
    """``y`` times a number or factors by channel, in the precision of ``y``."""
    if isinstance(gain, Tensor):
        gain = gain.to(y.dtype).view(-1, 1, 1)
    elif gain == 1:
        return y
    return y.mul_(gain) if in_place else y * gain


def _constant(
    weight2: Tensor, bias2: Tensor | None, act_bias: Tensor | None, out_scale: Tensor | None
) -> Tensor | None:
    """``l * (t W2 1 + b2)``, what of the result does not depend on the input."""
    constant = bias2
    if act_bias is not None:
        shift = act_bias * weight2.sum((1, 2, 3), dtype=_wide(weight2))
        constant = shift if bias2 is None else bias2 + shift
    return constant if constant is None or out_scale is None else constant * out_scale


class _ChannelMLP(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight1: Tensor,
        bias1: Tensor | None,
        weight2: Tensor,
        bias2: Tensor | None,
        act_scale: Tensor | None,
        act_bias: Tensor | None,
        out_scale: Tensor | None,
        activation: Activation,
        dtype: torch.dtype,
    ) -> Tensor:
        ctx.activation, ctx.input_dtype = activation, x.dtype
        unit = 1.0 if activation.startswith("gelu") else _headroom(dtype) ** 2
        with without_autocast(x):
            x = x.to(dtype)
            first = weight1.to(dtype), cast(bias1, dtype)
            gain = _gain(unit, act_scale, out_scale)
            constant = _constant(weight2, bias2, act_bias, out_scale)
            plain = isinstance(gain, float) and gain == 1
            second = weight2.to(dtype), cast(constant, dtype) if plain else None
            kept, results = [], []
            for band in position_bands(x):
                hidden = mix_channels(band, *first)
                if not activation.startswith("gelu"):
                    hidden = _times(hidden.relu_(), 1 / _headroom(dtype), in_place=True)
                y = mix_channels(_activate(hidden, activation), *second)
                if not plain:
                    y = _times(y, gain, in_place=True)
                    y = y if constant is None else y.add_(by_channel(constant))
                kept.append(hidden)
                results.append(y)
            y = join_bands(results, x)
        ctx.unit = unit
        ctx.save_for_backward(x, weight1, weight2, bias2, act_scale, act_bias, out_scale, *kept)
        return y if out_scale is None else y.to(torch.promote_types(y.dtype, out_scale.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple:
        with without_autocast(grad):
            return _mlp_gradients(grad, ctx.saved_tensors, ctx)


def _mlp_gradients(grad: Tensor, saved: tuple, ctx: Any) -> tuple:
    x, weight1, weight2, bias2, act_scale, act_bias, out_scale, *kept = saved
    need_x, need_w1, need_b1, need_w2, need_b2, need_s, need_t, need_l, *_ = ctx.needs_input_grad
    squared, dtype = not ctx.activation.startswith("gelu"), x.dtype
    first, second = weight1.to(dtype), weight2.to(dtype)
    grad = grad.to(dtype)
    wide = _wide(weight2)  # sums of signed terms would lose digits in half precision
    # relu(h)**2 has the slope 2 relu(h), and kept is relu(h) / headroom
    gain = _gain(2 * _headroom(dtype) if squared else 1.0, act_scale, out_scale)

    product = grad_w1 = grad_b1 = None
    grads_x = []
    bands = (position_bands(t, len(kept)) for t in (grad, x))
    for grad_y, part, hidden in zip(*bands, kept, strict=True):
        if need_w2 or need_s or need_l:
            active = _activate(hidden, ctx.activation)
            _, found, _ = pointwise_gradients(grad_y, active, second, False, True, False)
            product = _accumulate(product, found)
            del active
        if need_x or need_w1 or need_b1:
            grad_y = _times(grad_y, gain, in_place=False)
            grad_hidden, _, _ = pointwise_gradients(grad_y, hidden, second, True, False, False)
            grad_hidden = _activation_gradient(grad_hidden, hidden, ctx.activation)
            grad_part, found, found_bias = pointwise_gradients(
                grad_hidden, part, first, need_x, need_w1, need_b1
            )
            del grad_hidden
            grads_x.append(grad_part)
            grad_w1 = _accumulate(grad_w1, found)
            grad_b1 = _accumulate(grad_b1, found_bias)
    grad_x = join_bands(grads_x, x) if need_x else None

    total = None
    if need_b2 or need_t or need_l or (need_w2 and act_bias is not None):
        total = grad.sum((0, 2, 3), dtype=wide)
    parts = (weight2, bias2, act_scale, act_bias, out_scale)
    folded = _fold_gradients(
        cast(product, wide), total, ctx.unit, *(cast(part, wide) for part in parts),
        needed=(need_w2, need_b2, need_s, need_t, need_l),
    )  # fmt: skip
    folded = [g if g is None else g.to(part.dtype) for g, part in zip(folded, parts, strict=True)]
    grad_w2, grad_b2, *grad_scales = folded
    return (
        cast(grad_x, ctx.input_dtype), cast(grad_w1, weight1.dtype), cast(grad_b1, weight1.dtype),
        grad_w2, grad_b2, *grad_scales, None, None,
    )  # fmt: skip


def _accumulate(total: Tensor | None, summand: Tensor | None) -> Tensor | None:
    return summand if total is None else total.add_(summand)


def _activation_gradient(grad: Tensor, kept: Tensor, activation: Activation) -> Tensor:
    """``grad`` times the slope of u, up to the number in front of it; overwrites ``grad``."""
    if not activation.startswith("gelu"):
        return grad.mul_(kept)
    approximate = "tanh" if activation == "gelu_tanh" else "none"
    return torch.ops.aten.gelu_backward.grad_input(
        grad, kept, approximate=approximate, grad_input=grad
    )


def _row_products(a: Tensor, b: Tensor) -> Tensor:
    """Scalar products of the rows of two matrices, some rows at a time to stay in cache."""
    rows = max(1, 2**17 // a.shape[1])
    parts = zip(a.split(rows), b.split(rows), strict=True)
    return torch.cat([torch.linalg.vecdot(*part) for part in parts])


def _fold_gradients(
    product: Tensor | None,
    total: Tensor | None,
    unit: float,
    weight2: Tensor,
    bias2: Tensor | None,
    act_scale: Tensor | None,
    act_bias: Tensor | None,
    out_scale: Tensor | None,
    needed: tuple[bool, ...],
) -> tuple:
    """Gradients of ``weight2, bias2, act_scale, act_bias, out_scale``.

    Args:
        product: P = dy u^T / unit, ``[C_out, hidden, 1, 1]``.
        total: Sum of dy over images and positions, ``[C_out]``.
        unit: What u was divided by.
    """
    need_w2, need_b2, need_s, need_t, need_l = needed
    grad_w2 = grad_b2 = grad_s = grad_t = grad_l = None
    factor = unit if act_scale is None else unit * act_scale
    row_sums = weight2.sum((1, 2, 3)) if act_bias is not None and (need_t or need_l) else None
    overlap = None
    if need_s or need_l:
        overlap = _row_products(product.flatten(1), weight2.flatten(1))
    scale = 1.0 if out_scale is None else out_scale
    if need_s:
        grad_s = (unit * overlap * scale).sum().view_as(act_scale)
    if need_t:
        grad_t = (total * scale * row_sums).sum().view_as(act_bias)
    if need_l:
        grad_l = factor * overlap
        if act_bias is not None:
            grad_l = grad_l + act_bias * total * row_sums
        if bias2 is not None:
            grad_l = grad_l + bias2 * total
    if need_w2:
        gain = _gain(unit, act_scale, out_scale)
        if isinstance(gain, Tensor):
            gain = gain.view(-1, 1, 1, 1)
        grad_w2 = product if isinstance(gain, float) and gain == 1 else product.mul_(gain)
        if act_bias is not None:
            grad_w2 = grad_w2.add_((act_bias * total * scale).view(-1, 1, 1, 1))
    if need_b2:
        grad_b2 = total * scale
    return grad_w2, grad_b2, grad_s, grad_t, grad_l
