"""The fast COCO metric against pycocotools on random detections and masks."""

from __future__ import annotations

import contextlib
import io
import json
import math

import numpy as np
import pytest
from mmdet.evaluation.metrics import CocoMetric
from mmengine.registry import METRICS
from pycocotools import mask as masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mmplugins.evaluation import coco
from mmplugins.evaluation.coco import AnyIdCOCOeval, FastCocoMetric

CLASSES = ("cat", "dog", "cow", "never seen", "only crowds")
SIZE = 160


def random_box(rng, smallest=4):
    x, y = rng.uniform(0, SIZE - 30, 2)
    w, h = rng.uniform(smallest, [SIZE - x, SIZE - y])
    return [float(v) for v in (x, y, w, h)]


def nudged(box, rng):
    x, y, w, h = (max(0.0, v + rng.normal(0, 3)) for v in box)
    return [x, y, max(w, 1.0), max(h, 1.0)]


def polygon(box):
    x, y, w, h = box
    return [[x, y, x + w, y, x + w, y + h * 0.6, x + w / 2, y + h, x, y + h]]


def rle(box):
    encoded = masks.merge(masks.frPyObjects(polygon(box), SIZE, SIZE))
    return dict(size=encoded["size"], counts=encoded["counts"].decode())


def ground_truth(rng, pictures):
    annotations = []
    for image in range(1, pictures + 1):
        for _ in range(rng.integers(0, 12)):
            label = int(rng.choice([1, 2, 3, 5]))
            crowd = int(label == 5 or rng.random() < 0.15)
            box = random_box(rng)
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image,
                    category_id=label,
                    bbox=box,
                    area=box[2] * box[3],
                    iscrowd=crowd,
                    segmentation=rle(box) if crowd else polygon(box),
                )
            )
    return dict(
        info={},
        images=[dict(id=i + 1, width=SIZE, height=SIZE, file_name="") for i in range(pictures)],
        categories=[dict(id=i + 1, name=name) for i, name in enumerate(CLASSES)],
        annotations=annotations,
    )


def predictions(rng, truth, many=0):
    """Near hits, misses, wrong classes, ties of scores; one picture is left empty."""
    found = []
    for one in truth["annotations"]:
        for _ in range(rng.integers(0, 3)):
            label = one["category_id"] if rng.random() < 0.8 else int(rng.integers(1, 6))
            found.append((one["image_id"], label, nudged(one["bbox"], rng)))
    for _ in range(30 + many):
        image = 2 if many else int(rng.integers(1, len(truth["images"])))
        found.append((image, int(rng.integers(1, 6)), random_box(rng)))
    return [
        dict(image_id=i, category_id=c, bbox=b, score=round(float(rng.random()), 2))
        for i, c, b in found
        if i != len(truth["images"])
    ]


def evaluate(kind, truth, found, iou_type, **params):
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO()
        gt.dataset = json.loads(json.dumps(truth))
        gt.createIndex()
        found = json.loads(json.dumps(found))
        if iou_type == "segm":
            for one in found:
                one["segmentation"] = rle(one.pop("bbox"))
        evaluation = kind(gt, gt.loadRes(found), iou_type)
        vars(evaluation.params).update(params)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@pytest.mark.parametrize("params", [{}, dict(maxDets=[100, 300, 1000]), dict(useCats=0)])
def test_equal_to_pycocotools(iou_type, params):
    rng = np.random.default_rng(5)
    for many in (0, 250):  # more detections in a picture than the first limit
        truth = ground_truth(rng, 8)
        found = predictions(rng, truth, many)
        theirs = evaluate(COCOeval, truth, found, iou_type, **params)
        ours = evaluate(AnyIdCOCOeval, truth, found, iou_type, **params)
        np.testing.assert_allclose(ours.stats, theirs.stats, rtol=0, atol=1e-9)
        for name in ("precision", "recall"):
            mine, other = ours.eval[name], theirs.eval[name]
            assert mine.shape == other.shape and (other > 0).any()
            np.testing.assert_allclose(mine, other, rtol=0, atol=1e-9)


def samples(truth, found):
    for image in truth["images"]:
        mine = [one for one in found if one["image_id"] == image["id"]]
        boxes = np.array([one["bbox"] for one in mine]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        pred = dict(
            bboxes=Tensor(boxes),
            scores=Tensor([one["score"] for one in mine]),
            labels=Tensor([one["category_id"] - 1 for one in mine]),
            masks=[rle(one["bbox"]) for one in mine],
        )
        yield dict(img_id=image["id"], ori_shape=(SIZE, SIZE), pred_instances=pred)


class Tensor:
    """As much of a tensor as the metric asks for."""

    def __init__(self, values):
        self.values = np.array(values)

    def cpu(self):
        return self

    def numpy(self):
        return self.values


def metrics_of(kind, truth, found, path, **kwargs):
    path.write_text(json.dumps(truth))
    metric = kind(ann_file=str(path), metric=["bbox", "segm"], **kwargs)
    metric.dataset_meta = dict(classes=CLASSES)
    metric.process({}, samples(truth, found))
    return metric, metric.evaluate(len(truth["images"]))


def test_metric_is_mmdets(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(1)
    truth = ground_truth(rng, 6)
    found = predictions(rng, truth)
    _, theirs = metrics_of(CocoMetric, truth, found, tmp_path / "gt.json", classwise=True)
    capsys.readouterr()
    log = []
    monkeypatch.setattr(coco, "print_log", lambda text, *args: log.append(text))
    metric, ours = metrics_of(FastCocoMetric, truth, found, tmp_path / "gt.json", classwise=True)
    assert "Average Precision" in log[-1] and "Average" not in capsys.readouterr().out
    assert ours == pytest.approx(theirs, nan_ok=True) and ours["coco/segm_mAP"] > 0.05
    for name in CLASSES:  # mmdet's classwise values are those of the last kind, of three digits
        rounded, exact = theirs[f"coco/{name}_precision"], metric.per_class["segm"][name]["AP"]
        assert exact == pytest.approx(rounded, abs=5.1e-4, nan_ok=True)
    assert math.isnan(metric.per_class["bbox"]["never seen"]["AP50"])
    mean = np.nanmean([row["AP75"] for row in metric.per_class["bbox"].values()])
    assert mean == pytest.approx(ours["coco/bbox_mAP_75"], abs=5.1e-4)


def test_type_in_a_config(tmp_path):
    path = tmp_path / "gt.json"
    path.write_text(json.dumps(ground_truth(np.random.default_rng(0), 2)))
    cfg = dict(type="mmplugins.evaluation.coco.FastCocoMetric", ann_file=str(path))
    assert isinstance(METRICS.build(cfg), FastCocoMetric)
