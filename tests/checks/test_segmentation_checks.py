import numpy as np
import pytest
from PIL import Image

from mmplugins.checks import DataError, check_data
from mmplugins.datasets import METAINFO

PREFIX = dict(img_path="images/training", seg_map_path="annotations/training")
PIPELINE = [dict(type="LoadImageFromFile"), dict(type="LoadAnnotations")]


def config(root, **changes):
    dataset = dict(
        type="BaseSegDataset",
        data_root=str(root),
        data_prefix=PREFIX,
        metainfo=dict(classes=METAINFO["classes"]),
        reduce_zero_label=True,
        pipeline=PIPELINE,
    )
    return dict(default_scope="mmseg", train_dataloader=dict(dataset={**dataset, **changes}))


def test_good_data(shapes_root):
    assert check_data(config(shapes_root)) == []


def test_wrong_picture_folder(shapes_root):
    prefix = dict(PREFIX, img_path="images/train")
    with pytest.raises(DataError, match="img_path leads to '.*images/train', which does not exist"):
        check_data(config(shapes_root, data_prefix=prefix))


def test_wrong_suffix(shapes_root):
    with pytest.raises(DataError, match="ends in img_suffix '.png'; it holds train_00000.jpg"):
        check_data(config(shapes_root, img_suffix=".png"))


def test_absent_map(shapes_copy):
    (shapes_copy / "annotations/training/train_00003.png").unlink()
    with pytest.raises(DataError, match="1 of 8 label maps do not exist: .*train_00003.png"):
        check_data(config(shapes_copy))


def test_list_of_names(shapes_copy):
    (shapes_copy / "some.txt").write_text("train_00001\ntrain_00004\n")
    found = [str(finding) for finding in check_data(config(shapes_copy, ann_file="some.txt"))]
    assert all("no pixel of" in text and "in 2 of 2 label maps" in text for text in found)
    (shapes_copy / "some.txt").write_text("train_00001\ntrain_00099\n")
    with pytest.raises(DataError, match="1 of 2 pictures do not exist: .*train_00099.jpg"):
        check_data(config(shapes_copy, ann_file="some.txt"))
    with pytest.raises(DataError, match="'.*other.txt' does not exist: give the text file"):
        check_data(config(shapes_copy, ann_file="other.txt"))


@pytest.mark.parametrize("name", ["images/training/train_00001.jpg", "annotations/training/x.png"])
def test_truncated_file(shapes_copy, name):
    path = shapes_copy / name.replace("x.png", "train_00001.png")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=f"{path.name} .*cannot be decoded"):
        check_data(config(shapes_copy))


def write_map(root, pixels):
    Image.fromarray(pixels).save(root / "annotations/training/train_00001.png")


def test_map_in_colours(shapes_copy):
    write_map(shapes_copy, np.zeros((96, 96, 3), np.uint8))
    with pytest.raises(DataError, match="train_00001.png has 3 channels, expected one"):
        check_data(config(shapes_copy))


def test_map_of_another_size(shapes_copy):
    write_map(shapes_copy, np.zeros((48, 96), np.uint8))
    with pytest.raises(DataError, match="train_00001.png is 96x48, its picture 96x96"):
        check_data(config(shapes_copy))


def test_values_outside_the_classes(shapes_copy):
    pixels = np.zeros((96, 96), np.uint8)
    pixels[:2] = [[4], [255]]
    write_map(shapes_copy, pixels)
    assert check_data(config(shapes_copy)) == []
    pixels[2] = 5
    write_map(shapes_copy, pixels)
    with pytest.raises(
        DataError, match=r"train_00001.png holds 5, expected 0 for .*1..4 for the 4"
    ):
        check_data(config(shapes_copy))


def test_forgotten_reduce_zero_label(shapes_root):
    expected = r"holds 4, expected 0..3 for the 4 classes.*set reduce_zero_label=True"
    with pytest.raises(DataError, match=expected):
        check_data(config(shapes_root, reduce_zero_label=False))


def test_ignore_index_is_allowed(shapes_copy):
    for path in (shapes_copy / "annotations/training").iterdir():
        labels = np.asarray(Image.open(path)).astype(int) - 1
        Image.fromarray(np.where(labels < 0, 200, labels).astype(np.uint8)).save(path)
    cfg = config(shapes_copy, reduce_zero_label=False, ignore_index=200)
    assert check_data(cfg) == []


def test_choice_of_the_types_own_classes(shapes_root):
    """Maps keep the numbers of all classes; the settings left out come from the type."""
    own = "mmplugins.datasets.shapes_segmentation.ShapesSegmentation"
    chosen = dict(classes=METAINFO["classes"][:2])
    cfg = config(shapes_root, type=own, metainfo=chosen)
    del cfg["train_dataloader"]["dataset"]["reduce_zero_label"]
    assert check_data(cfg) == []
    with pytest.raises(
        DataError, match="street, which are no classes of ADE20KDataset: .*BaseSegD"
    ):
        check_data(config(shapes_root, type="ADE20KDataset", metainfo=dict(classes=("street",))))


@pytest.mark.parametrize("resize", [False, True])
def test_small_pictures(shapes_copy, resize):
    small = np.zeros((20, 96), np.uint8)
    write_map(shapes_copy, small)
    Image.fromarray(small).save(shapes_copy / "images/training/train_00001.jpg")
    pipeline = [*PIPELINE, *([dict(type="Resize", scale=(96, 96))] if resize else [])]
    cfg = config(shapes_copy, pipeline=pipeline)
    found = [str(finding) for finding in check_data(cfg)]
    assert [("1 of 8 pictures have a side below 32" in text) for text in found] == [True] * (
        not resize
    )


def test_pictures_without_maps_can_be_predicted(shapes_root):
    (finding,) = check_data(config(shapes_root, data_prefix=dict(img_path="images/training")))
    assert "predictions only" in str(finding)


def test_maps_without_a_picture(shapes_copy):
    (shapes_copy / "images/training/train_00003.jpg").unlink()
    (finding,) = check_data(config(shapes_copy))
    assert "1 label maps in " in str(finding) and "not used: train_00003.png" in str(finding)
    names = [f"train_0000{k}" for k in (0, 1)]
    (shapes_copy / "some.txt").write_text("\n".join(names))
    assert check_data(config(shapes_copy, ann_file="some.txt")) == []  # a choice that is meant


def test_the_folders_by_names_of_mmdet(shapes_root):
    with pytest.raises(DataError, match="nobody reads img: expected img_path and seg_map_path"):
        check_data(config(shapes_root, data_prefix=dict(img="images/training")))


def test_pictures_of_16_bits(shapes_copy):
    path = shapes_copy / "images/training/train_00001.jpg"
    Image.fromarray(np.full((96, 96), 4000, np.uint16)).save(path, format="PNG")
    (finding,) = check_data(config(shapes_copy))
    assert "1 of 8 pictures have 16 bits per channel" in str(finding)
