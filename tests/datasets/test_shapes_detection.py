"""The embedded data behind mmdet's own pipelines, loaders and metric."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, EVALUATOR, init_default_scope
from mmengine.runner import Runner
from mmengine.structures import InstanceData

from mmplugins.datasets import METAINFO

BASES = Path(__file__).parents[2] / "configs" / "_base_" / "datasets"


def load(kind, root, spec, split):
    cfg = Config.fromfile(BASES / f"shapes_{kind}.py")
    cfg[f"{split}_dataloader"].dataset.update(data_root=str(root), generate=spec)
    cfg.val_evaluator.ann_file = str(root / "annotations" / "instances_val.json")
    init_default_scope("mmdet")
    return cfg


@pytest.mark.parametrize(
    ("split", "workers"),
    [("train", 0), ("val", 0), pytest.param("val", 1, marks=pytest.mark.slow)],
)
def test_batches(tmp_path, shapes_spec, split, workers):
    root = tmp_path / "made_on_first_use"
    loader = load("detection", root, shapes_spec, split)[f"{split}_dataloader"]
    loader.update(num_workers=workers, batch_size=4, persistent_workers=False)
    if workers:
        loader.multiprocessing_context = "spawn"
    loader = Runner.build_dataloader(loader)
    assert len(loader.dataset) == shapes_spec[f"num_{split}"]
    assert loader.dataset.metainfo["classes"] == METAINFO["classes"]
    batch = next(iter(loader))
    assert [tuple(image.shape) for image in batch["inputs"]] == [(3, 128, 128)] * 4
    for sample in batch["data_samples"]:
        boxes = sample.gt_instances.bboxes.tensor
        assert len(boxes) and boxes.min() >= 0 and boxes.max() <= 128
        assert sample.gt_instances.labels.max() < len(METAINFO["classes"])


def test_flips_keep_masks_and_boxes_together(shapes_root, shapes_spec):
    cfg = load("instance", shapes_root, shapes_spec, "train")
    cfg.train_dataloader.dataset.pipeline[3].prob = 1.0
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    for sample in map(dataset.__getitem__, range(len(dataset))):
        instances = sample["data_samples"].gt_instances
        boxes = instances.bboxes.tensor.numpy()
        for mask, (x0, y0, x1, y1) in zip(
            instances.masks.to_ndarray().astype(bool), boxes, strict=True
        ):
            rows, columns = np.nonzero(mask)
            tight = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert np.abs(np.subtract(tight, (x0, y0, x1, y1))).max() <= 2


@pytest.mark.parametrize("kind", ["detection", "instance"])
def test_the_metric_gives_one_to_the_truth_and_less_to_less(shapes_root, shapes_spec, kind):
    cfg = load(kind, shapes_root, shapes_spec, "val")
    dataset = DATASETS.build(cfg.val_dataloader.dataset)
    metrics = {}
    for keep in (1.0, 0.5):
        evaluator = EVALUATOR.build(dict(type="Evaluator", metrics=cfg.val_evaluator))
        evaluator.dataset_meta = dataset.metainfo
        for item in map(dataset.__getitem__, range(len(dataset))):
            sample = item["data_samples"]
            truth = sample.gt_instances
            count = max(1, int(keep * len(truth)))
            sample.pred_instances = InstanceData(
                bboxes=truth.bboxes.tensor[:count],
                labels=truth.labels[:count],
                scores=torch.ones(count),
            )
            if kind == "instance":
                masks = truth.masks.to_ndarray()[:count]
                sample.pred_instances.masks = torch.from_numpy(masks.astype(bool))
            evaluator.process([sample.to_dict()], [item])
        metrics[keep] = evaluator.evaluate(len(dataset))
    for name in ("bbox",) if kind == "detection" else ("bbox", "segm"):
        assert metrics[1.0][f"coco/{name}_mAP_50"] == 1.0
        assert metrics[0.5][f"coco/{name}_mAP_50"] < 0.9


def test_other_data_in_the_folder_is_refused(tmp_path, shapes_spec):
    (tmp_path / "photo.jpg").write_bytes(b"")
    cfg = load("detection", tmp_path, shapes_spec, "train")
    with pytest.raises(FileExistsError, match="no shapes data set"):
        DATASETS.build(cfg.train_dataloader.dataset)
