import json

import cv2
import numpy as np
import pytest

from mmplugins.checks import DataError, check_data
from mmplugins.datasets import METAINFO

TRAIN = "annotations/instances_train.json"
PIPELINE = [dict(type="LoadImageFromFile"), dict(type="LoadAnnotations", with_bbox=True)]


def config(root, **changes):
    dataset = dict(
        type="CocoDataset",
        data_root=str(root),
        ann_file=TRAIN,
        data_prefix=dict(img="images/training/"),
        metainfo=dict(classes=METAINFO["classes"]),
        pipeline=PIPELINE,
    )
    return dict(default_scope="mmdet", train_dataloader=dict(dataset={**dataset, **changes}))


def edit(root, change):
    """Applies a change to the annotation file of the training set."""
    path = root / TRAIN
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    return data


def test_good_data(shapes_root):
    assert check_data(config(shapes_root)) == []


def test_absent_annotation_file(shapes_root):
    with pytest.raises(
        DataError, match="'.*train2017.json' does not exist; .*instances_train.json"
    ):
        check_data(config(shapes_root, ann_file="annotations/instances_train2017.json"))


def test_cut_off_annotation_file(shapes_copy):
    path = shapes_copy / TRAIN
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"\(5000 bytes\) is not valid JSON, .* cut off"):
        check_data(config(shapes_copy))


@pytest.mark.parametrize("content", ["[1, 2]", '{"shapes": [], "version": "5.0"}', '"text"'])
def test_json_that_is_not_coco(shapes_copy, content):
    (shapes_copy / TRAIN).write_text(content)
    with pytest.raises(
        DataError, match="not in COCO instances form: expected the lists images, .*"
    ):
        check_data(config(shapes_copy))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["annotations"][3].pop("area"), r"annotations\[3\] has no area"),
        (lambda d: d["images"][1].pop("width"), r"images\[1\] has no width"),
        (lambda d: d["images"].clear(), "lists no images"),
        (lambda d: d["annotations"].clear(), "no annotation of striped_disc"),
        (lambda d: d.pop("annotations"), "has no list 'annotations', but training needs it"),
        (lambda d: d["annotations"][1].update(id=1), "ids occur twice in annotations: 1"),
        (lambda d: d["images"][1].update(id=1), "ids occur twice in images: 1"),
        (lambda d: d["annotations"][0].update(image_id=99), "image_id 99, which is not in images"),
        (lambda d: d["annotations"][0].update(category_id=0), "category_id 0, which is not in cat"),
        (lambda d: d["annotations"][0].update(bbox=[1, 2, 3]), r"bbox \[1, 2, 3\], expected \[x"),
    ],
)
def test_faulty_entries(shapes_copy, change, message):
    edit(shapes_copy, change)
    with pytest.raises(DataError, match=message):
        check_data(config(shapes_copy))


def test_small_pictures(shapes_copy):
    edit(shapes_copy, lambda d: d["images"][0].update(width=24))
    texts = [str(finding) for finding in check_data(config(shapes_copy))]
    assert any("1 of 8 pictures have a side below 32 pixels" in text for text in texts)
    pipeline = [*PIPELINE, dict(type="Resize", scale=(96, 96))]
    texts = [str(finding) for finding in check_data(config(shapes_copy, pipeline=pipeline))]
    assert texts and not any("below 32 pixels" in text for text in texts)


def test_class_name_that_the_file_does_not_have(shapes_root):
    classes = ("stripe_disc", *METAINFO["classes"][1:])
    with pytest.raises(DataError, match=r"'stripe_disc' \(near: 'striped_disc'\).*as in the file"):
        check_data(config(shapes_root, metainfo=dict(classes=classes)))


def test_classes_not_given(shapes_root):
    with pytest.raises(
        DataError, match=r"the 80 built-in classes .*give metainfo=.*'striped_disc'"
    ):
        check_data(config(shapes_root, metainfo=None))


def test_classes_in_another_order(shapes_root):
    classes = METAINFO["classes"][::-1]
    with pytest.raises(DataError, match=r"labels are numbered by the file.*\('striped_disc', "):
        check_data(config(shapes_root, metainfo=dict(classes=classes)))


def test_a_choice_of_classes_is_reported(shapes_root):
    (finding,) = check_data(config(shapes_root, metainfo=dict(classes=METAINFO["classes"][:2])))
    assert "left out" in str(finding) and "dotted_triangle, shaded_ring" in str(finding)


def test_absent_picture(shapes_copy):
    (shapes_copy / "images/training/train_00002.jpg").unlink()
    with pytest.raises(
        DataError, match="1 of 8 pictures do not exist: .*train_00002.jpg: check da"
    ):
        check_data(config(shapes_copy))


