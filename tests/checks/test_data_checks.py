"""Whole configs, through the wrappers, against heads and evaluators."""

import copy
import json
import re
from pathlib import Path

import pytest
from mmengine.config import Config

from mmplugins.checks import DataError, check_data
from mmplugins.datasets import METAINFO

REPOSITORY = Path(__file__).parents[2]
BASES = REPOSITORY / "configs" / "_base_" / "datasets"
LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")


def shapes_config(kind, root, spec):
    """The embedded data's own `_base_` file, pointed at a small copy."""
    cfg = Config.fromfile(BASES / f"shapes_{kind}.py")
    for name in LOADERS:
        cfg[name].dataset.update(data_root=str(root), generate=spec)
    for name in ("val_evaluator", "test_evaluator"):
        if "ann_file" in cfg[name]:
            cfg[name].ann_file = str(root / "annotations" / "instances_val.json")
    cfg.default_scope = "mmseg" if kind == "semantic" else "mmdet"
    return cfg


@pytest.fixture
def cfg(shapes_root, shapes_spec):
    return shapes_config("detection", shapes_root, shapes_spec)


@pytest.mark.parametrize("kind", ["detection", "instance", "semantic"])
@pytest.mark.parametrize("full", [False, True])
def test_the_embedded_data_has_no_fault(shapes_root, shapes_spec, kind, full):
    assert check_data(shapes_config(kind, shapes_root, shapes_spec), full=full) == []


def test_the_embedded_data_is_made_when_absent(tmp_path, shapes_spec):
    cfg = shapes_config("detection", tmp_path / "new", shapes_spec)
    assert check_data(cfg) == []
    assert (tmp_path / "new" / "shapes.json").is_file()


def test_embedded_data_of_other_parameters(cfg):
    cfg.train_dataloader.dataset.generate = dict(cfg.train_dataloader.dataset.generate, seed=9)
    with pytest.raises(DataError, match=r"^train_dataloader.dataset: .*seed=3 \(asked for: 9\)"):
        check_data(cfg)


def test_unknown_parameter_of_the_embedded_data(cfg):
    cfg.val_dataloader.dataset.generate = dict(colour="red")
    with pytest.raises(DataError, match="^val_dataloader.dataset: .*colour"):
        check_data(cfg)


@pytest.mark.parametrize("base", ["coco_detection", "coco_instance", "ade20k"])
def test_absent_data_root(base, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = Config.fromfile(BASES / f"{base}.py")
    cfg.default_scope = "mmseg" if base == "ade20k" else "mmdet"
    root = re.escape(cfg.data_root)
    with pytest.raises(DataError, match=f"data_root '{root}' does not exist .*{tmp_path}.*: give"):
        check_data(cfg)


def test_unknown_type(cfg):
    cfg.train_dataloader.dataset.type = "CocoDatset"
    with pytest.raises(DataError, match="'CocoDatset' is not registered in mmdet: check its spell"):
        check_data(cfg)


def test_splits_limit_what_is_read(cfg):
    cfg.train_dataloader.dataset.data_root = "/nowhere"
    cfg.train_dataloader.dataset.pop("generate")
    assert check_data(cfg, splits=("val", "test")) == []
    with pytest.raises(DataError, match="/nowhere"):
        check_data(cfg)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda d: dict(type="RepeatDataset", times=2, dataset=d),
        lambda d: dict(type="ConcatDataset", datasets=[copy.deepcopy(d) | {"indices": 2}, d]),
        lambda d: dict(
            type="MultiImageMixDataset",
            pipeline=[dict(type="RandomFlip")],
            dataset=dict(type="ClassBalancedDataset", oversample_thr=0.1, dataset=d),
        ),
    ],
)
def test_wrappers_are_looked_through(cfg, wrap):
    inner = cfg.train_dataloader.dataset.to_dict()
    cfg.train_dataloader.dataset = wrap(inner)
    assert check_data(cfg) == []
    cfg.train_dataloader.dataset = wrap(dict(inner, ann_file="annotations/instances_trian.json"))
    with pytest.raises(DataError, match=r"^train_dataloader.dataset.dataset.*instances_trian.json"):
        check_data(cfg)


