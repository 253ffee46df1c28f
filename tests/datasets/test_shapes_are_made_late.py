"""The data set is made when its pictures are wanted, not when the names of its classes are."""

from __future__ import annotations

import pytest
from mmengine.registry import DATASETS

from mmplugins.datasets import METAINFO

DETECTION = dict(
    type="mmplugins.datasets.shapes_detection.ShapesDetection",
    ann_file="annotations/instances_val.json",
    data_prefix=dict(img="images/validation"),
)
SEGMENTATION = dict(
    type="mmplugins.datasets.shapes_segmentation.ShapesSegmentation",
    data_prefix=dict(img_path="images/validation", seg_map_path="annotations/validation"),
)


@pytest.mark.parametrize("kind", [DETECTION, SEGMENTATION], ids=["detection", "segmentation"])
def test_names_need_no_pictures(kind, tmp_path, shapes_spec):
    root = tmp_path / "shapes"
    config = dict(kind, data_root=str(root), generate=shapes_spec, pipeline=[], test_mode=True)
    with DATASETS.switch_scope_and_registry("mmdet"):
        lazy = DATASETS.build(dict(config, lazy_init=True))
        assert tuple(lazy.metainfo["classes"]) == tuple(METAINFO["classes"])
        assert not root.exists()
        lazy.full_init()
        assert len(lazy) == shapes_spec["num_val"] and root.is_dir()
