"""What pictures are found, and how good and bad ones are read."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from PIL import Image
from small_recipes import picture

from mmplugins.inference import InputError, find_inputs, read_picture
from mmplugins.inference.inputs import read_frames


def names(found):
    return [source.name for source in found]


def test_files_folders_patterns_and_lists(tmp_path):
    below = tmp_path / "below"
    below.mkdir()
    a, b, c = (picture(p) for p in (tmp_path / "a.png", tmp_path / "b.JPG", below / "c.png"))
    (tmp_path / "notes.txt").write_text("no picture")
    assert names(find_inputs([a, b])) == [str(a), str(b)]
    assert names(find_inputs(tmp_path)) == [str(a), str(b)]
    assert names(find_inputs(f"{tmp_path}/**/*.png")) == [str(a), str(c)]
    assert names(find_inputs(["-", b], io.StringIO(f"{a}\n\n{below}\n"))) == [
        str(a),
        str(c),
        str(b),
    ]
    assert names(find_inputs([np.zeros((4, 4, 3), np.uint8)])) == ["image_0"]


def test_inputs_that_are_none(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match=r"empty holds no pictures .* give the pattern"):
        find_inputs(empty)
    with pytest.raises(InputError, match=r"\*.png' matches no files"):
        find_inputs(f"{empty}/*.png")
    with pytest.raises(InputError, match="no pictures were given"):
        find_inputs("-", io.StringIO("\n"))


MODES = {"grey.png": "L", "transparent.png": "RGBA", "cmyk.jpg": "CMYK", "indexed.png": "P"}


@pytest.mark.parametrize("name", MODES)
def test_every_mode_becomes_three_channels(name, tmp_path):
    colour = Image.new("RGB", (9, 7), (200, 200, 200))
    more = dict(palette=Image.Palette.ADAPTIVE) if MODES[name] == "P" else {}
    colour.convert(MODES[name], **more).save(tmp_path / name)
    pixels = read_picture(tmp_path / name)
    assert pixels.shape == (7, 9, 3) and pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - 200).max() <= 3


def test_sixteen_bits_keep_the_upper_eight(tmp_path):
    deep = (np.arange(12, dtype=np.uint16).reshape(3, 4) * 20 + 3) * 256 + 77
    cv2.imwrite(str(tmp_path / "deep.png"), deep)
    pixels = read_picture(tmp_path / "deep.png")
    np.testing.assert_array_equal(pixels, (deep >> 8).astype(np.uint8)[..., None].repeat(3, 2))


def test_one_pixel(tmp_path):
    assert read_picture(picture(tmp_path / "one.png", (1, 1))).shape == (1, 1, 3)


@pytest.mark.parametrize("turn", range(1, 9))
def test_pictures_are_turned_as_their_exif_says(turn, tmp_path):
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = turn
    original = Image.open(picture(tmp_path / "plain.png", (48, 96)))
    original.save(tmp_path / "turned.jpg", exif=exif, quality=100)
    upright = ImageOps.exif_transpose(Image.open(tmp_path / "turned.jpg"))
    expected = np.asarray(upright)[..., ::-1].astype(int)
    pixels = read_picture(tmp_path / "turned.jpg").astype(int)
    assert pixels.shape == expected.shape
    assert np.abs(pixels - expected).mean() < 2


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_pictures_cut_short(suffix, tmp_path):
    whole = picture(tmp_path / f"whole{suffix}", (96, 96)).read_bytes()
    read_picture(tmp_path / f"whole{suffix}")
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(InputError, match="is cut short"):
        read_picture(cut)


def test_a_cut_picture_with_a_whole_thumbnail(tmp_path):
    """The thumbnail's end is not the picture's."""
    thumbnail = io.BytesIO()
    Image.new("RGB", (8, 8)).save(thumbnail, "JPEG")
    path = tmp_path / "photo.jpg"
    picture(tmp_path / "photo.png", (96, 96))
    Image.open(tmp_path / "photo.png").save(path, comment=thumbnail.getvalue())
    assert read_picture(path).shape == (96, 96, 3)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match="is cut short"):
        read_picture(path)


def test_files_that_are_no_pictures(tmp_path):
    for name, data, message in [
        ("empty.png", b"", "is empty"),
        ("text.jpg", b"not a picture at all", "is no picture that OpenCV knows"),
    ]:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=f"{name}.*{message}"):
            read_picture(tmp_path / name)
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_picture(tmp_path)


def test_videos(tmp_path):
    path = tmp_path / "film.avi"
    video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 5, (64, 48))
    for k in range(3):
        video.write(np.full((48, 64, 3), 80 * k, np.uint8))
    video.release()
    frames = list(read_frames(path))
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 3
    assert [round(float(frame.mean()) / 80) for frame in frames] == [0, 1, 2]
    (tmp_path / "none.mp4").write_bytes(b"\0" * 100)
    with pytest.raises(InputError, match="none.mp4 is no video that OpenCV can read, or has no"):
        list(read_frames(tmp_path / "none.mp4"))