def head(kind, classes):
    """Models of several forms, as mmdet's and mmseg's configs write them."""
    return dict(
        retinanet=dict(type="RetinaNet", bbox_head=dict(type="RetinaHead", num_classes=classes)),
        mask_rcnn=dict(
            type="MaskRCNN",
            rpn_head=dict(type="RPNHead"),
            roi_head=dict(
                type="StandardRoIHead",
                bbox_head=dict(type="Shared2FCBBoxHead", num_classes=4),
                mask_head=dict(type="FCNMaskHead", num_classes=classes),
            ),
        ),
        cascade=dict(
            type="CascadeRCNN",
            roi_head=dict(
                type="CascadeRoIHead",
                bbox_head=[dict(type="Shared2FCBBoxHead", num_classes=n) for n in (4, 4, classes)],
            ),
        ),
    )[kind]


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("retinanet", "model.bbox_head"),
        ("mask_rcnn", "model.roi_head.mask_head"),
        ("cascade", "model.roi_head.bbox_head[2]"),
    ],
)
def test_num_classes_of_heads(cfg, kind, path):
    cfg.model = head(kind, 4)
    assert check_data(cfg) == []
    cfg.model = head(kind, 80)
    expected = f"{path}.num_classes: is 80, but train_dataloader.dataset has 4 classes (striped_di"
    with pytest.raises(DataError, match=re.escape(expected)) as error:
        check_data(cfg)
    assert "set num_classes=4" in str(error.value)


def test_num_classes_left_at_its_default(cfg):
    cfg.model = head("mask_rcnn", 4)
    del cfg.model.roi_head.mask_head["num_classes"]
    with pytest.raises(DataError, match=r"is 80 \(the default of FCNMaskHead\)"):
        check_data(cfg)


def test_num_classes_of_segmentation_heads(shapes_root, shapes_spec):
    cfg = shapes_config("semantic", shapes_root, shapes_spec)
    good = dict(type="FPNHead", num_classes=4)
    cfg.model = dict(type="EncoderDecoder", decode_head=good, auxiliary_head=[good])
    assert check_data(cfg) == []
    cfg.model.auxiliary_head = [dict(type="FCNHead", num_classes=150)]
    with pytest.raises(DataError, match=r"model.auxiliary_head\[0\].num_classes: is 150"):
        check_data(cfg)


def test_scale_below_32_pixels(cfg):
    cfg.train_dataloader.dataset.pipeline[2].scale = (24, 24)
    (finding,) = check_data(cfg)
    assert "Resize(scale=(24, 24)) makes pictures below 32 pixels" in str(finding)


def test_evaluator_that_names_an_absent_file(cfg):
    cfg.val_evaluator.ann_file = "data/coco/instances_val2017.json"
    with pytest.raises(DataError, match="^val_evaluator.ann_file: 'data/coco/inst.*instances_val"):
        check_data(cfg)


def test_evaluator_inside_of_an_evaluator(cfg):
    inner = dict(cfg.val_evaluator, ann_file="annotations/instances_val.json")
    cfg.val_evaluator = dict(type="Evaluator", metrics=[inner])
    with pytest.raises(DataError, match="val_evaluator.ann_file: .* does not exist"):
        check_data(cfg)


def test_evaluator_that_names_another_file(cfg, shapes_root):
    cfg.val_evaluator.ann_file = str(shapes_root / "annotations/instances_train.json")
    (finding,) = check_data(cfg)
    assert finding.where == "val_evaluator.ann_file" and "not the file of the data l" in str(
        finding
    )


def test_remote_data_is_left_alone(cfg):
    cfg = Config(dict(default_scope="mmdet", train_dataloader=cfg.train_dataloader.to_dict()))
    dataset = cfg.train_dataloader.dataset
    dataset.pop("generate")
    dataset.data_root = "s3://bucket/shapes"
    (finding,) = check_data(cfg)
    assert "s3://bucket/shapes" in str(finding)


def test_the_guide_to_your_own_data_is_true(shapes_root, tmp_path):
    """The config in docs/custom_data.md, with the names of the embedded data put in."""
    text = (REPOSITORY / "docs" / "custom_data.md").read_text()
    lines = re.search(r"```python\n(.*?)```", text, re.S).group(1)
    model = tmp_path / "model.py"
    model.write_text(
        "default_scope = 'mmdet'\n"
        "model = dict(type='RetinaNet', bbox_head=dict(type='RetinaHead', num_classes=80))\n"
    )
    changes = {
        r"_base_ = .*": f"_base_ = [{str(BASES / 'coco_detection.py')!r}, {str(model)!r}]",
        r"data/cells/": f"{shapes_root}/",
        r'\("RBC", "WBC", "Platelets"\)': repr(METAINFO["classes"]),
        r"num_classes=3": "num_classes=4",
        r'img="train/"': 'img="images/training/"',
        r'img="val/"': 'img="images/validation/"',
    }
    for old, new in changes.items():
        lines, count = re.subn(old, new, lines)
        assert count == 1, old
    (tmp_path / "mine.py").write_text(lines)
    cfg = Config.fromfile(tmp_path / "mine.py")
    assert check_data(cfg) == []
    assert cfg.test_dataloader.dataset.data_root == f"{shapes_root}/"
    assert cfg.test_evaluator.ann_file == cfg.val_evaluator.ann_file
    assert json.loads(Path(cfg.val_evaluator.ann_file).read_text())["images"]
