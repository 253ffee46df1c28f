"""The terms of distillation that compare class scores: of pixels, of anchors, of regions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .errors import DistillationError
from .losses import soft_focal_loss, soft_label_loss
from .terms import Step, Term, at_size, shapes


class PixelScores(Term):
    """Compares the class scores of pixels, in segmentors such as Semantic FPN and UPerNet.

    It does so at the resolution of the head, a quarter of the picture's.

    Args:
        weight: Factor of the loss. Defaults to 1.
        temperature: Of the softmax, see :func:`.losses.soft_label_loss`. Defaults to 1.
        **schedule: ``warmup``, ``decay``, ``until`` of :class:`.terms.Term`.
    """

    def __init__(self, weight: float = 1.0, *, temperature: float = 1.0, **schedule: Any):
        super().__init__(weight, **schedule)
        self.temperature = _positive(temperature)

    def bind(self, student: nn.Module, teacher: nn.Module) -> None:
        """Check the decode heads."""
        heads = _heads("pixel_scores", "decode_head", student, teacher)
        for role, head in zip(("student", "teacher"), heads, strict=True):
            if getattr(getattr(head, "conv_seg", None), "out_channels", 0) < 2:
                raise DistillationError(
                    f"pixel_scores: {type(head).__name__} of the {role} has no layer conv_seg with "
                    "a channel per class: leave the term out"
                )
        _check_classes("pixel_scores", *heads)
        # mmseg calls the head's forward method directly, so that a hook of the head does not run.
        self.student_points = ["decode_head.conv_seg"]

    def forward(self, step: Step) -> Tensor:
        """Mean over pixels."""
        ours = step.own["decode_head.conv_seg"].output
        theirs = step.teacher.decode_head.forward(step.features)
        return soft_label_loss(ours, at_size(theirs, ours), self.temperature)


class AnchorScores(Term):
    """Compares the class scores of anchors, in one-stage detectors such as RetinaNet.

    Args:
        weight: Factor of the loss. Defaults to 1.
        gamma: Exponent of the focus, see :func:`.losses.soft_focal_loss`. Defaults to 2.
        **schedule: ``warmup``, ``decay``, ``until`` of :class:`.terms.Term`.
    """

    def __init__(self, weight: float = 1.0, *, gamma: float = 2.0, **schedule: Any):
        super().__init__(weight, **schedule)
        if gamma < 0:
            raise DistillationError(f"gamma={gamma}: expected a number from 0")
        self.gamma = gamma

    def bind(self, student: nn.Module, teacher: nn.Module) -> None:
        """Check that both heads judge the same anchors."""
        heads = _heads("anchor_scores", "bbox_head", student, teacher)
        for role, head in zip(("student", "teacher"), heads, strict=True):
            if not getattr(head, "use_sigmoid_cls", False):
                raise DistillationError(
                    f"anchor_scores: {type(head).__name__} of the {role} has no independent "
                    "(sigmoid) class scores: leave the term out"
                )
        _check_classes("anchor_scores", *heads)
        anchors = [repr(getattr(head, "prior_generator", None)) for head in heads]
        if anchors[0] != anchors[1]:
            raise DistillationError(
                "anchor_scores: the anchors of student and teacher differ:\n"
                f"  student: {anchors[0]}\n  teacher: {anchors[1]}\nGive both heads the same "
                "anchor_generator"
            )
        self.classes = heads[0].cls_out_channels
        self.student_points = ["bbox_head"]

    def forward(self, step: Step) -> Tensor:
        """Sum over anchors and classes per object that the teacher sees."""
        ours = step.own["bbox_head"].output[0]
        theirs = step.teacher.bbox_head(step.features)[0]
        if [x.shape for x in ours] != [x.shape for x in theirs]:
            raise DistillationError(
                "anchor_scores: scores of different shapes:\n"
                f"  student: {shapes(ours)}\n  teacher: {shapes(theirs)}"
            )
        return soft_focal_loss(self.rows(ours), self.rows(theirs), self.gamma)

    def rows(self, levels: Sequence[Tensor]) -> Tensor:
        """All anchors of all levels ``[N, A * K, H, W]`` as rows ``[anchors, K]``."""
        maps = [level.permute(0, 2, 3, 1).reshape(-1, self.classes) for level in levels]
        return torch.cat(maps)


class RegionScores(Term):
    """Compares the class scores of regions, background included, in two-stage detectors.

    The box heads of both models judge the same regions. The loss is the mean over the box heads, of
    which a cascade has three.

    Args:
        weight: Factor of the loss. Defaults to 1.
        temperature: Of the softmax, see :func:`.losses.soft_label_loss`. Defaults to 1.
        proposals: Whose regions. Those of the ``'student'`` are the sampled ones that it learns
            from. Those of the ``'teacher'`` are all that it proposes, and the student's box heads
            run once more for them. Defaults to ``'student'``.
        **schedule: ``warmup``, ``decay``, ``until`` of :class:`.terms.Term`.
    """

    def __init__(
        self,
        weight: float = 1.0,
        *,
        temperature: float = 1.0,
        proposals: Literal["student", "teacher"] = "student",
        **schedule: Any,
    ):
        super().__init__(weight, **schedule)
        if proposals not in ("student", "teacher"):
            raise DistillationError(f"proposals={proposals!r}: expected 'student' or 'teacher'")
        self.temperature, self.proposals = _positive(temperature), proposals

    def bind(self, student: nn.Module, teacher: nn.Module) -> None:
        """Check the box heads."""
        roi_heads = _heads("region_scores", "roi_head", student, teacher)
        ours, theirs = (_box_heads(head) for head in roi_heads)
        if len(ours) != len(theirs) or not ours:
            raise DistillationError(
                "region_scores: the box heads of student and teacher cannot be matched:\n"
                f"  student: {[type(head).__name__ for _, _, head in ours]}\n"
                f"  teacher: {[type(head).__name__ for _, _, head in theirs]}"
            )
        for (_, _, a), (_, _, b) in zip(ours, theirs, strict=True):
            _check_classes("region_scores", a, b)
            if any(getattr(head.loss_cls, "use_sigmoid", False) for head in (a, b)):
                raise DistillationError(
                    "region_scores: the box heads have independent (sigmoid) class scores: "
                    "expected softmax; leave the term out"
                )
        if self.proposals == "student":
            self.student_points = [n for suffix, _, _ in ours for n in _names(suffix)]
        else:
            if getattr(teacher, "rpn_head", None) is None:
                raise DistillationError("proposals='teacher': the teacher has no rpn_head")
            self.levels = "backbone" if getattr(student, "neck", None) is None else "neck"
            self.student_points = [self.levels]

    def forward(self, step: Step) -> Tensor:
        """Mean over regions and heads."""
        ours, theirs = (_box_heads(m.roi_head) for m in (step.student, step.teacher))
        proposed = _proposed(step) if self.proposals == "teacher" else None
        losses = []
        for (suffix, extractor, head), (_, its, judge) in zip(ours, theirs, strict=True):
            if proposed is None:
                regions, classified = (step.own[name] for name in _names(suffix))
                rois, scores = regions.args[1].detach(), classified.output[0]
            else:
                rois, levels = proposed, step.own[self.levels].output
                scores = _scores(step.student.roi_head, extractor, head, levels, rois)
            with torch.no_grad():
                target = _scores(step.teacher.roi_head, its, judge, step.features, rois)
            losses.append(soft_label_loss(scores, target, self.temperature))
        return sum(losses) / len(losses)


def _names(suffix: str) -> tuple[str, str]:
    return f"roi_head.bbox_roi_extractor{suffix}", f"roi_head.bbox_head{suffix}"


def _box_heads(roi_head: nn.Module) -> list[tuple[str, nn.Module, nn.Module]]:
    """``(suffix of the names, extractor, box head)``, one for each step of a cascade."""
    extractor = getattr(roi_head, "bbox_roi_extractor", None)
    head = getattr(roi_head, "bbox_head", None)
    if isinstance(head, nn.ModuleList) and extractor is not None:
        return [(f".{i}", e, h) for i, (e, h) in enumerate(zip(extractor, head, strict=True))]
    return [] if head is None or extractor is None else [("", extractor, head)]


def _scores(
    roi_head: nn.Module,
    extractor: nn.Module,
    head: nn.Module,
    levels: Sequence[Tensor],
    rois: Tensor,
) -> Tensor:
    """Class logits ``[regions, K + 1]``."""
    maps = extractor(levels[: extractor.num_inputs], rois)
    if getattr(roi_head, "with_shared_head", False):
        maps = roi_head.shared_head(maps)
    return head(maps)[0]


@torch.no_grad()
def _proposed(step: Step) -> Tensor:
    """The teacher's regions as rows (number of the picture, x1, y1, x2, y2), in pixels."""
    from mmdet.structures.bbox import bbox2roi

    found = step.teacher.rpn_head.predict(step.features, step.data_samples, rescale=False)
    return bbox2roi([instances.bboxes for instances in found])


def _heads(term: str, name: str, *models: nn.Module) -> list[nn.Module]:
    heads = [getattr(model, name, None) for model in models]
    for role, model, head in zip(("student", "teacher"), models, heads, strict=True):
        if not isinstance(head, nn.Module) or isinstance(head, nn.ModuleList):
            raise DistillationError(
                f"{term}: the {role} {type(model).__name__} has no {name}; pixel_scores are for "
                "segmentors, anchor_scores for one-stage, region_scores for two-stage detectors"
            )
    return heads


def _check_classes(term: str, student: nn.Module, teacher: nn.Module) -> None:
    counts = student.num_classes, teacher.num_classes
    if counts[0] != counts[1]:
        raise DistillationError(
            f"{term}: the student has {counts[0]} classes, the teacher {counts[1]}: take a teacher "
            "of the same data, or leave the term out"
        )


def _positive(temperature: float) -> float:
    if temperature <= 0:
        raise DistillationError(f"temperature={temperature}: expected a number above 0")
    return temperature
