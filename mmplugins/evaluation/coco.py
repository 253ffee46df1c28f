"""COCO's metric for mmdet: any ids, the matching by faster-coco-eval, every class's result kept."""

from __future__ import annotations

import contextlib
import io
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from numbers import Real
from typing import Any

import numpy as np
from faster_coco_eval import COCOeval_faster
from mmdet.datasets.api_wrappers import COCO
from mmdet.evaluation.metrics import CocoMetric, coco_metric
from mmengine.logging import print_log
from mmengine.registry import METRICS
from pycocotools.cocoeval import COCOeval

from mmplugins.compat.patches.patch import replaced
from mmplugins.utils import DataError, few


class AnyIdCOCO(COCO):
    """An index of a COCO file whose ids may be any numbers or texts, and that says what is wrong.

    Raises:
        DataError: If an id is missing, cannot be one, or belongs to two annotations.
    """

    def __init__(self, annotation_file: str | None = None) -> None:
        self._where = f"COCO file {annotation_file}"
        super().__init__(annotation_file)

    def createIndex(self) -> None:
        """Index as pycocotools does, once the ids are known to be some."""
        for kind in ("images", "categories"):
            if not isinstance(self.dataset.get(kind), list):
                raise DataError(self._where, f"has no list of {kind}: expected one")
            self._check_ids(kind, "id")
        self._check_ids("annotations", "id", "image_id", "category_id")
        images = {image["id"] for image in self.dataset["images"]}
        own = [a["id"] for a in self.dataset.get("annotations", ()) if a["image_id"] in images]
        twice = [one for one, count in Counter(own).items() if count > 1]
        if twice:
            raise DataError(
                self._where,
                f"several annotations have the id {few(twice)}: expected one of its own for each; "
                "number the annotations anew",
            )
        super().createIndex()

    def loadCats(self, ids: Any = ()) -> list[dict]:
        """Categories by one id or several; pycocotools takes a text for several."""
        several = isinstance(ids, list | tuple | np.ndarray)
        return [self.cats[one] for one in (ids if several else [ids])]

    def loadRes(self, found: list[dict]) -> COCO:
        """Index detections; pycocotools does not know what to do where there are none."""
        if found:
            return super().loadRes(found)
        nothing = COCO()
        nothing.dataset = dict(self.dataset, annotations=[])
        nothing.createIndex()
        return nothing

    def _check_ids(self, kind: str, *names: str) -> None:
        for position, one in enumerate(self.dataset.get(kind, ())):
            for name in names:
                value = one.get(name) if isinstance(one, dict) else None
                if not isinstance(value, Real | str):
                    raise DataError(
                        self._where,
                        f"{kind}[{position}] has {name}={value!r}: expected a number, best a whole "
                        "one, or a text",
                    )


class AnyIdCOCOeval(COCOeval):
    """pycocotools' evaluation of data with any ids, matched by faster-coco-eval.

    pycocotools takes an annotation of id 0 for no match, and faster-coco-eval whole ids only; so
    images, categories and annotations are numbered for them. Parameters, arrays
    (``eval['precision']``, ``eval['recall']``) and summary are pycocotools'. Unlike there, classes
    come in the order of ``params.catIds``, as mmdet takes them to, and ``evalImgs``, the matches
    image by image, is not filled.
    """

    def __init__(self, cocoGt: COCO, cocoDt: COCO, iouType: str = "segm") -> None:
        super().__init__(iouType=iouType)  # which would sort the ids, and cannot sort any
        self.cocoGt, self.cocoDt = cocoGt, cocoDt
        self.params.imgIds = list(_numbers(cocoGt.getImgIds()))
        self.params.catIds = list(_numbers(cocoGt.getCatIds()))

    def evaluate(self) -> None:
        """Match detections and ground truth, and accumulate the matches.

        Raises:
            DataError: If an annotation lacks what it is matched by.
        """
        params = self.params
        images, categories = _numbers(params.imgIds), _numbers(params.catIds)
        truth, found = (
            _numbered(data, images, categories, params.iouType)
            for data in (self.cocoGt, self.cocoDt)
        )
        matching = COCOeval_faster(truth, found, params.iouType)
        matching.params.__dict__.update(
            imgIds=list(images.values()),
            catIds=[categories[one] for one in params.catIds],
            maxDets=params.maxDets,
            iouThrs=np.asarray(params.iouThrs),
            recThrs=params.recThrs,
            areaRng=params.areaRng,
            areaRngLbl=params.areaRngLbl,
            useCats=params.useCats,
        )
        matching.evaluate()
        matching.accumulate()
        params.maxDets = sorted(params.maxDets)
        self.eval = dict(matching.eval, params=params)
        if params.useCats:
            params.catIds = list(dict.fromkeys(params.catIds))
            order = [categories[one] - 1 for one in params.catIds]
            self.eval["precision"] = self.eval["precision"][:, :, order]
            self.eval["recall"] = self.eval["recall"][:, order]

    def accumulate(self, p: Any = None) -> None:
        """Nothing: :meth:`evaluate` did both."""


