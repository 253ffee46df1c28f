"""COCO's metric on odd but legal files: ids of any kind, and truth scored against itself."""

from __future__ import annotations

import json
import uuid

import numpy as np
import pytest
import torch
from mmdet.evaluation.metrics import CocoMetric
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from mmplugins.evaluation.coco import FastCocoMetric
from mmplugins.utils import DataError

CLASSES = ("red", "blue", "green")

IDS = {
    "whole": lambda k: k + 1,
    "from zero": lambda k: k,
    "negative": lambda k: -k - 1,
    "through zero": lambda k: k - 3,
    "halves": lambda k: k + 0.5,
    "texts": lambda k: f"{k:03}a",
    "texts of digits": lambda k: str(k),
    "an empty text": lambda k: "x" * k,
    "beyond 64 bits": lambda k: uuid.UUID(int=(7 << 100) + k).int,
    "mixed": lambda k: k if k % 2 else f"{k}",
}


def truth_of(annotation_id, image_id, category_id, seed=0):
    """Two to six boxes in each of four pictures; categories stand in the file in no order."""
    rng = np.random.default_rng(seed)
    images = [dict(id=image_id(k), width=96, height=64, file_name=f"{k}.png") for k in range(4)]
    annotations = []
    for image in images:
        for _ in range(rng.integers(2, 7)):
            w, h = (float(v) for v in rng.integers(4, 40, 2))
            x, y = float(rng.integers(0, 96 - w)), float(rng.integers(0, 64 - h))
            corners = [x, y, x + w, y, x + w, y + h, x, y + h]
            annotations.append(
                dict(
                    id=annotation_id(len(annotations)),
                    image_id=image["id"],
                    category_id=category_id(int(rng.integers(0, 3))),
                    bbox=[x, y, w, h],
                    area=w * h,
                    iscrowd=0,
                    segmentation=[corners],
                )
            )
    categories = [dict(id=category_id(k), name=name) for k, name in enumerate(CLASSES)]
    return dict(images=images, annotations=annotations, categories=categories[::-1])


