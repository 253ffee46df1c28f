"""Kinds of files that users have: what training reads is read, what it cannot read is named."""

from __future__ import annotations

import gzip
import os
import shutil

import mmcv
import numpy as np
import pytest
from breaking import JSON, LOAD, MAPS, PICTURES, coco, edit, maps
from PIL import Image

from mmplugins.checks import DataError, check_data
from mmplugins.datasets import METAINFO

UNTURNED = dict(LOAD, color_type="color_ignore_orientation")


def repaint(root, change):
    """Change all label maps."""
    for path in (root / MAPS).iterdir():
        labels = np.asarray(Image.open(path)).astype(int)
        Image.fromarray(change(labels).astype(np.uint8)).save(path)


def turn(root, orientation=6):
    """Give the first picture another shape, and a camera's flag that it is to be turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = root / PICTURES / "train_00000.jpg"
    Image.open(path).crop((0, 0, 96, 64)).save(path, exif=exif)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_turned_picture_with_annotations_of_the_unturned_one(shapes_copy, orientation):
    turn(shapes_copy, orientation)
    edit(shapes_copy, lambda d: d["images"][0].update(width=96, height=64))
    with pytest.raises(DataError, match="1 of 8 .*turn flag.*loaded as 64x96, not 96x64.*give"):
        check_data(coco(shapes_copy))
    assert not any("differ" in str(f) for f in check_data(coco(shapes_copy, UNTURNED)))
    edit(shapes_copy, lambda d: d["images"][0].update(width=64, height=96))
    assert not any("differ" in str(f) for f in check_data(coco(shapes_copy)))


@pytest.mark.parametrize("orientation", [2, 3, 4, 6])
def test_a_flag_that_leaves_the_size_as_it_is(shapes_copy, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = shapes_copy / PICTURES / "train_00000.jpg"
    whole = Image.open(path)
    assert whole.width == whole.height
    whole.save(path, exif=exif)
    for config in (coco, maps):
        (found,) = check_data(config(shapes_copy))
        assert "1 of 8 pictures have a camera's flag" in str(found)
        assert "train_00000.jpg: " in str(found) and "'color_ignore_orientation'" in str(found)
        assert check_data(config(shapes_copy, UNTURNED)) == []


@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_a_flag_that_opencv_always_obeys(shapes_copy, orientation):
    """That of TIFF: no setting of the pipeline helps, and the advice is another."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = shapes_copy / PICTURES / "train_00000.jpg"
    whole = Image.open(path)
    whole.save(path, format="TIFF", exif=exif)
    stored = np.asarray(whole)[..., ::-1]
    if (mmcv.imread(path, flag="color_ignore_orientation") == stored).all():
        pytest.skip("this OpenCV ignores it when it is told to")
    for pipeline in (None, UNTURNED):
        (found,) = check_data(coco(shapes_copy, *([pipeline] if pipeline else [])))
        assert "1 of 8 pictures have a camera's flag" in str(found)
        assert "export them without the flag" in str(found)
        assert "color_ignore_orientation" not in str(found)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_other_kinds_of_files_are_turned_too(shapes_copy, kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = shapes_copy / PICTURES / "train_00000.jpg"  # what it is, its first bytes say
    Image.open(path).crop((0, 0, 96, 64)).save(path, format=kind, exif=exif)
    edit(shapes_copy, lambda d: d["images"][0].update(width=96, height=64))
    kept = mmcv.imread(path, flag="color_ignore_orientation").shape[1::-1] == (96, 64)
    remedy = "give LoadImageFromFile color_type=" if kept else ": export both turned"
    if mmcv.imread(path).shape[1::-1] == (64, 96):  # as OpenCV 5 does
        with pytest.raises(DataError, match=f"1 of 8 .*turn flag.*{remedy}"):
            check_data(coco(shapes_copy))
    if kept:
        assert not any("differ" in str(f) for f in check_data(coco(shapes_copy, UNTURNED)))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_lost_end_that_opencv_fills_with_grey(shapes_copy, kind, monkeypatch):
    """OpenCV 4 does so; OpenCV 5 refuses the file."""
    path = shapes_copy / PICTURES / "train_00003.jpg"
    Image.open(path).save(path, format=kind)
    whole = path.read_bytes()
    path.write_bytes(whole[:-200])
    decode = mmcv.imfrombytes
    filled = {path.read_bytes(): decode(whole)}
    monkeypatch.setattr(mmcv, "imfrombytes", lambda c, **k: filled.get(c, decode(c, **k)))
    for config in (coco, maps):
        (found,) = check_data(config(shapes_copy))
        assert "1 of 8 pictures have lost their end" in str(found)
        assert "train_00003.jpg: copy them again" in str(found)


def test_a_turned_picture_with_the_map_of_the_unturned_one(shapes_copy):
    turn(shapes_copy)
    path = shapes_copy / MAPS / "train_00000.png"
    Image.open(path).crop((0, 0, 96, 64)).save(path)
    with pytest.raises(DataError, match="train_00000.png is 96x64, its picture 64x96.*turn flag"):
        check_data(maps(shapes_copy))
    assert check_data(maps(shapes_copy, UNTURNED)) == []


def test_a_png_that_lost_its_end(shapes_copy):
    path = shapes_copy / PICTURES / "train_00003.jpg"  # what it is, its first bytes say
    Image.open(path).save(path, format="PNG")
    assert check_data(coco(shapes_copy)) == []
    os.truncate(path, path.stat().st_size - 20)
    with pytest.raises(
        DataError, match=r"train_00003.jpg \(\d+ bytes\) cannot be decoded.*copy it"
    ):
        check_data(coco(shapes_copy))


def test_a_format_that_only_pillow_reads(shapes_copy):
    path = shapes_copy / PICTURES / "train_00003.jpg"
    Image.open(path).save(path, format="TGA")
    with pytest.raises(DataError, match="train_00003.jpg .*cannot be decoded.*save it as PNG"):
        check_data(coco(shapes_copy))
    assert check_data(coco(shapes_copy, dict(LOAD, imdecode_backend="pillow"))) == []


def test_pictures_larger_than_pillow_allows(shapes_root, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)  # twice as many are an error
    assert check_data(coco(shapes_root)) == []


def test_hidden_files_and_folders_behind_links(shapes_copy):
    for folder in (PICTURES, MAPS):
        first = next((shapes_copy / folder).iterdir())
        (first.parent / f"._{first.name}").write_bytes(b"of a Macintosh")
        shutil.move(shapes_copy / folder, shapes_copy / f"there/{folder}")
        (shapes_copy / folder).mkdir()
        (shapes_copy / folder / "part").symlink_to(shapes_copy / f"there/{folder}")
    assert check_data(maps(shapes_copy)) == []


def test_empty_lines_in_a_list_of_names(shapes_copy):
    (shapes_copy / "some.txt").write_text("train_00001\n\ntrain_00004\n\n")
    with pytest.raises(DataError, match="lines 2, 4 of .*some.txt are empty.*remove them"):
        check_data(maps(shapes_copy, ann_file="some.txt"))


def test_names_that_are_listed_twice(shapes_copy):
    names = sorted(path.stem for path in (shapes_copy / MAPS).iterdir())
    (shapes_copy / "some.txt").write_text("\n".join([*names, names[0]]))
    assert check_data(maps(shapes_copy, ann_file="some.txt")) == []


WRITTEN = {
    "with a mark": (lambda text: b"\xef\xbb\xbf" + text.encode(), "byte-order mark.*without one"),
    "by Windows": (lambda text: text.encode("utf-16"), "UTF-16.*save it as UTF-8"),
    "in Latin-1": (lambda text: (text + "\xf6").encode("latin-1"), "no UTF-8 text.*as UTF-8"),
    "packed": (lambda text: gzip.compress(text.encode()), "is compressed: unpack it"),
}


@pytest.mark.parametrize("kind", WRITTEN)
def test_annotations_that_are_no_plain_text(shapes_copy, kind):
    write, message = WRITTEN[kind]
    (shapes_copy / "some.txt").write_bytes(write("train_00001\ntrain_00002\n"))
    with pytest.raises(DataError, match=f"ann_file .*some.txt .*{message}"):
        check_data(maps(shapes_copy, ann_file="some.txt"))
    path = shapes_copy / JSON
    path.write_bytes(write(path.read_text()))
    with pytest.raises(DataError, match=f"ann_file .*json .*{message}"):
        check_data(coco(shapes_copy))


def test_a_list_without_names(shapes_copy):
    """The training step says that there are no pictures; no class is said to be missing."""
    (shapes_copy / "none.txt").write_text("")
    assert check_data(maps(shapes_copy, ann_file="none.txt")) == []


def test_a_link_that_leads_nowhere(shapes_copy):
    path = shapes_copy / PICTURES / "train_00003.jpg"
    path.unlink()
    path.symlink_to(shapes_copy / "gone.jpg")
    with pytest.raises(DataError, match="1 of 8 pictures do not exist .1 are links that lead"):
        check_data(coco(shapes_copy))
    (found,) = check_data(maps(shapes_copy))  # mmseg passes it over
    assert "1 label maps in" in str(found) and "train_00003.png" in str(found)
    path = shapes_copy / MAPS / "train_00001.png"
    path.unlink()
    path.symlink_to(shapes_copy / "gone.png")
    with pytest.raises(DataError, match="1 of 7 label maps do not exist .1 are links that lead"):
        check_data(maps(shapes_copy))


def test_masks_of_0_and_255(shapes_copy):
    repaint(shapes_copy, lambda labels: np.where(labels > 0, 255, 0))
    classes = dict(metainfo=dict(classes=("ground", "thing")), reduce_zero_label=False)
    (found,) = check_data(maps(shapes_copy, **classes))
    assert "no pixel of thing in 8 of 8 label maps, which hold 0, 255" in str(found)
    assert "write 1 in place of 255" in str(found)


def test_classes_that_count_from_0(shapes_copy):
    repaint(shapes_copy, lambda labels: np.maximum(labels - 1, 0))  # 0..3 for the four classes
    (found,) = check_data(maps(shapes_copy))
    assert f"no pixel of {METAINFO['classes'][-1]}" in str(found)
    assert "give reduce_zero_label=False" in str(found)


def test_classes_that_count_from_1(shapes_copy):
    repaint(shapes_copy, lambda labels: np.where(labels == 0, 255, labels))
    (found,) = check_data(
        maps(
            shapes_copy, reduce_zero_label=False, metainfo=dict(classes=("x", *METAINFO["classes"]))
        )
    )
    assert "no pixel of x" in str(found) and "give reduce_zero_label=True" in str(found)
