"""COCO's metric for mmdet, computed by faster-coco-eval, with the result of every class kept."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
from mmdet.evaluation.metrics import CocoMetric, coco_metric
from mmengine.logging import print_log
from mmengine.registry import METRICS
from pycocotools.cocoeval import COCOeval

from mmplugins.compat.patches.patch import replaced

try:
    from faster_coco_eval import COCOeval_faster
except ImportError:  # the results are the same, they come later
    COCOeval_faster = None

NOT_INSTALLED = (
    "faster-coco-eval is not installed: COCO's metric comes, with the same values, from "
    "pycocotools. `pip install faster-coco-eval` is faster"
)


class FastCOCOeval(COCOeval):
    """pycocotools' evaluation with matching and accumulation done by faster-coco-eval.

    Parameters, arrays (``eval['precision']``, ``eval['recall']``) and summary are pycocotools'.
    Unlike there, ``evalImgs``, the matches image by image, is not filled.
    """

    def evaluate(self) -> None:
        """Match detections and ground truth, and accumulate the matches."""
        fast = COCOeval_faster(self.cocoGt, self.cocoDt, self.params.iouType)
        fast.params.__dict__.update(
            imgIds=self.params.imgIds,
            catIds=self.params.catIds,
            maxDets=self.params.maxDets,
            iouThrs=np.asarray(self.params.iouThrs),
            recThrs=self.params.recThrs,
            areaRng=self.params.areaRng,
            areaRngLbl=self.params.areaRngLbl,
            useCats=self.params.useCats,
        )
        fast.evaluate()
        fast.accumulate()
        self.params.maxDets = sorted(self.params.maxDets)
        self.eval = dict(fast.eval, params=self.params)

    def accumulate(self, p: Any = None) -> None:
        """Nothing: :meth:`evaluate` did both."""


@METRICS.register_module()
class FastCocoMetric(CocoMetric):
    """mmdet's ``CocoMetric``, its arguments and its values, several times faster.

    faster-coco-eval computes them where it is installed, else pycocotools does. What the latter
    prints goes to the log.

    Attributes:
        per_class: After an evaluation, for each kind of result (``'bbox'``, ``'segm'``) and each
            class its ``AP``, ``AP50`` and ``AP75``, from 0 to 1; NaN for a class that the data do
            not have.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        with contextlib.redirect_stdout(io.StringIO()):  # how long reading the file took
            super().__init__(*args, **kwargs)
        self.per_class: dict[str, dict[str, dict[str, float]]] = {}

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Compute the metrics as mmdet does."""
        done: list[COCOeval] = []
        kind = COCOeval if COCOeval_faster is None else FastCOCOeval
        if COCOeval_faster is None:
            print_log(NOT_INSTALLED, "current")

        def evaluation(*args: Any) -> COCOeval:
            done.append(kind(*args))
            return done[-1]

        said = io.StringIO()
        with replaced(coco_metric, "COCOeval", evaluation), contextlib.redirect_stdout(said):
            metrics = super().compute_metrics(results)
        print_log(said.getvalue(), "current")
        self.per_class = {
            one.params.iouType: self._by_class(one) for one in done if one.params.useCats
        }
        return metrics

    def _by_class(self, evaluation: COCOeval) -> dict[str, dict[str, float]]:
        """Average precision of every class, at all box sizes and most detections."""
        precision = evaluation.eval["precision"][:, :, :, 0, -1]  # IoU, recall, class
        thresholds = np.asarray(evaluation.params.iouThrs)
        columns = {"AP": np.full(len(thresholds), True)}
        columns["AP50"] = np.isclose(thresholds, 0.5)
        columns["AP75"] = np.isclose(thresholds, 0.75)
        names = [self._coco_api.cats[i]["name"] for i in evaluation.params.catIds]
        return {
            name: {
                column: _mean(precision[rows][:, :, i])
                for column, rows in columns.items()
                if rows.any()
            }
            for i, name in enumerate(names)
        }


def _mean(precision: np.ndarray) -> float:
    """Mean over what could be measured; COCO marks the rest with -1."""
    measured = precision[precision > -1]
    return float(measured.mean()) if measured.size else float("nan")
