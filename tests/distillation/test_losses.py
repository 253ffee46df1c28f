"""The formulas, against loops over single numbers and against closed results."""

from __future__ import annotations

import math

import pytest
import torch

from mmplugins.distillation.losses import (
    imitation_loss,
    relation_loss,
    soft_focal_loss,
    soft_label_loss,
)


def test_imitation_is_the_mean_square():
    a, b = torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[[[4.0, 0.0]]]])
    assert imitation_loss(a, b).item() == pytest.approx((9 + 4) / 2)


def test_imitation_computes_in_float32():
    a = torch.full((1, 1, 64, 64), 300.0, dtype=torch.float16)
    assert imitation_loss(a, -a).item() == pytest.approx(600.0**2)  # above float16's greatest


def test_relation_by_single_positions():
    torch.manual_seed(0)
    a, b = torch.randn(2, 3, 2, 2), torch.randn(2, 5, 2, 2)
    expected = 0.0
    for n in range(2):
        for p in range(4):
            for q in range(4):
                cosines = [
                    torch.cosine_similarity(
                        x[n, :, p // 2, p % 2], x[n, :, q // 2, q % 2], dim=0
                    ).item()
                    for x in (a, b)
                ]
                expected += (cosines[0] - cosines[1]) ** 2
    assert relation_loss(a, b).item() == pytest.approx(expected / (2 * 16), rel=1e-5)


def test_relation_averages_large_maps_down():
    a, b = torch.randn(1, 3, 8, 4), torch.randn(1, 3, 8, 4)
    small = [x.reshape(1, 3, 2, 4, 2, 2).mean((3, 5)) for x in (a, b)]
    assert relation_loss(a, b, side=2).item() == pytest.approx(
        relation_loss(*small).item(), rel=1e-5
    )
    assert relation_loss(a, b, side=2) != relation_loss(a, b)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_soft_labels_by_single_pixels(temperature):
    torch.manual_seed(0)
    a, b = torch.randn(2, 3, 2, 2, dtype=torch.float64), torch.randn(2, 3, 2, 2).double()
    expected = 0.0
    for n in range(2):
        for y in range(2):
            for x in range(2):
                p, q = ([math.exp(v / temperature) for v in t[n, :, y, x].tolist()] for t in (a, b))
                p, q = [v / sum(p) for v in p], [v / sum(q) for v in q]
                expected += sum(t * math.log(t / s) for s, t in zip(p, q, strict=True))
    expected *= temperature**2 / 8
    assert soft_label_loss(a, b, temperature).item() == pytest.approx(expected, rel=1e-5)


def test_soft_labels_of_equal_scores_cost_nothing_and_of_none_neither():
    a = torch.randn(4, 3)
    assert soft_label_loss(a, a + 5.0).item() == pytest.approx(0, abs=1e-6)
    none = torch.zeros(0, 3, requires_grad=True)
    loss = soft_label_loss(none, torch.zeros(0, 3))
    loss.backward()
    assert loss.item() == 0 and none.grad.shape == (0, 3)


def test_soft_focal_by_single_anchors():
    torch.manual_seed(0)
    a, b = torch.randn(6, 3), 2 * torch.randn(6, 3)
    total, objects = 0.0, 0.0
    for ours, theirs in zip(a.tolist(), b.tolist(), strict=True):
        scores = []
        for s, t in zip(ours, theirs, strict=True):
            p, q = 1 / (1 + math.exp(-s)), 1 / (1 + math.exp(-t))
            total -= abs(q - p) ** 1.5 * (q * math.log(p) + (1 - q) * math.log(1 - p))
            scores.append(q)
        objects += max(scores)
    assert objects > 1
    assert soft_focal_loss(a, b, gamma=1.5).item() == pytest.approx(total / objects, rel=1e-5)


def test_soft_focal_with_hard_targets_is_the_focal_loss():
    """With scores of 0 or 1 it is Lin et al.'s focal loss without alpha, as torchvision has it."""
    from torchvision.ops import sigmoid_focal_loss

    torch.manual_seed(0)
    a = torch.randn(5, 4)
    target = torch.zeros(5, 4)
    target[0, 1] = target[3, 2] = 1
    expected = sigmoid_focal_loss(a, target, alpha=-1, gamma=2.0, reduction="sum") / 2
    assert soft_focal_loss(a, 200 * target - 100).item() == pytest.approx(expected.item(), rel=1e-4)