def test_wrong_picture_folder(shapes_root):
    with pytest.raises(
        DataError, match="8 of 8 pictures do not exist: .* 5 more: check data_prefix"
    ):
        check_data(config(shapes_root, data_prefix=dict(img="train2017/")))


@pytest.mark.parametrize("keep", [0, 100, 1500])
def test_truncated_picture(shapes_copy, keep):
    path = shapes_copy / "images/training/train_00005.jpg"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=rf"train_00005.jpg \({keep} bytes\) cannot be decoded as "):
        check_data(config(shapes_copy))


def test_full_reads_what_the_sample_misses(shapes_copy, monkeypatch):
    monkeypatch.setattr("mmplugins.checks.data_set.SAMPLE", 2)
    path = shapes_copy / "images/training/train_00005.jpg"
    path.write_bytes(b"no picture")
    assert check_data(config(shapes_copy)) == []
    with pytest.raises(DataError, match="train_00005.jpg"):
        check_data(config(shapes_copy), full=True)


def test_picture_of_another_size(shapes_copy):
    edit(shapes_copy, lambda d: d["images"][0].update(width=200))
    (finding,) = check_data(config(shapes_copy))
    assert "train_00000.jpg is loaded as 96x96, not 200x96" in str(finding)


def test_odd_boxes_are_reported(shapes_copy):
    def spoil(data):
        data["annotations"][0]["bbox"][2] = 0
        data["annotations"][1]["area"] = 0
        data["annotations"][2]["bbox"] = [500, 500, 20, 20]
        data["annotations"][3]["bbox"] = [-5, 10, 40, 20]
        data["annotations"][4]["bbox"] = [10, -20, 60, 15]  # wide, and above the picture

    edit(shapes_copy, spoil)
    empty, outside = map(str, check_data(config(shapes_copy)))
    assert "4 annotations of" in empty and empty.endswith("ids 1, 2, 3, 5")
    assert "1 boxes of" in outside and outside.endswith("ids 4")


def test_boxes_in_shares_of_the_picture(shapes_copy):
    def spoil(data):
        for annotation in data["annotations"]:
            annotation["bbox"] = [value / 96 for value in annotation["bbox"]]

    edit(shapes_copy, spoil)
    with pytest.raises(DataError, match=r"boxes of .* are in 0\.\.1 .*multiply them by width"):
        check_data(config(shapes_copy))


def test_nothing_left_to_learn(shapes_copy):
    def spoil(data):
        for k, annotation in enumerate(data["annotations"]):
            annotation.update([dict(iscrowd=1), dict(ignore=True), dict(area=0)][k % 3])

    edit(shapes_copy, spoil)
    words = "nothing to learn: .* have no area .* are crowds .* to be ignored; correct"
    with pytest.raises(DataError, match=words):
        check_data(config(shapes_copy))
    edit(shapes_copy, lambda data: data["annotations"][0].update(iscrowd=0))
    (finding,) = check_data(config(shapes_copy))
    assert "have no area" in str(finding)
    edit(shapes_copy, lambda data: data["annotations"][0].update(iscrowd=1))
    cfg = config(shapes_copy)
    cfg["val_dataloader"] = cfg.pop("train_dataloader")
    check_data(cfg)  # one may look at predictions all the same


@pytest.mark.parametrize("prefix", [{}, dict(img_path="images/training/")])
def test_the_folder_of_pictures_by_another_name(shapes_root, prefix):
    with pytest.raises(DataError, match="^train_dataloader.dataset.data_prefix: .*expected .*img"):
        check_data(config(shapes_root, data_prefix=prefix))


def test_pictures_of_16_bits(shapes_copy):
    path = shapes_copy / "images/training/train_00005.jpg"  # what it is, its first bytes say
    done, deep = cv2.imencode(".png", cv2.imread(str(path)).astype(np.uint16) * 16)
    path.write_bytes(deep)
    (finding,) = check_data(config(shapes_copy))
    assert "1 of 8 pictures have 16 bits per channel" in str(finding)
    assert "train_00005.jpg" in str(finding)


@pytest.mark.parametrize(
    "changes",
    [dict(ann_file=None), dict(ann_file=5), dict(metainfo=("disc",)), dict(data_prefix="images")],
)
def test_values_of_the_wrong_kind(shapes_root, changes):
    (name,) = changes
    with pytest.raises(DataError, match=rf"^train_dataloader.dataset.{name}: is .*: expected "):
        check_data(config(shapes_root, **changes))


def test_masks_that_are_not_there(shapes_copy):
    pipeline = [PIPELINE[0], dict(type="LoadAnnotations", with_bbox=True, with_mask=True)]
    cfg = config(shapes_copy, pipeline=pipeline)
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
    cfg = config(shapes_copy)
    cfg["test_dataloader"] = cfg.pop("train_dataloader")
    (finding,) = check_data(cfg)
    assert "predictions only" in str(finding)
