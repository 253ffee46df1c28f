"""Focal loss and its gradient (Lin et al., 2017, https://arxiv.org/abs/1708.02002, section 3).

Logarithms are computed from the logits. Compiled mmcv computes them from a rounded probability of
at least 1e-38, which is wrong for logits beyond about 16.
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from .dispatch import extension_op, widen


@extension_op
def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Write the loss of every sample and class into ``output``.

    Args:
        input: Logits of shape (N, C).
        target: Class of each sample, int64 of shape (N,); values outside 0..C-1 are background.
        weight: Weight per class, shape (C,), or no element for none. A sample has the weight of
            its class, background 1.
        output: Shape (N, C); overwritten.
        gamma: Focusing exponent, the paper's 2.
        alpha: Weight of the positive term, the paper's 0.25; the negative one has 1 - alpha.
    """
    input, weight = widen(input, weight)
    p, q = input.sigmoid(), (-input).sigmoid()
    positive = -alpha * q**gamma * logsigmoid(input)
    negative = (alpha - 1) * p**gamma * logsigmoid(-input)
    loss = torch.where(_is_target(target, input.size(1)), positive, negative)
    output.copy_(loss * _sample_weight(weight, target))


@extension_op
def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Write the derivative of each loss by its logit into ``grad_input``.

    Args:
        input: Logits of shape (N, C).
        target: As in :func:`sigmoid_focal_loss_forward`, as the rest.
        weight: Weight per class, or no element.
        grad_input: Shape (N, C); overwritten.
        gamma: Focusing exponent.
        alpha: Weight of the positive term.
    """
    input, weight = widen(input, weight)
    p, q = input.sigmoid(), (-input).sigmoid()
    positive = alpha * q**gamma * (gamma * p * logsigmoid(input) - q)
    negative = (1 - alpha) * p**gamma * (p - gamma * q * logsigmoid(-input))
    gradient = torch.where(_is_target(target, input.size(1)), positive, negative)
    grad_input.copy_(gradient * _sample_weight(weight, target))


@extension_op
def softmax_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Write the loss of every sample into ``output``.

    Args:
        input: Probabilities (after the softmax) of shape (N, C).
        target: Class of each sample, int64 of shape (N,); negative ones are ignored: loss 0.
        weight: Weight per class, shape (C,), or no element for none.
        output: Shape (N,); overwritten.
        gamma: Focusing exponent.
        alpha: Weight of every term.
    """
    input, weight = widen(input, weight)
    p = _target_probability(input, target)
    loss = -alpha * (1 - p) ** gamma * _log(p)
    output.copy_(torch.where(target >= 0, loss * _sample_weight(weight, target)[:, 0], 0))


@extension_op
def softmax_focal_loss_backward(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    buff: Tensor,
    grad_input: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Write the derivative of each sample's loss by its logits into ``grad_input``.

    Args:
        input: Probabilities (after the softmax) of shape (N, C).
        target: As in :func:`softmax_focal_loss_forward`, as the rest.
        weight: Weight per class, or no element.
        buff: Shape (N,); overwritten with p times the derivative by the target's probability p.
        grad_input: Shape (N, C); overwritten.
        gamma: Focusing exponent.
        alpha: Weight of every term.
    """
    input, weight = widen(input, weight)
    p = _target_probability(input, target)
    q = 1 - p
    # q ** (gamma - 1) is infinite at q = 0 for gamma < 1, where its factor log(p) is zero.
    slope = gamma * q.clamp(min=torch.finfo(q.dtype).tiny) ** (gamma - 1) * p * _log(p)
    by_p = alpha * (slope - q**gamma) * _sample_weight(weight, target)[:, 0]
    by_p = torch.where(target >= 0, by_p, 0)
    buff.copy_(by_p)
    grad_input.copy_(by_p[:, None] * (_is_target(target, input.size(1)).to(p.dtype) - input))


def _is_target(target: Tensor, num_classes: int) -> Tensor:
    """Bool of shape (N, C): whether a class is the sample's own."""
    return target[:, None] == torch.arange(num_classes, device=target.device)


def _sample_weight(weight: Tensor, target: Tensor) -> Tensor:
    """Weight of each sample's class, shape (N, 1); 1 without weights and for background."""
    if not weight.numel():
        return weight.new_ones(1, 1)
    known = (target >= 0) & (target < weight.numel())
    return torch.where(known, weight[target.where(known, target.new_zeros(()))], 1)[:, None]


def _target_probability(probability: Tensor, target: Tensor) -> Tensor:
    """Probability of each sample's class, shape (N,); that of class 0 for ignored samples."""
    return probability.gather(1, target.clamp(min=0)[:, None])[:, 0]


def _log(p: Tensor) -> Tensor:
    """Logarithm of probabilities that may have underflowed to zero."""
    return p.clamp(min=torch.finfo(torch.float32).tiny).log()
