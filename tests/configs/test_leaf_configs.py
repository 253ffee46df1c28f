"""Every config loads, is short, and says what it is made of."""

from __future__ import annotations

import pytest
from config_tree import (
    ALL,
    CONFIGS,
    FILES,
    LEAVES,
    OWN,
    RECIPES,
    ROOT,
    backbone_name,
    count,
    entries,
    outline,
    read,
)
from mmengine.registry import DATASETS, HOOKS, METRICS, OPTIM_WRAPPERS

from mmplugins.checkpoint.zoo import find_published
from mmplugins.engine.config.fitting import check_fit


def test_every_recipe_is_there():
    assert set(RECIPES) <= set(FILES)


@pytest.mark.parametrize("name", ALL)
def test_config(name):
    text = (CONFIGS / name).read_text().splitlines()
    assert len(text) <= 25
    assert text[0].startswith("# "), "the first line says what it is and what it follows"
    cfg = read(name)
    assert cfg.custom_imports == dict(imports=["mmplugins"], allow_failed_imports=False)
    scope = cfg.default_scope
    for registry, kind in (
        (DATASETS, cfg.train_dataloader.dataset.type),
        (DATASETS, cfg.test_dataloader.dataset.type),
        (METRICS, cfg.test_evaluator.type),
        (OPTIM_WRAPPERS, cfg.optim_wrapper.type),
        *((HOOKS, hook.type) for hook in cfg.default_hooks.values()),
        *((HOOKS, hook.type) for hook in cfg.get("custom_hooks", [])),
    ):
        with registry.switch_scope_and_registry(scope) as scoped:
            assert scoped.get(kind) is not None, kind


@pytest.mark.parametrize("name", OWN)
def test_weights_are_the_backbones_own(name):
    cfg = read(name)
    init = cfg.model.backbone.get("init_cfg")
    if name.endswith("_shapes.py"):
        assert init is None
        return
    assert init.type == "Pretrained"
    scheme, _, weights = init.checkpoint.partition("://")
    assert scheme == "metaformer"
    assert find_published(weights).backbone == backbone_name(cfg)
    slug = name.partition("_")[2].partition("_")[0]  # <head>_<backbone>_...
    assert slug.replace("-", "_") == weights


@pytest.mark.parametrize("name", LEAVES)
def test_parameters_are_those_of_the_metafile(name):
    assert entries()[name]["Metadata"]["Parameters"] == count(outline(name))


@pytest.mark.parametrize("name", LEAVES)
def test_nothing_is_frozen_that_should_learn(name):
    """Fixed are RandFormer's matrices, and in mmdet's ResNets the stem and the first stage."""
    fixed = {n for n, p in outline(name).named_parameters() if not p.requires_grad}
    if name.startswith("randformer/"):
        assert fixed and all(n.endswith("random_matrix") for n in fixed)
    elif name.startswith("resnet/") and "semantic" not in name:
        assert {n.split(".")[1] for n in fixed} == {"conv1", "bn1", "layer1"}
    else:
        assert not fixed


@pytest.mark.parametrize("name", (*OWN, *RECIPES))
def test_channels_fit(name):
    """Neck, or heads on the backbone, take what the backbone puts out."""
    cfg, backbone = read(name), outline(name).backbone
    channels = list(backbone.out_channels)
    assert list(backbone.out_strides) == [4, 8, 16, 32][-len(channels) :]
    if "neck" in cfg.model:
        assert cfg.model.neck.in_channels == channels
    else:
        heads = [cfg.model.get(name) for name in ("decode_head", "auxiliary_head")]
        for head in filter(None, heads):
            taken = head.get("in_index", [0, 1, 2, 3])
            one = isinstance(taken, int)
            assert head.in_channels == (channels[taken] if one else [channels[i] for i in taken])


@pytest.mark.parametrize("name", sorted(set(LEAVES) - set(OWN)))
def test_channels_of_other_backbones_fit(name):
    """The same for mmdet's and mmseg's own backbones, which have to run to show their maps."""
    assert check_fit(read(name)) is None


@pytest.mark.parametrize("name", OWN)
def test_output_norms_are_the_familys(name):
    """GroupNorm where PoolFormer's dense code has it, LayerNorm elsewhere, on every output."""
    backbone = outline(name).backbone
    assert list(map(int, backbone.out_norms)) == list(backbone.out_indices)
    kinds = {type(norm).__name__ for norm in backbone.out_norms.values()}
    group = name.startswith(("poolformer/", "riformer/")) and "ppaa" not in name
    assert len(kinds) == 1 and ("Group" in kinds.pop()) == group


def test_every_family_has_every_task():
    for folder in {name.partition("/")[0] for name in LEAVES}:
        heads = {n.partition("/")[2].partition("_")[0] for n in LEAVES if n.startswith(folder)}
        assert heads >= {"retinanet", "mask-rcnn", "semantic-fpn"}, folder


def test_published_results_stand_in_the_first_comment():
    """What a leaf says of published results is what the metafile says."""
    for name, entry in entries().items():
        lines = (CONFIGS / name).read_text().partition("_base_")[0].splitlines()
        comment = " ".join(line.removeprefix("# ") for line in lines)
        for result in entry.get("Results", []):
            for value in result["Metrics"].values():
                assert f"{value:.1f}" in comment, name


def test_index_of_configs_names_every_recipe():
    text = (ROOT / "configs/README.md").read_text()
    assert all(f"({name})" in text for name in RECIPES)
    assert all(f"({name.partition('/')[0]})" in text for name in LEAVES)


@pytest.mark.parametrize(
    "name", ["mask_rcnn/mask-rcnn_1x_coco.py", "semantic_fpn/semantic-fpn_40k_ade20k.py"]
)
def test_index_of_configs_says_where_data_is_expected(name):
    data = (ROOT / "configs/README.md").read_text().partition("## Data")[2]
    listed = data.replace("{train,val}", "train") + data.replace("{train,val}", "val")
    listed += listed.replace("{training,validation}", "training")
    listed += listed.replace("{training,validation}", "validation")
    cfg = read(name)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        dataset = loader.dataset
        places = [cfg.data_root, *dataset.data_prefix.values(), dataset.get("ann_file", "")]
        assert [place for place in places if place not in listed] == []
