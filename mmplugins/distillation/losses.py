"""The formulas of distillation: plain tensors in, one number out, gradients to the student only.

Every function takes the student's tensor first and computes in float32. A loss is a mean over all
elements. It does not grow with the batch, the picture or the width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def imitation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared error between two feature maps of one shape.

    RIFormer's module imitation and hidden-state distillation: a squared Frobenius norm, divided by
    the number of elements.
    """
    return F.mse_loss(student.float(), teacher.float())


def relation_loss(student: Tensor, teacher: Tensor, side: int = 14) -> Tensor:
    """Mean squared error between the relations of positions, ``R = T T'`` of unit vectors.

    ``T [N, P, C]`` holds the positions of a feature map, each divided by its length.
    ``R [N, P, P]`` holds their cosines. ``R`` has no channels, so the two widths may differ. At
    dense resolutions there are too many positions (60,800 at stride 4 of 800x1216 pixels). So
    larger feature maps are averaged down first.

    Args:
        student: Feature map ``[N, C, H, W]``.
        teacher: Feature map ``[N, C', H, W]``.
        side: Greatest height and width that are compared. Defaults to 14, the size of stage 2 for
            a picture of 224 pixels.
    """
    ours, theirs = (_cosines(x.float(), side) for x in (student, teacher))
    return F.mse_loss(ours, theirs)


def _cosines(x: Tensor, side: int) -> Tensor:
    size = [min(length, side) for length in x.shape[-2:]]
    if size != list(x.shape[-2:]):
        x = F.adaptive_avg_pool2d(x, size)
    x = F.normalize(x.flatten(2), dim=1)
    return x.transpose(1, 2) @ x


def soft_label_loss(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Kullback-Leibler divergence from the teacher's class scores to the student's.

    Hinton et al., "Distilling the Knowledge in a Neural Network", arXiv 1503.02531: softmax of the
    logits over the temperature, times its square so that gradients keep their size.

    Args:
        student: Logits with the classes in dimension 1: ``[N, K, H, W]`` or ``[N, K]``.
        teacher: The same of the teacher.
        temperature: Above 1, the classes that the teacher does not choose count for more.
            Defaults to 1.

    Returns:
        The mean over pixels or rows; 0 if there are none.
    """
    ours = F.log_softmax(student.float() / temperature, dim=1)
    theirs = F.log_softmax(teacher.float() / temperature, dim=1)
    divergence = (theirs.exp() * (theirs - ours)).sum(1)
    return divergence.sum() * (temperature**2 / max(divergence.numel(), 1))


def soft_focal_loss(student: Tensor, teacher: Tensor, gamma: float = 2.0) -> Tensor:
    """Focal loss with the teacher's scores as soft targets, for independent (sigmoid) classes.

    ``|q - p|^gamma * BCE(p, q)`` with the teacher's score q and the student's p: the quality focal
    loss of Li et al., "Generalized Focal Loss", arXiv 2006.04388, eq. 5. Anchors that both call
    background add next to nothing. The focal loss is divided by the number of positive anchors.
    This one is divided by the number of objects that the teacher sees: the sum over anchors of the
    greatest score.

    Args:
        student: Logits ``[A, K]``, one row per anchor.
        teacher: The same of the teacher.
        gamma: Exponent of the difference. Defaults to 2.
    """
    target = teacher.float().sigmoid()
    entropy = F.binary_cross_entropy_with_logits(student.float(), target, reduction="none")
    focus = (target - student.float().sigmoid()).abs().pow(gamma)
    objects = target.amax(1).sum() if target.numel() else torch.zeros(())
    return (focus * entropy).sum() / objects.clamp(min=1.0)
