"""Drawn COCO sets: what mmdet trains is not refused, what is refused is named, truth scores 1."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from drawn_sets import coco_sets, loaded, names_remedy, spoilt, write_coco
from few_and_many import few_and_many
from hypothesis import strategies as st
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from pycocotools import mask as codes

from mmplugins.checks import DataError, check_data
from mmplugins.evaluation.coco import FastCocoMetric


def sizes_of(content):
    return {i["file_name"]: (i["width"], i["height"]) for i in content["images"]}


def legal(content):
    with tempfile.TemporaryDirectory() as folder:
        cfg = write_coco(Path(folder), content, sizes_of(content))
        samples = loaded(cfg)
        assert sum(len(s["data_samples"].gt_instances) for s in samples) == len(
            content["annotations"]
        )
        found = check_data(cfg, full=True)
        assert all("has no annotation of" in str(one) for one in found), found
        values = scores(Path(folder) / "instances.json", content)
        assert values["coco/bbox_mAP"] == values["coco/segm_mAP"] == 1, values


def scores(path, content):
    """The metric of a file's own annotations."""
    metric = FastCocoMetric(ann_file=str(path), metric=["bbox", "segm"])
    metric.dataset_meta = dict(classes=tuple(c["name"] for c in content["categories"]))
    labels = {c["id"]: k for k, c in enumerate(content["categories"])}
    for image in content["images"]:
        own = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        boxes = torch.tensor([a["bbox"] for a in own], dtype=torch.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        size = (image["height"], image["width"])
        masks = [codes.decode(coded(a["segmentation"], *size)) for a in own]
        found = InstanceData(
            bboxes=boxes,
            scores=torch.linspace(0.9, 0.5, len(own)),
            labels=torch.tensor([labels[a["category_id"]] for a in own], dtype=torch.int64),
            masks=torch.from_numpy(np.array(masks, bool).reshape(-1, *size)),
        )
        meta = dict(img_id=image["id"], ori_shape=size)
        metric.process({}, [DetDataSample(metainfo=meta, pred_instances=found).to_dict()])
    return metric.evaluate(len(content["images"]))


def coded(form, height, width):
    if isinstance(form, dict):
        return codes.frPyObjects(form, height, width)
    return codes.merge(codes.frPyObjects(form, height, width))


def illegal(content, data):
    sizes = sizes_of(content)
    content, done = data.draw(spoilt(content))
    with tempfile.TemporaryDirectory() as folder:
        cfg = write_coco(Path(folder), content, sizes)
        try:
            check_data(cfg, full=True)
        except DataError as error:
            assert names_remedy(error), (done, str(error))
            return
        loaded(cfg)  # which must not fail either
        if not content["annotations"]:
            return
        try:
            FastCocoMetric(ann_file=str(Path(folder) / "instances.json"))
        except DataError as error:
            raise AssertionError(f"{done}: passed, but evaluation says {error}") from error


test_legal_sets, test_many_legal_sets = few_and_many(legal, 25, 600, coco_sets())
test_spoilt_sets, test_many_spoilt_sets = few_and_many(illegal, 60, 3000, coco_sets(), st.data())
