"""The embedded data behind mmseg's own pipelines and loaders."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope

from mmplugins.datasets import METAINFO

BASES = Path(__file__).parents[2] / "configs" / "_base_" / "datasets"
FOLDERS = {"train": "training", "val": "validation"}


@pytest.fixture(params=["train", "val"])
def split(request):
    return request.param


@pytest.fixture
def dataset(split, tmp_path, shapes_spec):
    cfg = Config.fromfile(BASES / "shapes_semantic.py")[f"{split}_dataloader"].dataset
    cfg.update(data_root=str(tmp_path / "made_on_first_use"), generate=shapes_spec)
    for transform in cfg.pipeline:
        if transform.type == "RandomFlip":
            transform.prob = 0.0
    init_default_scope("mmseg")
    return DATASETS.build(cfg)


def test_samples(dataset, split, shapes_spec):
    assert len(dataset) == shapes_spec[f"num_{split}"]
    assert dataset.metainfo["classes"] == METAINFO["classes"]
    assert dataset.metainfo["palette"] == METAINFO["palette"]
    for item in map(dataset.__getitem__, range(len(dataset))):
        sample = item["data_samples"]
        labels = sample.gt_sem_seg.data[0].numpy()
        assert item["inputs"].shape == (3, *labels.shape) == (3, 96, 96)
        stored = cv2.imread(sample.seg_map_path, -1)
        assert Path(sample.seg_map_path).parent.name == FOLDERS[split]
        assert np.array_equal(labels, np.where(stored == 0, 255, stored.astype(int) - 1))
        assert set(np.unique(labels)) <= {*range(len(METAINFO["classes"])), 255}