def samples_of(truth, keep=lambda rng: True, seed=0):
    """The truth itself as predictions, or what ``keep`` leaves of it, with scores in no order."""
    rng = np.random.default_rng(seed)
    labels = {one["id"]: label for label, one in enumerate(truth["categories"])}
    for image in truth["images"]:
        own = [a for a in truth["annotations"] if a["image_id"] == image["id"] and keep(rng)]
        boxes = torch.tensor([a["bbox"] for a in own], dtype=torch.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        masks = torch.zeros(len(own), 64, 96, dtype=torch.bool)
        for mask, (x0, y0, x1, y1) in zip(masks, boxes.int().tolist(), strict=True):
            mask[y0:y1, x0:x1] = True
        found = InstanceData(
            bboxes=boxes,
            scores=torch.from_numpy(rng.random(len(own)).round(1)),
            labels=torch.tensor([labels[a["category_id"]] for a in own], dtype=torch.int64),
            masks=masks,
        )
        meta = dict(img_id=image["id"], ori_shape=(64, 96))
        yield DetDataSample(metainfo=meta, pred_instances=found).to_dict()


def evaluated(kind, truth, samples, folder, **kwargs):
    path = folder / "truth.json"
    path.write_text(json.dumps(truth))
    metric = kind(ann_file=str(path), metric=["bbox", "segm"], **kwargs)
    metric.dataset_meta = dict(classes=CLASSES)
    metric.process({}, list(samples))
    return metric, metric.evaluate(len(truth["images"]))


@pytest.mark.parametrize("what", ["annotation", "image", "category", "all"])
def test_truth_against_itself(what, tmp_path):
    for name, ids in IDS.items():
        of = {kind: IDS["whole"] for kind in ("annotation", "image", "category")}
        of |= {kind: ids for kind in of if what in (kind, "all")}
        truth = truth_of(of["annotation"], of["image"], of["category"])
        metric, values = evaluated(FastCocoMetric, truth, samples_of(truth), tmp_path)
        assert (values["coco/bbox_mAP"], values["coco/segm_mAP"]) == (1, 1), (name, values)
        for rows in metric.per_class.values():
            assert set(rows) == set(CLASSES) and all(row["AP"] == 1 for row in rows.values()), name


@pytest.mark.parametrize(
    "names",
    [
        ("negative", "whole", "from zero"),
        ("halves", "texts", "halves"),
        ("beyond 64 bits", "beyond 64 bits", "negative"),
        ("whole", "through zero", "texts"),
        ("whole", "halves", "beyond 64 bits"),
    ],
)
def test_equal_to_mmdets_where_that_works(names, tmp_path):
    for seed in range(3):
        truth = truth_of(*(IDS[name] for name in names), seed=seed)

        def samples(truth=truth, seed=seed):
            return samples_of(truth, lambda rng: rng.random() < 0.7, seed)

        _, theirs = evaluated(CocoMetric, truth, samples(), tmp_path)
        _, ours = evaluated(FastCocoMetric, truth, samples(), tmp_path)
        assert ours == theirs and 0.2 < ours["coco/bbox_mAP"] < 1


@pytest.mark.parametrize("ids", ["whole", "texts", "halves"])
def test_classes_in_no_order_keep_their_names(ids, tmp_path):
    truth = truth_of(IDS["whole"], IDS["whole"], IDS[ids])
    lost = IDS[ids](CLASSES.index("blue"))
    truth["annotations"].append(dict(truth["annotations"][0], id=99, category_id=lost))
    samples = list(samples_of(truth))
    for sample in samples:
        found = sample["pred_instances"]
        label = [one["name"] for one in truth["categories"]].index("blue")
        kept = found["labels"] != label
        sample["pred_instances"] = {key: value[kept] for key, value in found.items()}
    metric, values = evaluated(FastCocoMetric, truth, samples, tmp_path, classwise=True)
    got = {name: metric.per_class["segm"][name]["AP"] for name in CLASSES}
    assert got == {"red": 1, "blue": 0, "green": 1}
    assert {name: values[f"coco/{name}_precision"] for name in CLASSES} == got


def test_crowds_areas_and_images_that_are_not_listed(tmp_path):
    truth = truth_of(IDS["from zero"], IDS["from zero"], IDS["from zero"])
    samples = list(samples_of(truth))
    first = truth["annotations"][0]
    truth["annotations"] += [
        dict(first, id="crowd", iscrowd=1, bbox=[0, 0, 96, 64], area=96 * 64),
        dict(first, id="elsewhere", image_id="not listed"),
        dict(first, id="elsewhere too", image_id="not listed"),
    ]
    for one in truth["annotations"][1:3]:
        del one["iscrowd"]
    _, values = evaluated(FastCocoMetric, truth, samples, tmp_path)
    assert values["coco/bbox_mAP"] == 1


@pytest.mark.parametrize("kind", ["annotation", "image"])
@pytest.mark.parametrize("broken", [None, [1], {}])
def test_what_cannot_be_an_id_is_named(kind, broken, tmp_path):
    truth = truth_of(*[IDS["whole"]] * 3)
    truth[f"{kind}s"][2]["id"] = broken
    with pytest.raises(DataError, match=rf"truth\.json: {kind}s\[2\] has id=.*expected a number"):
        evaluated(FastCocoMetric, truth, [], tmp_path)


def test_ids_of_several_annotations_are_named(tmp_path):
    truth = truth_of(lambda k: f"a{k // 2}", IDS["whole"], IDS["whole"])
    with pytest.raises(DataError, match=r"several annotations have the id a0, a1.*number the"):
        evaluated(FastCocoMetric, truth, [], tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("area", None, "area=None: expected a number"),
        ("area", "12", "area='12'"),
        ("bbox", [1, 2, 3], r"bbox=\[1, 2, 3\]: expected \[x, y, width, height\]"),
        ("bbox", [1, 2, float("nan"), 3], "nan"),
        ("segmentation", [], "expected polygons or RLE"),
    ],
)
def test_an_annotation_that_cannot_be_matched_is_named(key, value, expected, tmp_path):
    truth = truth_of(*[IDS["texts"]] * 3)
    samples = list(samples_of(truth))
    truth["annotations"][3][key] = value
    with pytest.raises(DataError, match=f"annotation '003a' of image '000a': .*{expected}"):
        evaluated(FastCocoMetric, truth, samples, tmp_path)


def test_nothing_found_scores_nothing(tmp_path):
    truth = truth_of(*[IDS["from zero"]] * 3)
    samples = samples_of(truth, lambda rng: False)
    metric, values = evaluated(FastCocoMetric, truth, samples, tmp_path)
    assert values["coco/bbox_mAP"] == values["coco/segm_mAP_50"] == 0
    assert all(row["AP"] == 0 for row in metric.per_class["bbox"].values())