@METRICS.register_module()
class FastCocoMetric(CocoMetric):
    """mmdet's ``CocoMetric``, its arguments and its values, several times faster.

    Two things differ. Annotations may have any ids, also 0, which mmdet's metric counts as not
    found, and texts. A detector that finds nothing scores 0; mmdet's metric then has no values.

    faster-coco-eval computes them. What is printed meanwhile goes to the log.

    Attributes:
        per_class: After an evaluation, for each kind of result (``'bbox'``, ``'segm'``) and each
            class its ``AP``, ``AP50`` and ``AP75``, from 0 to 1; NaN for a class that the data do
            not have.

    Raises:
        DataError: If the file lacks what it must have; the message names ids and remedy.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        with _own_parts(), contextlib.redirect_stdout(io.StringIO()):  # how long reading took
            super().__init__(*args, **kwargs)
        self.per_class: dict[str, dict[str, dict[str, float]]] = {}

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Compute the metrics as mmdet does."""
        done: list[COCOeval] = []
        said = io.StringIO()
        with _own_parts(done), contextlib.redirect_stdout(said):
            metrics = super().compute_metrics(results)
        print_log(said.getvalue(), "current")
        self.per_class = {
            one.params.iouType: self._by_class(one) for one in done if one.params.useCats
        }
        return metrics

    def _by_class(self, evaluation: COCOeval) -> dict[str, dict[str, float]]:
        """Average precision of every class, at all box sizes and most detections.

        Not mmdet's ``classwise``, which keeps AP alone, with three digits, of the last kind.
        """
        precision = evaluation.eval["precision"][:, :, :, 0, -1]  # IoU, recall, class
        thresholds = np.asarray(evaluation.params.iouThrs)
        columns = {"AP": np.full(len(thresholds), True)}
        columns["AP50"] = np.isclose(thresholds, 0.5)
        columns["AP75"] = np.isclose(thresholds, 0.75)
        names = [str(self._coco_api.cats[i]["name"]) for i in evaluation.params.catIds]
        return {
            name: {
                column: _mean(precision[rows][:, :, i])
                for column, rows in columns.items()
                if rows.any()
            }
            for i, name in enumerate(names)
        }


@contextlib.contextmanager
def _own_parts(done: list[COCOeval] | None = None) -> Iterator[None]:
    """Let mmdet's metric index and evaluate by the classes above; evaluations go to ``done``."""
    done = [] if done is None else done

    def evaluation(*args: Any) -> COCOeval:
        done.append(AnyIdCOCOeval(*args))
        return done[-1]

    with contextlib.ExitStack() as stack:
        stack.enter_context(replaced(coco_metric, "COCO", AnyIdCOCO))
        for name in ("COCOeval", "COCOevalMP"):
            stack.enter_context(replaced(coco_metric, name, evaluation))
        yield


def _numbers(ids: Iterable[Any]) -> dict[Any, int]:
    """A number from 1 for each id, in the order in which pycocotools sorts them."""
    ordered = sorted(set(ids), key=lambda one: (isinstance(one, str), one))
    return {one: number for number, one in enumerate(ordered, 1)}


def _numbered(data: COCO, images: dict, categories: dict, iou_type: str) -> COCO:
    """Ground truth or detections with numbers for ids, those of other images left out."""
    annotations: list[dict[str, Any]] = []
    for image, number in images.items():
        for one in data.imgToAnns.get(image, ()):
            if one["category_id"] in categories:
                _check_annotation(one, iou_type)
                annotations.append(
                    dict(
                        one,
                        id=len(annotations) + 1,
                        image_id=number,
                        category_id=categories[one["category_id"]],
                        iscrowd=int(one.get("iscrowd") or 0),
                    )
                )
    numbered = COCO()
    numbered.dataset = dict(
        images=[dict(data.imgs[image], id=number) for image, number in images.items()],
        categories=[dict(id=number) for number in categories.values()],
        annotations=annotations,
    )
    numbered.createIndex()
    return numbered


def _check_annotation(one: dict, iou_type: str) -> None:
    """Raise DataError for what would end inside of the libraries."""
    box = one.get("bbox")
    if not _is_number(one.get("area")):
        wrong, expected = f"area={one.get('area')!r}", "a number, in pixels"
    elif iou_type == "segm":
        if one.get("segmentation"):
            return
        wrong, expected = f"segmentation={one.get('segmentation')!r}", "polygons or RLE"
    elif isinstance(box, list | tuple) and len(box) == 4 and all(map(_is_number, box)):
        return
    else:
        wrong, expected = f"bbox={box!r}", "[x, y, width, height] in pixels"
    raise DataError(
        f"annotation {one['id']!r} of image {one['image_id']!r}",
        f"{wrong}: expected {expected}; correct the annotation file",
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and math.isfinite(value)


def _mean(precision: np.ndarray) -> float:
    """Mean over what could be measured; COCO marks the rest with -1."""
    measured = precision[precision > -1]
    return float(measured.mean()) if measured.size else float("nan")
