"""One recipe with any backbone: the same model as the leaf of that backbone, if there is one."""

from __future__ import annotations

import pytest
from config_tree import CONFIGS, OWN, RECIPES, backbone_name, count, read, tool
from mmengine.config import Config

from mmplugins.engine.config.composing import compose

RETINANET = "retinanet/retinanet_1x_coco.py"
MASK_RCNN = "mask_rcnn/mask-rcnn_1x_coco.py"
CASCADE = "cascade_mask_rcnn/cascade-mask-rcnn_ms-crop-3x_coco.py"
SEMANTIC_FPN = "semantic_fpn/semantic-fpn_40k_ade20k.py"
UPERNET = "upernet/upernet_160k_ade20k.py"

MILLIONS = [  # variants without a leaf
    (RETINANET, "poolformer_m36", 66.34),
    (RETINANET, "convformer_b36", 105.43),
    (RETINANET, "smlpnet_b", 76.28),
    (MASK_RCNN, "poolformer_m48", 92.98),
    (MASK_RCNN, "caformer_b36", 113.65),
    (MASK_RCNN, "identityformer_s24", 41.00),
    (CASCADE, "convnext_small", 107.57),
    (SEMANTIC_FPN, "poolformerv2_m48", 76.95),
    (SEMANTIC_FPN, "smlpnet_t", 27.80),
    (UPERNET, "identityformer_s12", 41.87),
    (UPERNET, "caformer_b36", 126.14),
    (UPERNET, "poolformerv2_m36", 87.73),
]
LEAVES = [  # of each recipe some, of each family at least one
    *(n for n in OWN if "retinanet" in n and n.endswith("1x_coco.py")),
    "convformer/mask-rcnn_convformer-s18_fpn_1x_coco.py",
    "convnext/mask-rcnn_convnext-tiny_fpn_ms-crop-3x_coco.py",
    "convnext/cascade-mask-rcnn_convnext-small_fpn_ms-crop-3x_coco.py",
    "caformer/cascade-mask-rcnn_caformer-m36_fpn_ms-crop-3x_coco.py",
    "poolformer/semantic-fpn_poolformer-m36_40k_ade20k.py",
    "caformer/upernet_caformer-m36_160k_ade20k.py",
    "poolformer/mask-rcnn_poolformer-s12_fpn_shapes.py",
]


def recipe_of(leaf: str) -> str:
    """The recipe that a leaf inherits."""
    line = (CONFIGS / leaf).read_text().partition('_base_ = "../')[2]
    recipe = line.partition('"')[0]
    assert recipe in RECIPES
    return recipe


@pytest.mark.parametrize("leaf", LEAVES)
def test_a_leaf_is_its_recipe_with_a_backbone(leaf):
    cfg = read(leaf)
    composed = compose(read(recipe_of(leaf)), backbone_name(cfg))
    for part in ("neck", "rpn_head", "bbox_head", "roi_head", "decode_head", "auxiliary_head"):
        ours, theirs = cfg.model.get(part), composed.model.get(part)
        if part == "neck" and ours is not None:
            theirs.setdefault("start_level", 0)
            ours.setdefault("start_level", 0)
        assert ours == theirs, part
    ours, theirs = dict(cfg.model.backbone), dict(composed.model.backbone)
    for own in ("drop_path_rate", "layer_scale"):  # what leaves add
        ours.pop(own, None), theirs.pop(own, None)
    assert ours == theirs


@pytest.mark.parametrize(("recipe", "backbone", "millions"), MILLIONS)
def test_variants_without_a_leaf(recipe, backbone, millions):
    model = tool.build(compose(read(recipe), backbone))
    assert round(count(model) / 1e6, 2) == millions


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_complete(name, tmp_path):
    """Written out with nothing left to inherit, it is the same config."""
    cfg = read(name)
    cfg.dump(tmp_path / "whole.py")
    assert Config.fromfile(tmp_path / "whole.py").to_dict() == cfg.to_dict()
    assert cfg.model.backbone.type == "PoolFormer" and cfg.model.backbone.arch == "s12"
