"""Label maps and their pictures, read without a model."""

from __future__ import annotations

import numpy as np
import pytest
from breaking import LOAD, MAPS, PICTURES, maps
from PIL import Image

from mmplugins.checks import DataError, check_data
from mmplugins.datasets import METAINFO

PREFIX = dict(img_path=PICTURES, seg_map_path=MAPS)
PICTURE, MAP = f"{PICTURES}/train_00001.jpg", f"{MAPS}/train_00001.png"


def test_good_data(shapes_root):
    assert check_data(maps(shapes_root)) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            dict(data_prefix=dict(PREFIX, img_path="images/train")),
            "img_path leads to '.*images/train', which does not exist",
        ),
        (
            dict(img_suffix=".png"),
            "ends in img_suffix '.png'; it holds train_00000.jpg.*correct img_suffix",
        ),
        (
            dict(reduce_zero_label=False),
            r"holds 4, expected 0..3 for the 4 classes.*set reduce_zero_label=True",
        ),
        (dict(data_prefix=dict(img=PICTURES)), "nobody reads img: expected img_path and seg_map_"),
        (
            dict(type="ADE20KDataset", metainfo=dict(classes=("street",))),
            "street, which are no classes of ADE20KDataset: .*BaseSegD",
        ),
        (dict(ann_file="other.txt"), "'.*other.txt' does not exist: give the text file"),
    ],
)
def test_faulty_configs(shapes_root, changes, message):
    with pytest.raises(DataError, match=message):
        check_data(maps(shapes_root, **changes))


def lose(path):
    path.unlink()


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def paint(pixels):
    return lambda path: Image.fromarray(pixels).save(path)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (MAP, lose, "1 of 8 label maps do not exist: .*train_00001.png: check .*seg_map_suffix"),
        (MAP, cut, "train_00001.png .*cannot be decoded"),
        (PICTURE, cut, "train_00001.jpg .*cannot be decoded.*copy it again"),
        (
            MAP,
            paint(np.zeros((96, 96, 3), np.uint8)),
            "train_00001.png has 3 channels, expected one.*convert",
        ),
        (
            MAP,
            paint(np.zeros((48, 96), np.uint8)),
            "train_00001.png is 96x48, its picture 96x96.*resize the map",
        ),
    ],
)
def test_faulty_files(shapes_copy, file, change, message):
    change(shapes_copy / file)
    with pytest.raises(DataError, match=message):
        check_data(maps(shapes_copy))


def test_list_of_names(shapes_copy):
    (shapes_copy / "some.txt").write_text("train_00001\ntrain_00004\n")
    found = [str(finding) for finding in check_data(maps(shapes_copy, ann_file="some.txt"))]
    assert all("no pixel of" in text and "in 2 of 2 label maps" in text for text in found)
    (shapes_copy / "some.txt").write_text("train_00001\ntrain_00099\n")
    with pytest.raises(DataError, match="1 of 2 pictures do not exist: .*train_00099.jpg"):
        check_data(maps(shapes_copy, ann_file="some.txt"))


def test_values_outside_the_classes(shapes_copy):
    pixels = np.zeros((96, 96), np.uint8)
    pixels[:2] = [[4], [255]]
    paint(pixels)(shapes_copy / MAP)
    assert check_data(maps(shapes_copy)) == []
    pixels[2] = 5
    paint(pixels)(shapes_copy / MAP)
    with pytest.raises(
        DataError, match=r"train_00001.png holds 5, expected 0 for .*1..4 for the 4 .*correct"
    ):
        check_data(maps(shapes_copy))


def test_ignore_index_is_allowed(shapes_copy):
    for path in (shapes_copy / MAPS).iterdir():
        labels = np.asarray(Image.open(path)).astype(int) - 1
        Image.fromarray(np.where(labels < 0, 200, labels).astype(np.uint8)).save(path)
    cfg = maps(shapes_copy, reduce_zero_label=False, ignore_index=200)
    assert check_data(cfg) == []


def test_choice_of_the_types_own_classes(shapes_root):
    """Maps keep the numbers of all classes; the settings left out come from the type."""
    own = "mmplugins.datasets.shapes_segmentation.ShapesSegmentation"
    cfg = maps(shapes_root, type=own, metainfo=dict(classes=METAINFO["classes"][:2]))
    del cfg["train_dataloader"]["dataset"]["reduce_zero_label"]
    assert check_data(cfg) == []


@pytest.mark.parametrize("resize", [False, True])
def test_small_pictures(shapes_copy, resize):
    for file in (MAP, PICTURE):
        paint(np.zeros((20, 96), np.uint8))(shapes_copy / file)
    steps = [LOAD, dict(type="LoadAnnotations"), *[dict(type="Resize", scale=(96, 96))] * resize]
    found = [str(finding) for finding in check_data(maps(shapes_copy, pipeline=steps))]
    assert ["1 of 8 pictures have a side below 32" in text for text in found] == [True] * (
        not resize
    )


def test_pictures_without_maps_can_be_predicted(shapes_root):
    (finding,) = check_data(maps(shapes_root, data_prefix=dict(img_path=PICTURES)))
    assert "predictions only" in str(finding)


def test_maps_without_a_picture(shapes_copy):
    (shapes_copy / PICTURE).unlink()
    (finding,) = check_data(maps(shapes_copy))
    assert "1 label maps in " in str(finding) and "not used: train_00001.png: copy" in str(finding)
    (shapes_copy / "some.txt").write_text("train_00000\ntrain_00002")
    found = check_data(maps(shapes_copy, ann_file="some.txt"))
    assert not any("have no picture" in str(finding) for finding in found)  # a choice that is meant


def test_pictures_of_16_bits(shapes_copy):
    path = shapes_copy / PICTURE
    Image.fromarray(np.full((96, 96), 4000, np.uint16)).save(path, format="PNG")
    (finding,) = check_data(maps(shapes_copy))
    assert "1 of 8 pictures have 16 bits per channel" in str(finding)
