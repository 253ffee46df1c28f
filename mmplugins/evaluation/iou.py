"""mmseg's IoU metric with the result of every class kept."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.registry import METRICS
from mmseg.evaluation.metrics import IoUMetric


@METRICS.register_module()
class PerClassIoUMetric(IoUMetric):
    """mmseg's ``IoUMetric``, its arguments and its values.

    Attributes:
        per_class: After an evaluation, under ``'pixels'``, for each class its ``IoU`` and ``Acc``
            (recall) in percent; NaN for a class that neither the data nor the predictions have.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.per_class: dict[str, dict[str, dict[str, float]]] = {}

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Compute the metrics as mmseg does."""
        metrics = super().compute_metrics(results)
        if not self.format_only:
            intersection, union, _, label = (
                torch.stack(areas).double().sum(0) for areas in zip(*results, strict=True)
            )
            iou, recall = 100 * intersection / union, 100 * intersection / label
            names = self.dataset_meta["classes"]
            self.per_class["pixels"] = {
                name: dict(IoU=iou[i].item(), Acc=recall[i].item()) for i, name in enumerate(names)
            }
        return metrics
