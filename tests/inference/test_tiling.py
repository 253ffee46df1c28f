"""Tiles cover a picture, and their results become the picture's."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from mmengine.config import Config

import mmplugins
from mmplugins.inference import find_inputs, stream
from mmplugins.inference.model import LoadedModel
from mmplugins.inference.results import Prediction, decode, encode, placed
from mmplugins.inference.tiling import Mosaic, tiles_of


@pytest.mark.parametrize("size", [(100, 100), (101, 250), (640, 64), (30, 500), (65, 64), (1, 1)])
@pytest.mark.parametrize("overlap", [0, 13, 31])
def test_tiles_cover_and_cores_part_a_picture(size, overlap):
    tiles = tiles_of(size, 64, overlap)
    seen, owned = np.zeros(size, int), np.zeros(size, int)
    for tile in tiles:
        assert (tile.height, tile.width) == (min(64, size[0]), min(64, size[1]))
        seen[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width] += 1
        x0, y0, x1, y1 = tile.core
        assert tile.x <= x0 < x1 <= tile.x + tile.width
        assert tile.y <= y0 < y1 <= tile.y + tile.height
        owned[y0:y1, x0:x1] += 1
    assert seen.shape == size and seen.min() >= 1
    np.testing.assert_array_equal(owned, 1)
    for k in (0, 1):
        starts = sorted({(tile.y, tile.x)[k] for tile in tiles})
        assert all(b - a <= 64 - overlap for a, b in zip(starts, starts[1:], strict=False))


def test_overlaps_beyond_half_a_tile_are_refused():
    with pytest.raises(ValueError, match="tiles of 64 pixels that overlap by 32"):
        tiles_of((100, 100), 64, 32)


@pytest.mark.parametrize("corner", [(0, 0), (5, 3), (12, 9)])
def test_masks_are_placed(corner):
    random = np.random.default_rng(1)
    for mask in [random.random((8, 9)) < 0.5, np.ones((8, 9), bool), np.zeros((8, 9), bool)]:
        expected = np.zeros((17, 21), bool)
        expected[corner[1] : corner[1] + 8, corner[0] : corner[0] + 9] = mask
        (rle,) = encode(mask[None])
        np.testing.assert_array_equal(decode(placed(rle, corner, (17, 21))), expected)


def test_masks_as_high_as_the_picture_are_placed():
    mask = np.ones((8, 3), bool)
    (rle,) = encode(mask[None])
    expected = np.zeros((8, 7), bool)
    expected[:, 2:5] = True
    np.testing.assert_array_equal(decode(placed(rle, (2, 0), (8, 7))), expected)


class Finder:
    """Stands for a detector that finds white blocks exactly, also the visible part of a cut one."""

    def __call__(self, batch):
        from scipy.ndimage import find_objects, label

        found = []
        for packed in batch:
            pixels = packed["inputs"][0].numpy()
            blocks = find_objects(label(pixels > 0)[0])
            boxes = [(x.start, y.start, x.stop, y.stop) for y, x in blocks]
            boxes = np.array(boxes, np.float32).reshape(-1, 4)
            masks = np.zeros((len(boxes), *pixels.shape), bool)
            for mask, where in zip(masks, blocks, strict=True):
                mask[where] = True
            one = np.ones(len(boxes), np.float32)
            sizes = pixels.shape
            labels = np.zeros(len(boxes), np.int64)
            found.append(Prediction("", sizes, boxes, 0.9 * one, labels, encode(masks)))
        return found


def finder() -> LoadedModel:
    pipeline = [dict(type="LoadImageFromFile"), dict(type="PackDetInputs")]
    cfg = Config(dict(test_dataloader=dict(dataset=dict(pipeline=pipeline))))
    return LoadedModel("finder", cfg, "detection", (), (), Finder())


def test_objects_are_found_once_wherever_tiles_cut_them():
    pixels = np.zeros((300, 420, 3), np.uint8)
    corners = [(10 + 37 * i, 8 + 41 * j) for i in range(11) for j in range(7)]
    for x, y in corners:
        pixels[y : y + 18, x : x + 24] = 255
    (found,) = mmplugins.predict(finder(), pixels, tile=100, overlap=30)
    expected = {(x, y, x + 24, y + 18) for x, y in corners}
    assert len(found) == len(expected)
    assert {tuple(box) for box in found.boxes.astype(int).tolist()} == expected
    for k, (x0, y0, x1, y1) in enumerate(found.boxes.astype(int)):
        mask = found.mask(k)
        assert mask.shape == (300, 420) and mask[y0:y1, x0:x1].all()
        assert mask.sum() == (x1 - x0) * (y1 - y0)


def test_one_tile_is_the_picture(trained, pictures):
    model = mmplugins.load_model(trained("mask_rcnn")[1])
    (expected,) = mmplugins.predict(model, pictures[0])
    (found,) = mmplugins.predict(model, pictures[0], tile=512)
    kept = {tuple(box) for box in found.boxes.tolist()}
    assert len(kept) > 0 and kept <= {tuple(box) for box in expected.boxes.tolist()}
    (whole,) = mmplugins.predict(mmplugins.load_model(trained("semantic_fpn")[1]), pictures[0])
    (tiled,) = mmplugins.predict(
        mmplugins.load_model(trained("semantic_fpn")[1]), pictures[0], tile=512
    )
    np.testing.assert_array_equal(tiled.label_map, whole.label_map)


def test_maps_are_put_together_from_cores():
    tiles = tiles_of((50, 90), 40, 12)
    mosaic = Mosaic("", (50, 90))
    for k, tile in enumerate(tiles):
        mosaic.add(tile, Prediction("", label_map=np.full((40, 40), k, np.uint8)))
    labels = mosaic.result().label_map
    for k, tile in enumerate(tiles):
        x0, y0, x1, y1 = tile.core
        np.testing.assert_array_equal(labels[y0:y1, x0:x1], k)


def test_memory_does_not_grow_with_the_objects_of_a_large_picture():
    pixels = np.zeros((2000, 2000, 3), np.uint8)
    for y in range(20, 1980, 100):
        for x in range(20, 1980, 100):
            pixels[y : y + 30, x : x + 30] = 255
    model = finder()
    tracemalloc.start()
    try:
        (found,) = mmplugins.predict(model, pixels, tile=500, overlap=80)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(found) == 20 * 20
    assert most < 4 * pixels.nbytes < len(found) * pixels[..., 0].nbytes


def test_tiles_are_counted_while_a_picture_is_computed():
    told: list[tuple[int, int, int]] = []
    sources = find_inputs([np.zeros((300, 300, 3), np.uint8), np.zeros((90, 90, 3), np.uint8)])
    done: list[int] = []
    results = stream(
        finder(),
        sources,
        tile=100,
        overlap=0,
        batch_size=4,
        tiles_done=lambda count, total: told.append((len(done), count, total)),
    )
    done.extend(0 for _ in results)
    assert told == [(0, 0, 9), (0, 4, 9), (0, 8, 9), (0, 9, 9), (1, 0, 1), (1, 1, 1)]
