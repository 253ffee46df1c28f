import contextlib
import hashlib
import io
import json
import multiprocessing
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from mmplugins.datasets import METAINFO, make_shapes, shapes

SMALL = dict(image_size=64, num_train=3, num_val=2, seed=0)


def digests(root):
    files = sorted(p for p in root.rglob("*") if p.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def load(root, split):
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(root / "annotations" / f"instances_{split}.json"))


def test_layout(shapes_root, shapes_spec):
    for split, folder in (("train", "training"), ("val", "validation")):
        names = [f"{split}_{k:05d}" for k in range(shapes_spec[f"num_{split}"])]
        pictures = sorted(p.name for p in (shapes_root / "images" / folder).iterdir())
        maps = sorted(p.name for p in (shapes_root / "annotations" / folder).iterdir())
        assert pictures == [f"{name}.jpg" for name in names]
        assert maps == [f"{name}.png" for name in names]
    jpeg = (shapes_root / "images/training/train_00000.jpg").read_bytes()
    assert jpeg[:2] == b"\xff\xd8" and jpeg[-2:] == b"\xff\xd9"


def test_same_arguments_same_bytes_other_seed_other_bytes(tmp_path):
    first = digests(make_shapes(tmp_path / "a", **SMALL))
    assert digests(make_shapes(tmp_path / "b", **SMALL)) == first
    other = digests(make_shapes(tmp_path / "c", **{**SMALL, "seed": 1}))
    pictures = [name for name in first if name.endswith(".jpg")]
    assert len(pictures) == 5 and all(first[name] != other[name] for name in pictures)


def test_a_larger_set_begins_with_the_smaller_one(tmp_path):
    small = digests(make_shapes(tmp_path / "a", **SMALL))
    large = digests(make_shapes(tmp_path / "b", **{**SMALL, "num_train": 5, "num_val": 4}))
    for name, digest in small.items():
        if name.endswith((".jpg", ".png")):
            assert large[name] == digest


def test_splits_differ(shapes_root):
    first = cv2.imread(str(shapes_root / "images/training/train_00000.jpg"))
    second = cv2.imread(str(shapes_root / "images/validation/val_00000.jpg"))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(("split", "folder"), [("train", "training"), ("val", "validation")])
def test_coco_file_agrees_with_pictures_and_maps(shapes_root, shapes_spec, split, folder):
    coco = load(shapes_root, split)
    assert tuple(c["name"] for c in coco.loadCats(coco.getCatIds())) == METAINFO["classes"]
    assert len(coco.imgs) == shapes_spec[f"num_{split}"]
    for image in coco.imgs.values():
        picture = cv2.imread(str(shapes_root / "images" / folder / image["file_name"]))
        assert picture.shape == (image["height"], image["width"], 3)
        name = image["file_name"].replace(".jpg", ".png")
        labels = cv2.imread(str(shapes_root / "annotations" / folder / name), -1)
        assert labels.shape == picture.shape[:2] and labels.max() <= len(METAINFO["classes"])
        annotations = coco.loadAnns(coco.getAnnIds(image["id"]))
        assert annotations
        masks = np.stack([coco.annToMask(ann) for ann in annotations]).astype(bool)
        assert np.array_equal(labels > 0, masks.any(0))
        alone = masks.sum(0) == 1
        for ann, mask in zip(annotations, masks, strict=True):
            assert (labels[mask & alone] == ann["category_id"]).all()
            assert isinstance(ann["segmentation"], list) and ann["iscrowd"] == 0
            assert ann["area"] == mask.sum()
            rows, columns = np.nonzero(mask)
            x, y, w, h = ann["bbox"]
            assert (x, y) == (columns.min(), rows.min())
            assert (x + w, y + h) == (columns.max() + 1, rows.max() + 1)


def test_a_finished_set_is_reused(shapes_root, shapes_spec, monkeypatch):
    monkeypatch.setattr(shapes, "render_image", None)  # would fail if anything were drawn
    assert make_shapes(shapes_root, **shapes_spec) == shapes_root


def test_other_parameters_are_named(shapes_root, shapes_spec):
    before = digests(shapes_root)
    with pytest.raises(FileExistsError, match=r"num_train=8 \(asked for: 9\), seed=3 .*another"):
        make_shapes(shapes_root, **{**shapes_spec, "num_train": 9, "seed": 4})
    assert digests(shapes_root) == before


def test_a_foreign_folder_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(FileExistsError, match=r"no shapes data set.*nothing is overwritten"):
        make_shapes(tmp_path, **SMALL)
    assert digests(tmp_path).keys() == {"mine.txt"}


def test_an_empty_folder_is_used(tmp_path):
    (tmp_path / "new").mkdir()
    assert (make_shapes(tmp_path / "new", **SMALL) / "shapes.json").is_file()


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError("disk full")])
def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch, stop):
    draw, calls = shapes.render_image, []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 4:
            raise stop
        return draw(*args)

    root = tmp_path / "shapes"
    with monkeypatch.context() as patch:
        patch.setattr(shapes, "render_image", interrupted)
        with pytest.raises(type(stop) if isinstance(stop, Exception) else stop):
            make_shapes(root, **SMALL)
    assert len(calls) == 4
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == []
    assert make_shapes(root, **SMALL).is_dir()


def test_leavings_of_a_killed_process_are_cleared(tmp_path):
    partial = tmp_path / ".shapes.partial"
    (partial / "images" / "training").mkdir(parents=True)
    (partial / "images" / "training" / "train_99999.jpg").write_bytes(b"half")
    root = make_shapes(tmp_path / "shapes", **SMALL)
    assert not partial.exists()
    assert sum(name.endswith(".jpg") for name in digests(root)) == 5


def test_who_comes_second_waits_and_draws_nothing(tmp_path, shapes_root, shapes_spec, monkeypatch):
    draw, drawn = shapes.render_image, []
    monkeypatch.setattr(shapes, "render_image", lambda *a: drawn.append(a) or draw(*a))
    root = tmp_path / "shapes"
    # The lock is on the open file, so threads meet it as processes do.
    with ThreadPoolExecutor(4) as pool:
        made = [pool.submit(make_shapes, root, **shapes_spec) for _ in range(4)]
    assert {one.result() for one in made} == {root}
    assert len(drawn) == shapes_spec["num_train"] + shapes_spec["num_val"]
    assert digests(root) == digests(shapes_root)


@pytest.mark.slow
def test_two_processes_at_once_give_one_whole_set(tmp_path, shapes_root, shapes_spec):
    root = tmp_path / "shapes"
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=make_shapes, args=(root,), kwargs=shapes_spec) for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert digests(root) == digests(shapes_root)


@pytest.mark.parametrize(
    "bad", [dict(image_size=32), dict(num_train=0), dict(num_val=2.0), dict(seed=-1)]
)
def test_bad_parameters(tmp_path, bad):
    (name,) = bad
    with pytest.raises(ValueError, match=f"{name}=.*expected a whole number of at least"):
        make_shapes(tmp_path / "shapes", **{**SMALL, **bad})
    assert not (tmp_path / "shapes").exists()


def test_manifest_holds_the_parameters(shapes_root, shapes_spec):
    manifest = json.loads((shapes_root / shapes.MANIFEST).read_text())
    assert manifest == {"version": shapes.VERSION, **shapes_spec}
