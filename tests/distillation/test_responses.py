"""The terms of scores, recomputed from what hooks of the test's own saw, and their demands."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from small_pairs import SCORES, Recorder, batch, distiller, model_config

from mmplugins.distillation import DistillationError


def divergence(ours, theirs, temperature):
    """Kullback-Leibler by torch's own function, mean over rows ``[N, K]``."""
    return torch.nn.functional.kl_div(
        (ours / temperature).log_softmax(1),
        (theirs / temperature).softmax(1),
        reduction="batchmean",
    ).item() * (temperature**2)


def test_pixels():
    task = "semantic-fpn"
    model = distiller(task, dict(pixel_scores=dict(weight=3.0, temperature=2.0)))
    point = "decode_head.conv_seg"
    ours, theirs = Recorder(model.student, point), Recorder(model.teacher, point)
    losses = model(*batch(task), mode="loss")
    rows = [x[point].permute(0, 2, 3, 1).flatten(0, 2) for x in (ours, theirs)]
    assert rows[0].shape == (2 * 16 * 16, 4)
    expected = 3 * divergence(*rows, 2.0)
    assert losses["loss_distill_pixel_scores"].item() == pytest.approx(expected, rel=1e-4)


def test_anchors():
    task = "retinanet"
    model = distiller(task, dict(anchor_scores=dict(weight=0.5, gamma=1.0)))
    ours, theirs = Recorder(model.student, "bbox_head"), Recorder(model.teacher, "bbox_head")
    losses = model(*batch(task), mode="loss")
    total, objects, anchors = 0.0, 0.0, 0
    for own, other in zip(ours["bbox_head"][0], theirs["bbox_head"][0], strict=True):
        n, channels, h, w = own.shape
        own, other = (x.detach().view(n, channels // 4, 4, h, w).sigmoid() for x in (own, other))
        entropy = -(other * own.log() + (1 - other) * (1 - own).log())
        total += ((other - own).abs() * entropy).sum().item()
        objects += other.max(2)[0].sum().item()
        anchors += own[:, :, 0].numel()
    assert anchors == 2 * 3 * (64 + 16 + 4)
    expected = 0.5 * total / max(objects, 1)
    assert losses["loss_distill_anchor_scores"].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_regions_of_the_student(temperature):
    task, head, extractor = "mask-rcnn", "roi_head.bbox_head", "roi_head.bbox_roi_extractor"
    model = distiller(task, dict(region_scores=dict(temperature=temperature)))
    ours = Recorder(model.student, head, extractor)
    theirs = Recorder(model.teacher, head, extractor)
    losses = model(*batch(task), mode="loss")
    rois = [records.inputs[extractor][0][1] for records in (ours, theirs)]
    assert torch.equal(*rois) and len(rois[0])
    expected = divergence(ours[head][0], theirs[head][0], temperature)
    assert losses["loss_distill_region_scores"].item() == pytest.approx(expected, rel=1e-3)


def test_regions_of_the_teacher():
    task, head, extractor = "mask-rcnn", "roi_head.bbox_head", "roi_head.bbox_roi_extractor"
    model = distiller(task, dict(region_scores=dict(proposals="teacher")))
    images, samples = batch(task)
    with torch.no_grad():
        found = model.teacher.rpn_head.predict(
            model.teacher.extract_feat(images), copy.deepcopy(samples), rescale=False
        )
    boxes = torch.cat([instances.bboxes for instances in found])
    ours = Recorder(model.student, head, extractor)
    theirs = Recorder(model.teacher, head, extractor)
    losses = model(images, samples, mode="loss")
    # The student's head runs twice: on what it learns from, and on the teacher's regions.
    (_, (_, rois)), (scores,) = ours.inputs[extractor], theirs.outputs[head]
    assert torch.equal(rois[:, 1:], boxes) and math.isclose(rois[:, 0].max(), 1)
    expected = divergence(ours.outputs[head][1][0], scores[0], 1.0)
    assert losses["loss_distill_region_scores"].item() == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("proposals", ["student", "teacher"])
def test_regions_of_a_cascade(proposals):
    from mmengine.config import Config
    from small_pairs import CONFIGS

    def cascade(kind):
        model = model_config("mask-rcnn", kind)
        full = Config.fromfile(CONFIGS / "_base_/models/cascade_mask_rcnn.py").model
        head = full.roi_head
        for box_head in head.bbox_head:
            box_head.update(type="Shared2FCBBoxHead", in_channels=16, fc_out_channels=16)
            box_head.update(num_classes=4, norm_cfg=None)
            for name in ("num_shared_convs", "num_shared_fcs", "conv_out_channels"):
                box_head.pop(name, None)
        head.bbox_roi_extractor.out_channels = 16
        for name in ("mask_head", "mask_roi_extractor"):
            head.pop(name)
        model.update(type="CascadeRCNN", roi_head=head)
        model.train_cfg.rcnn = full.train_cfg.rcnn
        return model

    model = distiller(
        "mask-rcnn",
        dict(region_scores=dict(proposals=proposals)),
        student=cascade("RIFormer"),
        teacher=cascade("PoolFormer"),
    )
    names = [f"roi_head.bbox_head.{i}" for i in range(3)]
    ours, theirs = Recorder(model.student, *names), Recorder(model.teacher, *names)
    losses = model(*batch("mask-rcnn"), mode="loss")
    expected = sum(
        divergence(ours.outputs[name][-1][0], theirs[name][0], 1.0) / 3 for name in names
    )
    assert losses["loss_distill_region_scores"].item() == pytest.approx(expected, rel=1e-3)


def with_classes(task, count):
    teacher = model_config(task, "PoolFormer")
    if task == "retinanet":
        teacher.bbox_head.num_classes = count
    elif task == "mask-rcnn":
        teacher.roi_head.bbox_head.num_classes = teacher.roi_head.mask_head.num_classes = count
    else:
        teacher.decode_head.num_classes = count
    return teacher


@pytest.mark.parametrize("task", SCORES)
def test_class_counts_differ(task):
    with pytest.raises(DistillationError, match="student has 4 classes, the teacher 7"):
        distiller(task, {SCORES[task]: {}}, teacher=with_classes(task, 7))
    model = distiller(task, dict(mixer={}), teacher=with_classes(task, 7))
    assert model(*batch(task), mode="loss")["loss_distill_mixer"] > 0


@pytest.mark.parametrize(
    ("task", "term"),
    [(task, term) for task in SCORES for term in SCORES.values() if term != SCORES[task]],
)
def test_a_term_for_another_task(task, term):
    with pytest.raises(DistillationError, match=f"{term}: the student .* has no "):
        distiller(task, {term: {}})


def test_anchors_differ():
    teacher = model_config("retinanet", "PoolFormer")
    teacher.bbox_head.anchor_generator.octave_base_scale = 4
    with pytest.raises(DistillationError, match="anchors of student and teacher differ"):
        distiller("retinanet", dict(anchor_scores={}), teacher=teacher)


@pytest.mark.parametrize(
    ("task", "settings", "message"),
    [
        ("semantic-fpn", dict(pixel_scores=dict(temperature=0)), "above 0"),
        ("retinanet", dict(anchor_scores=dict(gamma=-1)), "gamma=-1: expected a number from 0"),
        ("mask-rcnn", dict(region_scores=dict(proposals="both")), "'student' or 'teacher'"),
    ],
)
def test_wrong_settings(task, settings, message):
    with pytest.raises(DistillationError, match=message):
        distiller(task, settings)
