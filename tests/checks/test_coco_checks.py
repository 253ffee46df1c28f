"""COCO files, their entries and pictures, read without a model."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from breaking import JSON, LOAD, PICTURES, coco, edit
from mmengine.registry import DATASETS, DefaultScope

from mmplugins.checks import DataError, check_data
from mmplugins.datasets import METAINFO

CLASSES = METAINFO["classes"]
PICTURE = f"{PICTURES}/train_00005.jpg"


def with_pipeline(*steps):
    load = dict(type="LoadAnnotations", with_bbox=True)
    return dict(pipeline=[LOAD, *(steps or [dict(load, with_mask=True)])])


def test_good_data(shapes_root):
    assert check_data(coco(shapes_root)) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            dict(ann_file="annotations/instances_train2017.json"),
            "'.*train2017.json' does not exist; .*instances_train.json",
        ),
        (
            dict(metainfo=dict(classes=("stripe_disc", *CLASSES[1:]))),
            r"'stripe_disc' \(near: 'striped_disc'\).*as in the file",
        ),
        (dict(metainfo=None), "the 80 built-in classes .*give metainfo=.*'striped_disc'"),
        (
            dict(metainfo=dict(classes=CLASSES[::-1])),
            r"labels are numbered by the file.*\('striped_disc', ",
        ),
        (
            dict(metainfo=dict(classes="disc")),
            r"string 'disc'.*classes=\('disc',\) with the comma",
        ),
        (
            dict(data_prefix=dict(img="train2017/")),
            "8 of 8 pictures do not exist: .* 5 more: check data_prefix",
        ),
        (dict(data_prefix={}), "^train_dataloader.dataset.data_prefix: .*expected .*img"),
        (dict(data_prefix=dict(img_path=PICTURES)), "nobody reads img_path: expected img and seg"),
        (dict(ann_file=None), "^train_dataloader.dataset.ann_file: is None: expected "),
        (dict(ann_file=5), "^train_dataloader.dataset.ann_file: is 5: expected "),
        (dict(metainfo=("disc",)), "^train_dataloader.dataset.metainfo: is .*: expected "),
        (dict(data_prefix="images"), "^train_dataloader.dataset.data_prefix: is .*: expected "),
    ],
)
def test_faulty_configs(shapes_root, changes, message):
    with pytest.raises(DataError, match=message):
        check_data(coco(shapes_root, **changes))


def put(part, key, value):
    """Another value in the first entry of a list, or in its place."""

    def change(data):
        if key is None:
            data[part][0] = value
        else:
            data[part][0][key] = value

    return change


def boxes_in_shares(data):
    for annotation in data["annotations"]:
        annotation["bbox"] = [value / 96 for value in annotation["bbox"]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["annotations"][3].pop("area"), r"annotations\[3\] has no area"),
        (lambda d: d["images"][1].pop("width"), r"images\[1\] has no width"),
        (lambda d: d["images"].clear(), "lists no images"),
        (lambda d: d["annotations"].clear(), "no annotation of striped_disc.*nothing to train on"),
        (lambda d: d.pop("annotations"), "has no list 'annotations', but training needs it"),
        (lambda d: d["annotations"][1].update(id=1), "ids occur twice in annotations: 1: number"),
        (lambda d: d["images"][1].update(id=1), "ids occur twice in images: 1"),
        (
            lambda d: d["categories"].append(dict(id=7, name=CLASSES[0])),
            f"2 categories of one name, '{CLASSES[0]}' .ids 1, 7.*merge them",
        ),
        (boxes_in_shares, r"boxes of .* are in 0\.\.1 \(annotation \d+: .*multiply them by width"),
        (put("images", None, "a.jpg"), r"images\[0\] is 'a.jpg': expected a dict"),
        (put("images", "file_name", 3), r"images\[0\] has file_name 3, expected the name of a"),
        (put("images", "file_name", None), "file_name None, expected"),
        (put("images", "width", "96"), "width '96', expected pixels"),
        (put("images", "height", 0), "height 0, expected pixels, a number above 0"),
        (put("images", "id", [1]), r"id \[1\], expected a number or a text"),
        (put("categories", "name", 7), r"categories\[0\] has name 7, expected a text"),
        (put("categories", "id", None), "id None, expected a number"),
        (put("annotations", "bbox", [1, 2, 3]), r"1, has bbox \[1, 2, 3\], expected \[x"),
        (put("annotations", "bbox", "1,2,3,4"), "has bbox '1,2,3,4', expected .x, y, width, hei"),
        (put("annotations", "bbox", [1, 2, "3", 4]), "expected .x, y, width, height"),
        (put("annotations", "bbox", [1, 2, float("nan"), 4]), r"bbox \[1, 2, nan, 4\], expected"),
        (put("annotations", "bbox", None), "bbox None, expected"),
        (put("annotations", "area", "12"), "area '12', expected a number of pixels"),
        (put("annotations", "area", float("nan")), "area nan, expected"),
        (put("annotations", "iscrowd", None), "iscrowd None, expected 0 or 1"),
        (put("annotations", "iscrowd", "no"), "annotation 1, has iscrowd 'no', expected 0 or 1"),
        (put("annotations", "image_id", {}), "image_id {}, expected"),
        (put("annotations", "image_id", "1"), "'1', which is not in images, where 1 is, a int"),
        (put("annotations", "category_id", "2"), "'2', which is not in categories, where 2 is"),
        (put("annotations", None, None), r"annotations\[0\] is None: expected a dict with id"),
    ],
)
def test_faulty_entries(shapes_copy, change, message):
    edit(shapes_copy, change)
    with pytest.raises(DataError, match=message):
        check_data(coco(shapes_copy))


@pytest.mark.parametrize(("key", "part"), [("image_id", "images"), ("category_id", "categories")])
def test_annotations_of_what_is_not_there_are_left_out(shapes_copy, key, part):
    def loaded():
        with DefaultScope.overwrite_default_scope("mmdet"):
            data = DATASETS.build(dict(coco(shapes_copy)["train_dataloader"]["dataset"]))
        return sum(len(data.get_data_info(k)["instances"]) for k in range(len(data)))

    before = loaded()
    edit(shapes_copy, lambda d: d["annotations"].append(d["annotations"][0] | {"id": 999, key: 77}))
    assert loaded() == before
    (finding,) = check_data(coco(shapes_copy))
    assert f"1 annotations of {shapes_copy / JSON} are left out" in str(finding)
    said = f"as {part} lacks their {key}: 77: remove them"
    assert said in str(finding)
    edit(shapes_copy, lambda d: [ann.update({key: 77}) for ann in d["annotations"]])
    with pytest.raises(DataError, match=said):
        check_data(coco(shapes_copy))


@pytest.mark.parametrize("content", ["[1, 2]", '{"shapes": [], "version": "5.0"}', '"text"'])
def test_json_that_is_not_coco(shapes_copy, content):
    (shapes_copy / JSON).write_text(content)
    with pytest.raises(
        DataError, match="not in COCO instances form: expected the lists .*export it as COCO"
    ):
        check_data(coco(shapes_copy))


def test_cut_off_annotation_file(shapes_copy):
    path = shapes_copy / JSON
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"\(5000 bytes\) is not valid JSON, .* cut off, copy"):
        check_data(coco(shapes_copy))


def test_json_by_lines(shapes_copy):
    path = shapes_copy / JSON
    path.write_text(
        "\n".join(json.dumps(image) for image in json.loads(path.read_text())["images"])
    )
    with pytest.raises(DataError, match="is not valid JSON, Extra data.*one object.*export it as"):
        check_data(coco(shapes_copy))


def test_small_pictures(shapes_copy):
    edit(shapes_copy, lambda d: d["images"][0].update(width=24))
    texts = [str(finding) for finding in check_data(coco(shapes_copy))]
    assert any("1 of 8 pictures have a side below 32 pixels" in text for text in texts)
    resize = with_pipeline(dict(type="Resize", scale=(96, 96)))
    texts = [str(finding) for finding in check_data(coco(shapes_copy, **resize))]
    assert texts and not any("below 32 pixels" in text for text in texts)


def test_a_choice_of_classes_is_reported(shapes_root):
    (finding,) = check_data(coco(shapes_root, metainfo=dict(classes=CLASSES[:2])))
    assert "left out" in str(finding) and "dotted_triangle, shaded_ring" in str(finding)


def test_absent_picture(shapes_copy):
    (shapes_copy / PICTURE).unlink()
    with pytest.raises(
        DataError, match="1 of 8 pictures do not exist: .*train_00005.jpg: check da"
    ):
        check_data(coco(shapes_copy))


@pytest.mark.parametrize("keep", [0, 100, 1500])
def test_truncated_picture(shapes_copy, keep):
    path = shapes_copy / PICTURE
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(
        DataError,
        match=rf"(?s)train_00005.jpg \({keep} bytes\) cannot be decoded .*copy it again",
    ):
        check_data(coco(shapes_copy))


def test_full_reads_what_the_sample_misses(shapes_copy, monkeypatch):
    monkeypatch.setattr("mmplugins.checks.data_set.SAMPLE", 2)
    (shapes_copy / PICTURE).write_bytes(b"no picture")
    assert check_data(coco(shapes_copy)) == []
    with pytest.raises(DataError, match="train_00005.jpg"):
        check_data(coco(shapes_copy), full=True)


def test_picture_of_another_size(shapes_copy):
    edit(shapes_copy, lambda d: d["images"][0].update(width=200))
    (finding,) = check_data(coco(shapes_copy))
    assert "train_00000.jpg is loaded as 96x96, not 200x96" in str(finding)


def test_odd_boxes_are_reported(shapes_copy):
    def spoil(data):
        data["annotations"][0]["bbox"][2] = 0
        data["annotations"][1]["area"] = 0
        data["annotations"][2]["bbox"] = [500, 500, 20, 20]
        data["annotations"][3]["bbox"] = [-5, 10, 40, 20]
        data["annotations"][4]["bbox"] = [10, -20, 60, 15]  # wide, and above the picture

    edit(shapes_copy, spoil)
    empty, outside = map(str, check_data(coco(shapes_copy)))
    assert "4 annotations of" in empty and empty.endswith("ids 1, 2, 3, 5")
    assert "1 boxes of" in outside and outside.endswith("ids 4")


def test_nothing_left_to_learn(shapes_copy):
    def spoil(data):
        for k, annotation in enumerate(data["annotations"]):
            annotation.update([dict(iscrowd=1), dict(ignore=True), dict(area=0)][k % 3])

    edit(shapes_copy, spoil)
    words = "nothing to learn: .* have no area .* are crowds .* to be ignored; correct"
    with pytest.raises(DataError, match=words):
        check_data(coco(shapes_copy))
    edit(shapes_copy, lambda data: data["annotations"][0].update(iscrowd=0))
    (finding,) = check_data(coco(shapes_copy))
    assert "have no area" in str(finding)
    edit(shapes_copy, lambda data: data["annotations"][0].update(iscrowd=1))
    cfg = coco(shapes_copy)
    cfg["val_dataloader"] = cfg.pop("train_dataloader")
    check_data(cfg)  # one may look at predictions all the same


def test_pictures_of_16_bits(shapes_copy):
    path = shapes_copy / PICTURE  # what it is, its first bytes say
    done, deep = cv2.imencode(".png", cv2.imread(str(path)).astype(np.uint16) * 16)
    path.write_bytes(deep)
    (finding,) = check_data(coco(shapes_copy))
    assert "1 of 8 pictures have 16 bits per channel" in str(finding)
    assert "train_00005.jpg: scale them to 8 bits" in str(finding)


def test_masks_that_are_not_there(shapes_copy):
    cfg = coco(shapes_copy, **with_pipeline())
    assert check_data(cfg) == []
    edit(shapes_copy, lambda d: d["annotations"][0].pop("segmentation"))
    edit(shapes_copy, lambda d: d["annotations"][1].update(segmentation=None, ignore=1))
    with pytest.raises(DataError, match="1 annotations of .* no mask.*KeyError.*: ids 1: annotate"):
        check_data(cfg)
    edit(shapes_copy, lambda d: d["annotations"][0].update(area=0))  # which mmdet leaves out
    (finding,) = check_data(cfg)
    assert "no area in their picture" in str(finding)
    edit(shapes_copy, lambda d: [a.update(segmentation=[]) for a in d["annotations"]])
    with pytest.raises(DataError, match="with_mask=True.*use a detection config"):
        check_data(cfg)


def test_a_test_set_needs_no_annotations(shapes_copy):
    edit(shapes_copy, lambda d: d.pop("annotations"))
    cfg = coco(shapes_copy)
    cfg["test_dataloader"] = cfg.pop("train_dataloader")
    (finding,) = check_data(cfg)
    assert "predictions only" in str(finding)
