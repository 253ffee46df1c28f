"""One picture predicted and judged: metrics that belong to another task or do not exist."""

from __future__ import annotations

import re

import pytest
from breaking import changed, faults

IOU = dict(type="mmseg.IoUMetric", iou_metrics=["mIoU"])


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize(
    ("name", "evaluator", "message"),
    [
        ("retinanet", IOU, "'mmseg.IoUMetric', which judges pred_sem_seg, but RetinaNet.*'CocoM"),
        (
            "semantic_fpn",
            dict(type="mmdet.CocoMetric", ann_file="instances_val.json", metric="bbox"),
            "'mmdet.CocoMetric', which judges pred_instances, but EncoderDecoder.*'IoUMetric'",
        ),
    ],
)
def test_an_evaluator_of_the_other_task(healthy, shapes, split, name, evaluator, message):
    if "ann_file" in evaluator:
        evaluator = evaluator | dict(ann_file=f"{shapes}/annotations/instances_val.json")
    (found,) = faults(changed(healthy[name], {f"{split}_evaluator": evaluator}))
    assert (found.name, found.status) == ("validation", "failure")
    assert re.search(f"{split}_evaluator: is {message}", found.message), found.message


def test_of_several_evaluators_the_wrong_one_is_named(healthy):
    own = healthy["retinanet"].val_evaluator
    (found,) = faults(changed(healthy["retinanet"], {"val_evaluator": [own, IOU]}))
    assert found.message.startswith("val_evaluator[1]: is 'mmseg.IoUMetric'")


def test_a_stop_by_what_is_not_measured(healthy):
    hook = dict(type="EarlyStoppingHook", monitor="bbox_mAP", rule="greater")
    (found,) = faults(changed(healthy["retinanet"], {"custom_hooks": [hook]}))
    assert found.message.startswith("custom_hooks[0].monitor: is 'bbox_mAP', which is none of")
    assert "Did you mean 'coco/bbox_mAP'?" in found.message
    hook["monitor"] = "coco/bbox_mAP"
    assert faults(changed(healthy["retinanet"], {"custom_hooks": [hook]})) == []


@pytest.mark.parametrize("part", ["train_cfg", "test_cfg"])
def test_a_detector_without_settings(healthy, part):
    (found,) = faults(changed(healthy["retinanet"], {f"model.{part}": None}))
    assert f"model.{part} is absent: give that of a recipe for RetinaNet" in found.message
