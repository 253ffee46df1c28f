"""Data and pipelines broken in one place each: one finding, with the value and what to do."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
from breaking import GONE, changed, faults, point_at
from PIL import Image

from mmplugins.datasets import METAINFO

TRAIN, VAL = "train_dataloader.dataset", "val_dataloader.dataset"
PICTURE = "images/training/train_00003.jpg"
MAP = "annotations/training/train_00000.png"
LOAD = dict(type="LoadImageFromFile")
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
    "unknown metric of maps": (
        "semantic_fpn",
        {"val_evaluator.iou_metrics": ["mIuO"]},
        r"val_evaluator: judging .*\['mIuO'\] is not supported",
    ),
    "classes as text": (
        "retinanet",
        {f"{TRAIN}.metainfo": dict(classes="cat")},
        r"metainfo.classes is the string 'cat'.*write classes=\('cat',\)",
    ),
    "classes of other names": (
        "retinanet",
        {f"{TRAIN}.metainfo": dict(classes=("striped_disk", "b", "c", "d"))},
        "metainfo.classes names 'striped_disk'.*near: 'striped_disc'.*write the names",
    ),
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
    "annotation file": (
        "retinanet",
        {f"{TRAIN}.ann_file": "annotations/instances_trian.json"},
        "instances_trian.json' does not exist.*instances_train.json.*correct ann_file",
    ),
    "picture folder": (
        "retinanet",
        {f"{TRAIN}.data_prefix.img": "images/trainin/"},
        "12 of 12 pictures do not exist.*trainin.*check data_prefix",
    ),
    "suffix of maps": (
        "semantic_fpn",
        {f"{TRAIN}.seg_map_suffix": ".tif"},
        r"12 of 12 label maps do not exist.*\.tif.*seg_map_suffix",
    ),
    "suffix of pictures": (
        "semantic_fpn",
        {f"{TRAIN}.img_suffix": ".jpeg"},
        r"img_suffix '\.jpeg'.*correct img_suffix",
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


def edit(root, change):
    path = root / "annotations/instances_train.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


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
    "picture empty": ("retinanet", lambda r: cut(r / PICTURE, 0), "failure", r"\(0 bytes\).*copy"),
    "picture gone": ("retinanet", lambda r: (r / PICTURE).unlink(), "failure", "1 of 12 pictures"),
    "picture is a page": (
        "semantic_fpn",
        lambda r: (r / PICTURE).write_text("<html>404</html>"),
        "failure",
        "train_00003.jpg .*cannot be decoded.*copy it again",
    ),
    "map gone": ("semantic_fpn", lambda r: (r / MAP).unlink(), "failure", "1 of 12 label maps do"),
    "map in colours": (
        "semantic_fpn",
        lambda r: Image.open(r / MAP).convert("RGB").save(r / MAP),
        "failure",
        "has 3 channels.*convert",
    ),
    "map of another size": (
        "semantic_fpn",
        lambda r: Image.open(r / MAP).resize((32, 64)).save(r / MAP),
        "failure",
        "is 32x64, its picture 64x64.*resize the map",
    ),
    "label outside the classes": ("semantic_fpn", paint(9), "failure", "holds 9, expected 0.*corr"),
    "annotations cut off": (
        "retinanet",
        lambda r: cut(r / "annotations/instances_train.json"),
        "failure",
        "is not valid JSON.*cut off, copy",
    ),
    "another format": (
        "retinanet",
        lambda r: (r / "annotations/instances_train.json").write_text("[1, 2]"),
        "failure",
        "not in COCO instances form.*export it as COCO",
    ),
    "no annotations": (
        "retinanet",
        lambda r: edit(r, lambda d: d.update(annotations=[])),
        "failure",
        "no annotation of .*nothing to train on",
    ),
    "ids twice": (
        "retinanet",
        lambda r: edit(r, lambda d: d["annotations"][1].update(id=1)),
        "failure",
        "ids occur twice in annotations: 1: number them",
    ),
    "no such image": ("retinanet", set_first("image_id", 999), "failure", "image_id 999.*remove"),
    "no such category": ("retinanet", set_first("category_id", 7), "failure", "category_id 7.*rem"),
    "box of three numbers": (
        "retinanet",
        set_first("bbox", [1, 2, 3]),
        "failure",
        r"annotation 1, has bbox \[1, 2, 3\], expected",
    ),
    "box of NaN": (
        "retinanet",
        set_first("bbox", [1, 2, float("nan"), 4]),
        "failure",
        r"annotation 1, has bbox \[1, 2, nan, 4\], expected",
    ),
    "crowd as text": (
        "retinanet",
        set_first("iscrowd", "no"),
        "failure",
        "annotation 1, has iscrowd 'no', expected 0 or 1",
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
    "no masks": (
        "mask_rcnn",
        lambda r: edit(r, lambda d: [a.pop("segmentation") for a in d["annotations"]]),
        "failure",
        "no annotation of .* has a segmentation: use a detection config",
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
    "boxes in 0..1": (
        "retinanet",
        lambda r: edit(r, lambda d: [a.update(bbox=shares(a)) for a in d["annotations"]]),
        "failure",
        r"boxes of .* are in 0..1 \(annotation \d+: \[0.*multiply them by width and height",
    ),
    "nothing but crowds": (
        "retinanet",
        lambda r: edit(r, lambda d: [a.update(iscrowd=1) for a in d["annotations"]]),
        "failure",
        r"leaves nothing to learn: .*\d+ are crowds \(iscrowd=1\).*correct",
    ),
    "pictures of 16 bits": (
        "semantic_fpn",
        lambda r: deepen(r),
        "warning",
        "12 of 12 pictures have 16 bits per channel.*train_00000.jpg.*scale them to 8 bits",
    ),
    "map without a picture": (
        "semantic_fpn",
        lambda r: (r / PICTURE).unlink(),
        "warning",
        "1 label maps in .* have no picture and are not used: train_00003.png: copy",
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


def shares(annotation):
    return [value / 64 for value in annotation["bbox"]]


def deepen(root):
    """Names stay: what a file is, its first bytes say."""
    for path in (root / "images/training").iterdir():
        pixels = np.asarray(Image.open(path).convert("L")).astype(np.uint16) * 16  # 12 bits
        Image.fromarray(pixels).save(path, format="PNG")


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
