"""The number of positives that anchor heads divide by, over all processes."""

from __future__ import annotations

import mmengine.dist
import pytest
import torch
from mmdet.models.dense_heads import RetinaHead
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

import mmplugins  # noqa: F401


def factor() -> float:
    assigner = dict(
        type="mmdet.MaxIoUAssigner",
        pos_iou_thr=0.5,
        neg_iou_thr=0.4,
        min_pos_iou=0,
        ignore_iof_thr=-1,
    )
    head = RetinaHead(
        2,
        4,
        train_cfg=dict(
            assigner=assigner,
            sampler=dict(type="mmdet.PseudoSampler"),
            allowed_border=-1,
            pos_weight=-1,
            debug=False,
        ),
    )
    sizes = [(8, 8), (4, 4), (2, 2), (1, 1), (1, 1)]
    metas = [dict(img_shape=(64, 64), pad_shape=(64, 64))]
    anchors, valid = head.get_anchors(sizes, metas, device="cpu")
    box = InstanceData(bboxes=torch.tensor([[8.0, 8, 40, 40]]), labels=torch.tensor([1]))
    return head.get_targets(anchors, valid, [box], metas)[4]


@pytest.fixture(autouse=True)
def in_mmdet():
    with DefaultScope.overwrite_default_scope("mmdet"):
        yield


def test_mean_over_processes(monkeypatch):
    alone = factor()
    assert alone > 1
    monkeypatch.setattr(mmengine.dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(mmengine.dist, "all_reduce", lambda value, op: value.add_(3).div_(2))
    assert factor() == pytest.approx((alone + 3) / 2)
