"""Instance masks without maps of the picture's size: mmdet's own pixels, run lengths, memory."""

from __future__ import annotations

import copy
import tracemalloc

import numpy as np
import pytest
import torch
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from pycocotools import mask as coco

import mmplugins
from mmplugins.inference import instance_masks
from mmplugins.inference.instance_masks import masks_as_runs, pasted
from mmplugins.inference.model import scope_of
from mmplugins.inference.results import decode, encode, joined, sampled

SIZE = (61, 83)
BOXES = [
    (3.2, 4.7, 40.1, 50.9),
    (0, 0, 83, 61),
    (-5, -7, 20, 12),
    (70.5, 50.5, 90, 70),
    (10, 10, 10, 30),
    (12, 20, 50, 20),
    (30, 30, 30, 30),
    (82.9, 60.9, 83, 61),
    (5, 0, 6, 61),
]


def usual(head: FCNMaskHead, logits, boxes, labels, meta, cfg) -> np.ndarray:
    return head._predict_by_feat_single(
        logits.clone(), boxes.clone(), labels, meta, cfg, rescale=True
    ).numpy()


@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize("band", [1, 500, 2**20])
def test_masks_are_those_of_mmdet(agnostic, band, monkeypatch):
    monkeypatch.setattr(instance_masks, "_BAND", band)
    random = torch.Generator().manual_seed(0)
    head = FCNMaskHead(num_classes=4, class_agnostic=agnostic, conv_out_channels=4, in_channels=4)
    boxes = torch.tensor(BOXES)
    labels = torch.arange(len(boxes)) % 4
    logits = torch.randn(len(boxes), 1 if agnostic else 4, 14, 14, generator=random)
    meta = dict(scale_factor=(0.5, 0.8), ori_shape=(*SIZE, 3))
    scaled = boxes * torch.tensor([0.5, 0.8, 0.5, 0.8])
    for threshold in (0.0, 0.3, 0.5):
        cfg = Config(dict(mask_thr_binary=threshold))
        expected = usual(head, logits, scaled, labels, meta, cfg)
        with masks_as_runs(head):
            ours = scaled.clone()
            found = head._predict_by_feat_single(logits, ours, labels, meta, cfg, rescale=True)
        torch.testing.assert_close(ours, boxes)  # moved in place, as mmdet does
        assert found == encode(expected)
        assert "_predict_by_feat_single" not in vars(head)
    assert 0 < expected.sum() < expected.size


def test_masks_of_the_networks_input_stay_as_they_are():
    head = FCNMaskHead(num_classes=2, conv_out_channels=4, in_channels=4)
    meta = dict(scale_factor=(0.5, 0.5), ori_shape=SIZE)
    given = torch.zeros(1, 2, 14, 14), torch.tensor([[1.0, 1, 9, 9]]), torch.tensor([0])
    with masks_as_runs(head):
        cfg = Config(dict(mask_thr_binary=0.5))
        found = head._predict_by_feat_single(*given, meta, cfg, rescale=False)
        grey = Config(dict(mask_thr_binary=-1))
        levels = head._predict_by_feat_single(*given, meta, grey, rescale=True)
    assert found.shape[1:] == (30, 42) and levels.dtype == torch.uint8


@pytest.mark.parametrize("recipe", ["mask_rcnn", "cascade_mask_rcnn"])
def test_whole_models_find_the_same_masks(trained, pictures, recipe):
    model = mmplugins.load_model(trained(recipe)[1], device="cpu")
    for path in pictures:
        packed = model.prepare(model.read(str(path)), str(path))
        with torch.no_grad(), scope_of("detection"):
            (expected,) = model.network.test_step(pseudo_collate([copy.deepcopy(packed)]))
        (found,) = model.run([packed])
        masks = expected.pred_instances.masks.numpy()
        assert len(masks) and found.masks == encode(masks)
        np.testing.assert_array_equal(found.boxes, expected.pred_instances.bboxes.numpy())


def test_run_lengths_are_cocos():
    random = np.random.default_rng(0)
    for density in (0, 0.1, 0.5, 0.9, 1):
        for height, width in ((17, 23), (9, 23), (1, 1), (17, 1)):
            part = random.random((height, width)) < density
            for x, y in {(0, 0), (23 - width, 17 - height)}:
                whole = np.zeros((17, 23), bool)
                whole[y : y + height, x : x + width] = part
                for cuts in ([], [1], [3, 11]):
                    assert joined(np.split(part, cuts, 1), (x, y), (17, 23)) == encode([whole])[0]


def test_masks_are_sampled_as_opencv_resizes_them():
    import cv2

    random = np.random.default_rng(0)
    for size, drawn in (((40, 70), (13, 40)), ((40, 70), (40, 70)), ((9, 7), (20, 30))):
        for mask in (random.random(size) < 0.5, np.ones(size, bool), np.zeros(size, bool)):
            rows, columns = (
                (np.arange(k) / (k / n)).astype(int) for k, n in zip(drawn, size, strict=True)
            )
            expected = cv2.resize(mask.view(np.uint8), drawn[::-1], interpolation=cv2.INTER_NEAREST)
            window, part = sampled(encode(mask[None])[0], rows, columns)
            found = np.zeros(drawn, bool)
            found[window] = part
            np.testing.assert_array_equal(found, expected.astype(bool))


def test_a_mask_of_100_megapixels_takes_a_band_of_memory(monkeypatch):
    monkeypatch.setattr(instance_masks, "_BAND", 2**18)
    areas: list[int] = []
    real = torch.nn.functional.grid_sample

    def watched(mask, grid, **options):
        areas.append(grid[0, ..., 0].numel())
        return real(mask, grid, **options)

    monkeypatch.setattr(instance_masks.F, "grid_sample", watched)
    size = (10_000, 10_000)
    tracemalloc.start()
    try:
        values = torch.ones(28, 28)
        rle = pasted(values, torch.tensor([4000.0, 100.0, 4100.0, 9900.0]), size, 0.5)
        window, part = sampled(rle, np.arange(0, 10_000, 100), np.arange(3900, 4200, 10))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert max(areas) <= 2**18 and sum(areas) == 102 * 9802
    area = coco.area(dict(rle, counts=rle["counts"].encode()))
    assert 0.999 * 100 * 9800 < area < 100 * 9800  # its corners are round
    assert window == (slice(1, 99), slice(10, 20)) and part.all(0)[1:-1].all()
    assert most < 8 * 2**20 and rle["size"] == list(size)
    small = pasted(values, torch.tensor([1.0, 2.0, 3.0, 5.0]), (6, 7), 0.5)
    assert decode(small).sum() == 6
