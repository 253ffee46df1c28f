"""Data and pipelines broken in one place each: one finding, with the value and what to do."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
from breaking import GONE, JSON, LOAD, changed, edit, faults, point_at
from PIL import Image

from mmplugins.datasets import METAINFO

TRAIN, VAL = "train_dataloader.dataset", "val_dataloader.dataset"
PICTURE = "images/training/train_00003.jpg"
MAP = "annotations/training/train_00000.png"
BACKWARDS = ("shaded_ring", "dotted_triangle", "checked_square", "striped_disc")

PIPELINES = {
    "no packing": (
        "retinanet",
        {f"{TRAIN}.pipeline[4]": GONE},
        "pipeline: puts out img_path.*expected inputs.*end it with .*PackDetInputs",
    ),
    "no packing of maps": (
        "semantic_fpn",
        {f"{TRAIN}.pipeline[4]": GONE},
        "pipeline: puts out img_path.*expected inputs.*end it with .*PackSegInputs",
    ),
    "no annotations": (
        "retinanet",
        {f"{TRAIN}.pipeline[1]": GONE},
        "pipeline: packs no annotations.*add dict.*LoadAnnotations', with_bbox=True",
    ),
    "no maps": (
        "semantic_fpn",
        {f"{TRAIN}.pipeline[1]": GONE},
        "pipeline: packs no annotations.*add dict.*LoadAnnotations'",
    ),
    "no picture": (
        "retinanet",
        {f"{TRAIN}.pipeline[0]": GONE},
        "train_dataloader.dataset: loading pictures failed.*correct the pipeline",
    ),
    "masks not loaded": (
        "mask_rcnn",
        {f"{TRAIN}.pipeline[1].with_mask": GONE},
        "no sample has masks, which model.roi_head.mask_head learns: add with_mask=True",
    ),
    "boxes not loaded": (
        "retinanet",
        {f"{TRAIN}.pipeline[1].with_bbox": False},
        "no sample has boxes: add with_bbox=True",
    ),
    "scale as a number": (
        "retinanet",
        {f"{TRAIN}.pipeline[2].scale": "128"},
        r"pipeline\[2\].scale: is '128', a text: expected numbers",
    ),
    "no scale factor kept": (
        "retinanet",
        {f"{VAL}.pipeline[3].meta_keys": ("img_id", "ori_shape", "img_shape")},
        "predicting one picture failed.*add 'scale_factor' to meta_keys",
    ),
    "map resized with the picture": (
        "semantic_fpn",
        {
            f"{VAL}.pipeline": [
                LOAD,
                dict(type="LoadAnnotations"),
                dict(type="Resize", scale=(96, 96)),
                dict(type="PackSegInputs"),
            ]
        },
        r"size of the file, \(64, 64\), but.*\(96, 96\); put LoadAnnotations after",
    ),
    "judged by masks it has not": (
        "retinanet",
        {"val_evaluator.metric": ["bbox", "segm"]},
        "val_evaluator: judging one picture failed with .*'segm is not in results'",
    ),
    "unknown metric": ("retinanet", {"val_evaluator.metric": "mAP"}, "val_evaluator.*mAP"),
    "classes in another order": (
        "retinanet",
        {f"{VAL}.metainfo": dict(classes=BACKWARDS)},
        "order shaded_ring.*write classes=",
    ),
    "other classes for validation": (
        "semantic_fpn",
        {f"{VAL}.metainfo": dict(classes=BACKWARDS)},
        "val_dataloader.dataset: has the classes shaded_ring.*train_dataloader.dataset.*same",
    ),
    "zero label for training only": (
        "semantic_fpn",
        {f"{VAL}.reduce_zero_label": False},
        "val_dataloader.dataset.*reduce_zero_label",
    ),
    "evaluator of another file": (
        "retinanet",
        {"val_evaluator.ann_file": "none.json"},
        "val_evaluator.ann_file: 'none.json' does not exist.*give",
    ),
    "picture folder": (
        "retinanet",
        {f"{TRAIN}.data_prefix.img": "images/trainin/"},
        "12 of 12 pictures do not exist.*trainin.*check data_prefix",
    ),
    "folder": (
        "semantic_fpn",
        {
            f"{TRAIN}.type": "BaseSegDataset",
            f"{TRAIN}.data_root": "/nowhere",
            f"{TRAIN}.generate": GONE,
            f"{TRAIN}.metainfo": dict(classes=METAINFO["classes"]),
        },
        "data_root '/nowhere' does not exist.*give the folder",
    ),
    "no data set": ("retinanet", {TRAIN: GONE}, "train_dataloader.dataset: is None: expected"),
    "no preprocessor": (
        "retinanet",
        {"model.data_preprocessor": GONE},
        r"data_preprocessor: makes no batch .*give dict\(type='DetDataPreprocessor'",
    ),
    "no size of crops": (
        "semantic_fpn",
        {"model.data_preprocessor.size": GONE},
        r"data_preprocessor: making a batch failed.*size.*give size=\(height, width\)",
    ),
    "all boxes filtered": (
        "retinanet",
        {f"{TRAIN}.pipeline[3]": dict(type="FilterAnnotations", min_gt_bbox_wh=(900, 900))},
        "loading pictures failed.*valid image.*correct the pipeline",
    ),
    "all filtered": (
        "retinanet",
        {f"{TRAIN}.filter_cfg": dict(filter_empty_gt=True, min_size=500)},
        "train_dataloader.dataset: .*no pictures.*filter_cfg",
    ),
}


@pytest.mark.parametrize("case", PIPELINES)
def test_a_broken_pipeline_or_data_set_is_one_failure(healthy, case):
    name, changes, message = PIPELINES[case]
    found = faults(changed(healthy[name], changes))
    assert [r.status for r in found] == ["failure"], [str(r) for r in found]
    assert re.search(message, found[0].message, re.DOTALL), found[0].message


def cut(path, share=0.5):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def set_first(key, value):
    return lambda root: edit(root, lambda data: data["annotations"][0].update({key: value}))


def paint(value):
    def change(root):
        labels = np.asarray(Image.open(root / MAP)).copy()
        labels[:4] = value
        Image.fromarray(labels).save(root / MAP)

    return change


# id: (healthy config, what happens to the files, status, message)
FILES = {
    "picture cut off": (
        "retinanet",
        lambda r: cut(r / PICTURE),
        "failure",
        "cannot be decoded.*co",
    ),
    "picture is a page": (
        "semantic_fpn",
        lambda r: (r / PICTURE).write_text("<html>404</html>"),
        "failure",
        "train_00003.jpg .*cannot be decoded.*copy it again",
    ),
    "map gone": ("semantic_fpn", lambda r: (r / MAP).unlink(), "failure", "1 of 12 label maps do"),
    "label outside the classes": ("semantic_fpn", paint(9), "failure", "holds 9, expected 0.*corr"),
    "annotations cut off": (
        "retinanet",
        lambda r: cut(r / JSON),
        "failure",
        "is not valid JSON.*cut off, copy",
    ),
    "polygon of two points": (
        "mask_rcnn",
        set_first("segmentation", [[1, 1, 9, 9]]),
        "warning",
        r"1 annotations .*bad polygons.*1 has \[1, 1, 9, 9\], expected.*correct them",
    ),
    "polygon of an odd count": (
        "mask_rcnn",
        set_first("segmentation", [[1, 1, 9, 9, 5, 9, 4]]),
        "warning",
        r"bad polygons.*1 has \[1, 1, 9, 9, 5, 9, 4\], expected",
    ),
    "mask of another size": (
        "mask_rcnn",
        set_first("segmentation", dict(size=[10, 10], counts=[50, 50])),
        "failure",
        r"annotation 1 has .*\[10, 10\].*expected \[64, 64\]",
    ),
    "box outside": ("retinanet", set_first("bbox", [50, 50, 40, 40]), "warning", "over the border"),
    "box without area": ("retinanet", set_first("bbox", [5, 5, 0, 9]), "warning", "no area.*ids 1"),
    "corners for sizes": (
        "retinanet",
        lambda r: edit(r, lambda d: [a.update(bbox=corners(a)) for a in d["annotations"]]),
        "warning",
        "x1, y1, x2, y2.*convert",
    ),
    "polygon outside": (
        "mask_rcnn",
        set_first("segmentation", [[1, 1, 90, 1, 90, 90]]),
        "warning",
        "polygons.*over the border.*1",
    ),
    "class without examples": (
        "retinanet",
        lambda r: edit(r, lambda d: d.update(annotations=without(d["annotations"], 4))),
        "warning",
        "no annotation of shaded_ring",
    ),
    "sizes that are not the pictures'": (
        "retinanet",
        lambda r: edit(r, lambda d: d["images"][0].update(width=80)),
        "warning",
        "is loaded as 64x64, not 80x64",
    ),
}


def corners(annotation):
    x, y, w, h = annotation["bbox"]
    return [x, y, x + w, y + h]


def without(annotations, category):
    return [a for a in annotations if a["category_id"] != category]


@pytest.mark.parametrize("case", FILES)
def test_a_broken_file_is_one_finding(healthy, shapes, tmp_path, case):
    name, spoil, status, message = FILES[case]
    root = shutil.copytree(shapes, tmp_path / "shapes")
    spoil(root)
    cfg = changed(healthy[name], {})
    point_at(cfg, root)
    found = faults(cfg)
    assert [r.status for r in found] == [status], [str(r) for r in found]
    assert re.search(message, found[0].message, re.DOTALL), found[0].message
