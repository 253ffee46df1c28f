"""IoU class by class, counted pixel by pixel here."""

from __future__ import annotations

import math

import pytest
import torch
from mmengine.registry import METRICS

from mmplugins.evaluation.iou import PerClassIoUMetric

CLASSES = ("sky", "road", "car", "never")


def test_per_class():
    metric = METRICS.build(dict(type="mmplugins.evaluation.iou.PerClassIoUMetric"))
    assert isinstance(metric, PerClassIoUMetric)
    metric.dataset_meta = dict(classes=CLASSES)
    torch.manual_seed(0)
    pairs = [(torch.randint(0, 3, (1, 9, 7)), torch.randint(0, 3, (1, 9, 7))) for _ in range(4)]
    for predicted, label in pairs:
        label[0, 0, :3] = 255  # ignored
        sample = dict(pred_sem_seg=dict(data=predicted), gt_sem_seg=dict(data=label))
        metric.process({}, [sample])
    metrics = metric.evaluate(len(pairs))
    rows = metric.per_class["pixels"]
    for i, name in enumerate(CLASSES[:3]):
        both = either = own = 0
        for predicted, label in pairs:
            for p, t in zip(predicted.flatten().tolist(), label.flatten().tolist(), strict=True):
                if t != 255:
                    both += p == t == i
                    either += i in (p, t)
                    own += t == i
        assert rows[name]["IoU"] == pytest.approx(100 * both / either)
        assert rows[name]["Acc"] == pytest.approx(100 * both / own)
    assert math.isnan(rows["never"]["IoU"])
    known = [rows[name]["IoU"] for name in CLASSES[:3]]
    assert metrics["mIoU"] == pytest.approx(sum(known) / 3, abs=5.1e-3)
