"""Operators that torch.onnx does not translate itself: suppression of boxes, and RoIAlign.

Suppression is an operator of its own with a result of fixed shape, a mask of what stays. In
PyTorch it is torchvision's NMS, in ONNX ``NonMaxSuppression`` and ``ScatterND``: all classes and
pictures of a batch at once, without the shifts of boxes by which mmcv tells classes apart.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision.ops import nms

OPSET = 20
"""Version of ONNX's operators in exported files."""


@torch.library.custom_op(
    "mmplugins::suppress",
    mutates_args=(),
    # torch 2.4 does not read annotations that are kept as text.
    schema="(Tensor boxes, Tensor scores, float iou_threshold, float score_threshold) -> Tensor",
)
def suppress(boxes: Tensor, scores: Tensor, iou_threshold: float, score_threshold: float) -> Tensor:
    """Which boxes stay, class by class, when those that overlap a better one go.

    Args:
        boxes: ``[B, K, 4]``, ``x0, y0, x1, y1``.
        scores: ``[B, C, K]``; each class has its own, for the same boxes.
        iou_threshold: Boxes that overlap a better one by more go.
        score_threshold: Boxes with this score or less go.

    Returns:
        ``[B, C, K]``, 1.0 for what stays, else 0.0.
    """
    keep = torch.zeros_like(scores)
    for image, (of_image, by_class) in enumerate(zip(boxes, scores, strict=True)):
        for label, values in enumerate(by_class):
            index = (values > score_threshold).nonzero().squeeze(1)
            stays = nms(of_image[index], values[index], iou_threshold)
            keep[image, label, index[stays]] = 1.0
    return keep


@suppress.register_fake
def _(boxes: Tensor, scores: Tensor, iou_threshold: float, score_threshold: float) -> Tensor:
    return torch.empty_like(scores)


def translations() -> dict[Any, Any]:
    """The operators in ONNX, for ``torch.onnx.export(custom_translation_table=...)``."""
    from onnxscript import opset20 as op
    from onnxscript.onnx_types import TensorType  # noqa: F401 - the package is whole

    def onnx_suppress(boxes, scores, iou_threshold, score_threshold):  # noqa: ANN001, ANN202
        shape = op.Shape(scores)
        most = op.Gather(shape, op.Constant(value_ints=[2]))
        chosen = op.NonMaxSuppression(
            boxes,
            scores,
            most,
            op.Constant(value_floats=[float(iou_threshold)]),
            op.Constant(value_floats=[float(score_threshold)]),
        )
        count = op.Gather(op.Shape(chosen), op.Constant(value_ints=[0]))
        ones = op.Expand(op.Constant(value_floats=[1.0]), count)
        zeros = op.Expand(op.Constant(value_floats=[0.0]), shape)
        return op.ScatterND(zeros, chosen, ones)

    def onnx_roi_align(  # noqa: ANN202
        maps,  # noqa: ANN001
        regions,  # noqa: ANN001
        spatial_scale,  # noqa: ANN001
        pooled_height,  # noqa: ANN001
        pooled_width,  # noqa: ANN001
        sampling_ratio,  # noqa: ANN001
        aligned,  # noqa: ANN001
    ):
        images = op.Gather(regions, op.Constant(value_int=0), axis=1)
        corners = op.Slice(
            regions,
            op.Constant(value_ints=[1]),
            op.Constant(value_ints=[5]),
            op.Constant(value_ints=[1]),
        )
        return op.RoiAlign(
            maps,
            corners,
            op.Cast(images, to=7),  # int64
            coordinate_transformation_mode="half_pixel" if aligned else "output_half_pixel",
            output_height=pooled_height,
            output_width=pooled_width,
            sampling_ratio=max(sampling_ratio, 0),
            spatial_scale=spatial_scale,
        )

    return {
        torch.ops.mmplugins.suppress.default: onnx_suppress,
        torch.ops.torchvision.roi_align.default: onnx_roi_align,
    }
