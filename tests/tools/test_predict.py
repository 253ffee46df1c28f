"""tools/predict.py: what it writes, says and passes over."""

from __future__ import annotations

import io
import json
import sys

import numpy as np
import pytest
from PIL import Image
from small_recipes import CLASSES, PALETTE, checkpoint_of, config_of, picture

from mmplugins.inference import InputError
from mmplugins.inference.results import decode
from mmplugins.utils import WriteError


@pytest.fixture(scope="module")
def detector(folder):
    return checkpoint_of(config_of("mask_rcnn", folder), "detector.pth")


@pytest.fixture(scope="module")
def segmentor(folder):
    return checkpoint_of(config_of("semantic_fpn", folder), "segmentor.pth")


@pytest.fixture
def pictures(tmp_path):
    made = tmp_path / "pictures"
    made.mkdir()
    return [picture(made / f"{name}.png", seed=k) for k, name in enumerate("ab")]


def test_writes_drawings_and_coco_results(detector, pictures, tmp_path, call, capsys):
    call("predict", detector, pictures[0].parent, "--out", tmp_path / "out", "--score-thr", 0.25)
    said = capsys.readouterr().err
    assert "2/2" in said and f"Wrote {tmp_path}/out/predictions.json" in said
    records = json.loads((tmp_path / "out/predictions.json").read_text())
    assert {record["image_id"] for record in records} == {0, 1}
    for record in records:
        assert record["file_name"] == str(pictures[record["image_id"]])
        assert record["category"] == CLASSES[record["category_id"] - 1]
        assert record["score"] >= 0.25 and decode(record["segmentation"]).shape == (72, 108)
    drawn = np.asarray(Image.open(tmp_path / "out/pictures/a.jpg")).astype(int)
    plain = np.asarray(Image.open(pictures[0])).astype(int)
    assert drawn.shape == plain.shape and np.abs(drawn - plain).max() > 100
    with pytest.raises(InputError, match="of an earlier run: give another --out, or --overwrite"):
        call("predict", detector, pictures[0], "--out", tmp_path / "out")
    call("predict", detector, pictures[0], "--out", tmp_path / "out", "--overwrite")
    again = json.loads((tmp_path / "out/predictions.json").read_text())
    assert {record["image_id"] for record in again} == {0}


def test_tiles_are_counted_beside_the_pictures(detector, pictures, tmp_path, call, capsys):
    call("predict", detector, pictures[0], "--out", tmp_path / "out", "--tile", 60, "--overlap", 9)
    said = capsys.readouterr().err
    assert "1/1" in said and "4/4" in said
    call("predict", detector, pictures[0], "--out", tmp_path / "whole")
    assert "Tiles" not in capsys.readouterr().err


def test_writes_label_maps_with_a_palette(segmentor, pictures, tmp_path, call):
    call("predict", segmentor, *pictures, "--out", tmp_path / "out")
    written = Image.open(tmp_path / "out/label_maps/b.png")
    labels = np.asarray(written)
    assert written.mode == "P" and labels.shape == (72, 108) and labels.max() < len(CLASSES)
    assert written.getpalette()[: 3 * len(PALETTE)] == [v for colour in PALETTE for v in colour]
    assert (tmp_path / "out/pictures/b.jpg").is_file()


def test_json_lines(detector, segmentor, pictures, monkeypatch, tmp_path, call, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(map(str, pictures))))
    call("predict", detector, "-", "--json", "-")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["file"] for line in lines] == [str(path) for path in pictures]
    for line in lines:
        assert {len(line[k]) for k in ("boxes", "scores", "labels", "masks")} == {
            len(line["classes"])
        }
    assert not (tmp_path / "predictions").exists()
    call("predict", segmentor, pictures[0], "--json", "maps.jsonl")
    (line,) = map(json.loads, (tmp_path / "maps.jsonl").read_text().splitlines())
    assert sum(line["shares"].values()) == pytest.approx(1, abs=1e-4)


