"""The pipelines run, and bring pictures to the sizes they promise."""

from __future__ import annotations

from contextlib import contextmanager

import cv2
import numpy as np
import pytest
import torch
from config_tree import read
from mmengine.dataset import Compose
from mmengine.registry import MODELS, TRANSFORMS
from PIL import Image
from timm.data import create_transform


@contextmanager
def pipeline(cfg, steps):
    with TRANSFORMS.switch_scope_and_registry(cfg.default_scope):
        yield Compose(steps)


def picture(folder, height, width):
    """A picture and a label map of that size."""
    random = np.random.default_rng(0)
    cv2.imwrite(str(folder / "a.jpg"), random.integers(0, 255, (height, width, 3), np.uint8))
    cv2.imwrite(str(folder / "a.png"), random.integers(0, 151, (height, width), np.uint8))
    return dict(
        img_path=str(folder / "a.jpg"),
        seg_map_path=str(folder / "a.png"),
        reduce_zero_label=True,
        seg_fields=[],
        label_map=None,
    )


@pytest.mark.parametrize(("height", "width"), [(97, 131), (211, 90), (64, 257)])
@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("semantic_fpn/semantic-fpn_40k_ade20k.py", 512),
        ("upernet/upernet_160k_ade20k-640x640.py", 640),
    ],
)
def test_ade20k_is_tested_at_multiples_of_32(name, side, height, width, tmp_path):
    cfg = read(name)
    with pipeline(cfg, cfg.test_dataloader.dataset.pipeline) as run:
        packed = run(picture(tmp_path, height, width))
    found = packed["inputs"].shape[1:]
    # The size that keeps the ratio, short side `side`, then up to multiples of 32.
    scale = min(side / min(height, width), 4 * side / max(height, width))
    kept = [int(value * scale + 0.5) for value in (height, width)]
    assert list(found) == [-(-value // 32) * 32 for value in kept]
    assert packed["data_samples"].gt_sem_seg.data.shape[1:] == (height, width)


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("semantic_fpn/semantic-fpn_40k_ade20k.py", 512),
        ("upernet/upernet_160k_ade20k-640x640.py", 640),
    ],
)
def test_ade20k_at_several_scales(name, side, tmp_path):
    """Six scales of the test size, each flipped and not."""
    cfg = read(name)
    with pipeline(cfg, cfg.tta_pipeline) as run:
        packed = run(picture(tmp_path, 100, 150))
    sizes = [tuple(x.shape[1:]) for x in packed["inputs"]]
    ratios = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
    assert sorted({h for h, _ in sizes}) == [-(-int(side * r) // 32) * 32 for r in ratios]
    assert len(sizes) == 12 and all(h % 32 == w % 32 == 0 for h, w in sizes)


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("semantic_fpn/semantic-fpn_40k_ade20k.py", 512),
        ("upernet/upernet_160k_ade20k-640x640.py", 640),
    ],
)
def test_ade20k_crops(name, side, tmp_path):
    cfg = read(name)
    assert cfg.model.data_preprocessor.size == (side, side)
    with pipeline(cfg, cfg.train_dataloader.dataset.pipeline) as run:
        packed = run(picture(tmp_path, 120, 160))
    assert max(packed["inputs"].shape[1:]) <= side
    labels = packed["data_samples"].gt_sem_seg.data
    assert labels.shape[1:] == packed["inputs"].shape[1:]
    assert set(labels.unique().tolist()) <= {*range(150), 255}


def test_multi_scale_crops_keep_boxes_and_masks_together(tmp_path):
    cfg = read("mask_rcnn/mask-rcnn_ms-crop-3x_coco.py")
    square = [40.0, 30, 90, 30, 90, 80, 40, 80]
    instance = dict(bbox=[40.0, 30, 90, 80], mask=[square], bbox_label=7, ignore_flag=0)
    sizes = set()
    with pipeline(cfg, cfg.train_dataloader.dataset.pipeline) as run:
        for _ in range(12):
            packed = run(dict(picture(tmp_path, 120, 160), instances=[dict(instance)]))
            height, width = packed["inputs"].shape[1:]
            sizes.add((height, width))
            assert min(height, width) <= 800 and max(height, width) <= 1333
            found = packed["data_samples"].gt_instances
            for box, mask in zip(found.bboxes.tensor, found.masks.masks, strict=True):
                rows, columns = mask.nonzero()
                edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                assert np.allclose(edges, box.numpy(), atol=5)  # of about 250
    assert len(sizes) > 3


@pytest.mark.parametrize(
    "name",
    [
        "retinanet/retinanet_1x_coco.py",
        "mask_rcnn/mask-rcnn_1x_coco.py",
        "cascade_mask_rcnn/cascade-mask-rcnn_ms-crop-3x_coco.py",
        "semantic_fpn/semantic-fpn_40k_ade20k.py",
        "upernet/upernet_160k_ade20k.py",
        "linear/linear_40k_ade20k.py",
    ],
)
def test_backbones_see_colours_as_timm_gives_them(name, tmp_path):
    """Order and normalisation, from the file on: weights of ImageNet were trained on these."""
    colour = (200, 100, 30)  # red, green, blue: no two alike
    Image.new("RGB", (64, 64), colour).save(tmp_path / "a.png")
    cfg = read(name)
    found = dict(img_path=str(tmp_path / "a.png"), img_id=0, instances=[], seg_fields=[])
    steps = [s for s in cfg.test_dataloader.dataset.pipeline if s.type != "LoadAnnotations"]
    with pipeline(cfg, steps) as run:
        packed = run(found)
    batch = dict(inputs=[packed["inputs"]], data_samples=[packed["data_samples"]])
    with MODELS.switch_scope_and_registry(cfg.default_scope) as models:
        pixels = models.build(cfg.model.data_preprocessor)(batch)["inputs"]
    theirs = create_transform(32, crop_pct=1.0)(Image.new("RGB", (32, 32), colour))
    torch.testing.assert_close(pixels[0, :, 5, 5], theirs[:, 5, 5])
