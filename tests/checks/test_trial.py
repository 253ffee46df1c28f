"""What one training step brings out."""

from __future__ import annotations

import pytest
from breaking import changed, faults
from mmengine.registry import MODELS
from torch import Tensor, nn


class SteepLoss(nn.Module):
    """Zero, with a gradient that is not a number."""

    loss_weight = 1.0

    def forward(self, pred: Tensor, *args: Tensor, **options: object) -> Tensor:
        return (pred * 0).sum().sqrt()


@pytest.mark.parametrize(
    ("wrapper", "status", "remedy"),
    [
        ("OptimWrapper", "failure", "expected finite gradients where losses are finite"),
        ("AmpOptimWrapper", "warning", "write OptimWrapper, or dtype='bfloat16'"),
    ],
)
def test_gradients_that_are_not_finite(healthy, monkeypatch, wrapper, status, remedy):
    monkeypatch.setitem(MODELS._module_dict, "SteepLoss", SteepLoss)
    changes = {"model.bbox_head.loss_bbox": dict(type="SteepLoss"), "optim_wrapper.type": wrapper}
    found = [r for r in faults(changed(healthy["retinanet"], changes)) if "finite" in r.message]
    assert [(r.name, r.status) for r in found] == [("training step", status)]
    assert "the gradient of neck." in found[0].message or "backbone." in found[0].message
    assert remedy in found[0].message


def test_a_step_that_is_too_long(healthy):
    changes = {
        "optim_wrapper.optimizer": dict(type="SGD", lr=1e38),
        "model.bbox_head.loss_bbox.loss_weight": 1e4,
    }
    found = faults(changed(healthy["retinanet"], changes))
    assert any("infinite: lower lr" in r.message and r.status == "failure" for r in found)