def test_ids_of_an_annotation_file(detector, pictures, tmp_path, call):
    images = [dict(file_name=f"somewhere/{path.name}", id=70) for path in pictures[:1]]
    categories = [dict(name=name, id=10 + k) for k, name in enumerate(reversed(CLASSES))]
    file = tmp_path / "instances.json"
    file.write_text(json.dumps(dict(images=images, categories=categories, annotations=[])))
    options = ("--annotations", file, "--no-pictures", "--score-thr", 0)
    call("predict", detector, pictures[0], "--out", tmp_path / "out", *options)
    records = json.loads((tmp_path / "out/predictions.json").read_text())
    assert {record["image_id"] for record in records} == {70}
    assert {record["category_id"] for record in records} <= {10, 11, 12}
    with pytest.raises(InputError, match=r"b.png is no file_name in the annotations"):
        call("predict", detector, pictures[1], "--out", tmp_path / "other", *options)
    file.write_text(json.dumps(dict(images=images, categories=categories[:1])))
    with pytest.raises(InputError, match="have the categories cross, but the model has disc, bar"):
        call("predict", detector, pictures[0], "--out", tmp_path / "other", *options)


def test_bad_pictures_are_passed_over(detector, pictures, tmp_path, call, capsys):
    bad = pictures[0].with_name("aa.png")
    bad.write_bytes(b"nothing")
    with pytest.raises(SystemExit, match="1 of the inputs passed over"):
        call("predict", detector, bad.parent, "--out", tmp_path / "out", "--json", "-")
    said = capsys.readouterr()
    assert "passed over" in said.err and "aa.png (7 bytes) is no picture" in said.err
    lines = [json.loads(line) for line in said.out.splitlines()]
    assert [("error" in line) for line in lines] == [False, True, False]
    assert {path.name for path in (tmp_path / "out/pictures").iterdir()} == {"a.jpg", "b.jpg"}


def test_names_that_meet_stay_apart(detector, pictures, tmp_path, call):
    other = tmp_path / "other"
    other.mkdir()
    twin = picture(other / "a.jpg")
    call("predict", detector, pictures[0], twin, "--out", tmp_path / "out")
    assert {p.name for p in (tmp_path / "out/pictures").iterdir()} == {"a.jpg", "a_2.jpg"}


def test_nowhere_to_write(detector, pictures, tmp_path, call, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match=r"^[^\[].*file/out cannot be written to: Not a directory"):
        call("predict", detector, pictures[0], "--out", tmp_path / "file/out")
    with pytest.raises(WriteError, match=r"^[^\[].*lines.json was not written: Not a dir"):
        call("predict", detector, pictures[0], "--json", tmp_path / "file/lines.json")
    with pytest.raises(WriteError, match=r"pictures was not written: Is a directory"):
        call("predict", detector, pictures[0], "--json", pictures[0].parent)
    assert "Predicting" not in capsys.readouterr().err  # all of it is known before
    with pytest.raises(InputError, match="is a file: expected a folder"):
        call("predict", detector, pictures[0], "--out", tmp_path / "file")


def test_wrong_options_leave_no_folder(detector, pictures, tmp_path, call, capsys):
    for words, message in (
        (("--classes", "disk"), "class 'disk' .* Did you mean 'disc'"),
        (("--score-thr", 2), "score_thr=2.0: expected 0 to 1"),
        (("--tile", 64, "--overlap", 40), "tiles of 64 pixels that overlap by 40"),
        (("--overlap", 40), "overlap=40 without tile"),
    ):
        with pytest.raises(InputError, match=message):
            call("predict", detector, pictures[0], "--out", tmp_path / "out", *words)
    assert not (tmp_path / "out").exists() and "Predicting" not in capsys.readouterr().err


def test_frames_of_a_video(detector, tmp_path, call, capsys):
    import cv2

    film = tmp_path / "film.avi"
    video = cv2.VideoWriter(str(film), cv2.VideoWriter_fourcc(*"MJPG"), 5, (64, 48))
    for k in range(3):
        video.write(np.full((48, 64, 3), 80 * k, np.uint8))
    video.release()
    call("predict", detector, "--tile", 32, "--json", "-", film, "--out", tmp_path / "out")
    said = capsys.readouterr()
    assert "3/3" in said.err
    files = [json.loads(line)["file"] for line in said.out.splitlines()]
    assert files == [f"{film}#{k:06d}" for k in range(3)]
    assert (tmp_path / "out/pictures/film.avi_000002.jpg").is_file()


def test_a_model_and_an_input_are_needed(detector, call):
    with pytest.raises(SystemExit):
        call("predict", detector)
