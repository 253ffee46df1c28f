"""Configs that users have: what mmengine takes is taken, and nothing unread is claimed."""

from __future__ import annotations

import json
import shutil

import own_parts
import pytest
from breaking import changed, faults, point_at
from mmengine.dataset import pseudo_collate
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS, Registry
from mmseg.models import SegDataPreProcessor
from PIL import Image

from mmplugins.checks import DataError, check_data
from mmplugins.datasets import METAINFO


@pytest.fixture
def own(healthy, shapes, tmp_path):
    """A copy of the data, and the healthy configs pointed there."""
    root = shutil.copytree(shapes, tmp_path / "own")

    def config(name, changes):
        cfg = changed(healthy[name], changes)
        point_at(cfg, root)
        return cfg

    return root, config


def takes_four_means() -> bool:
    """Whether this mmseg subtracts more than three means; that of the onedl line does not."""
    try:
        SegDataPreProcessor(mean=[1, 2, 3, 4], std=[1, 1, 1, 1])
    except AssertionError:
        return False
    return True


def test_pictures_of_four_channels(own):
    root, config = own
    for path in (root / "images").rglob("*.jpg"):
        Image.open(path).convert("RGBA").save(path, format="PNG")
    changes = {
        "model.backbone.in_channels": 4,
        "model.data_preprocessor.mean": [120, 116, 104, 100],
        "model.data_preprocessor.std": [58, 57, 57, 60],
        "model.data_preprocessor.bgr_to_rgb": False,
    }
    for split in ("train", "val", "test"):
        changes[f"{split}_dataloader.dataset.pipeline[0].color_type"] = "unchanged"
    found = faults(config("semantic_fpn", changes))
    if takes_four_means():
        assert found == []
    else:
        (refused,) = found
        assert "mean: is [120, 116, 104, 100]" in refused.message
        assert "1 or 3 values" in refused.message
    changes["model.data_preprocessor.mean"] = [120, 116, 104]
    changes["model.data_preprocessor.std"] = [58, 57, 57]
    (found,) = faults(config("semantic_fpn", changes))
    assert "mean: has 3 values, [120, 116, 104], but pictures have 4 channels" in found.message


def test_grey_pictures_with_means_of_colours(own):
    _, config = own
    changes = {"train_dataloader.dataset.pipeline[0].color_type": "grayscale"}
    (found,) = faults(config("retinanet", changes))
    assert found.status == "failure"
    assert "data_preprocessor.mean: has 3 values" in found.message
    assert "pictures have 1 channels" in found.message and "bgr_to_rgb=False" in found.message


def test_a_size_in_quotes(own):
    _, config = own
    changes = {"train_dataloader.dataset.pipeline[2].scale": ("128", "128")}
    (found,) = faults(config("retinanet", changes))
    assert "pipeline[2].scale[0]: is '128', a text: expected numbers" in found.message


def test_a_metric_that_writes_a_file(own, tmp_path, monkeypatch):
    root, config = own
    monkeypatch.chdir(tmp_path)
    cfg = config("retinanet", {})
    dump = dict(type="DumpDetResults", out_file_path="found.pkl")
    cfg.val_evaluator = dict(type="Evaluator", metrics=[dict(cfg.val_evaluator), dump])
    assert faults(cfg) == []
    assert not (tmp_path / "found.pkl").exists()


def with_classes(value):
    """A config with classes in place of names, as mmengine's new style has it."""
    import mmengine.registry as registries

    if isinstance(value, dict):
        value = {key: with_classes(inner) for key, inner in value.items()}
        kind = value.get("type")
        for registry in vars(registries).values():
            if isinstance(kind, str) and isinstance(registry, registries.Registry):
                with registry.switch_scope_and_registry("mmdet") as scoped:
                    found = scoped.get(kind)
                if found is not None:
                    return {**value, "type": found}
        return value
    many = isinstance(value, list | tuple)
    return type(value)(with_classes(v) for v in value) if many else value


def test_configs_of_the_new_style(own):
    root, config = own
    cfg = config("retinanet", {})
    cfg.model.neck.setdefault("type", "FPN")
    for key, value in cfg.to_dict().items():
        if key not in ("model", "env_cfg", "train_cfg", "val_cfg", "test_cfg"):
            cfg[key] = with_classes(value)
    model = with_classes({k: v for k, v in cfg.model.to_dict().items() if k != "test_cfg"})
    cfg.model = dict(model, test_cfg=cfg.model.test_cfg)
    cfg.default_scope = None
    cfg.OptimWrapper, cfg.optim_wrapper.type = OptimWrapper, "OptimWrapper"  # a flag replaced it
    assert [str(r) for r in faults(cfg)] == []
    path = root / "images/training/train_00003.jpg"
    path.write_bytes(b"broken")
    (found,) = faults(cfg, full=True)
    assert "train_00003.jpg (6 bytes) cannot be decoded" in found.message


def test_nothing_is_claimed_that_was_not_read(own):
    from mmplugins.checks import preflight

    _, config = own
    said = {r.name: r.message for r in preflight(config("retinanet", {}))}
    assert "train_dataloader.dataset: 12 of 12 pictures read" in said["data"]


def test_a_validation_without_annotations(own):
    root, config = own
    path = root / "annotations/instances_val.json"
    data = json.loads(path.read_text())
    del data["annotations"]
    path.write_text(json.dumps(data))
    found = faults(config("retinanet", {}))
    assert any("has no annotations: predictions only, no figures" in r.message for r in found)


ITERATIONS = dict(type="CheckpointHook", by_epoch=False, interval=5)
ONE_AUGMENT = dict(type="BatchSyncRandomResize", random_size_range=(64, 96), size_divisor=32)
TWO_OPTIMISERS = dict(
    constructor=own_parts.TwoOptimisers,
    backbone=dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.01)),
    rest=dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=1e-4)),
)
OWN_FPN = dict(
    type=own_parts.OwnNeck, in_channels=64, widths=[16, 24, 32], start_level=0,
    add_extra_convs="on_input",
)  # fmt: skip

LEGAL = {
    "collation by a function": ("retinanet", {"train_dataloader.collate_fn": pseudo_collate}),
    "only the best is kept": (
        "retinanet",
        {
            "default_hooks.checkpoint": dict(
                type="CheckpointHook", interval=-1, save_last=False, save_best="coco/bbox_mAP"
            )
        },
    ),
    "batches resized by the iteration": (
        "retinanet",
        {"model.data_preprocessor.batch_augments": [dict(ONE_AUGMENT, interval=1)]},
    ),
    "a hook with arguments by name": (
        "retinanet",
        {"custom_hooks": [dict(type=own_parts.OwnHook, intervals=3)]},
    ),
    "checkpoints by a class with an interval of its own": (
        "retinanet",
        {"default_hooks.checkpoint": dict(type=own_parts.RareSaving)},
    ),
    "a loop with a length of its own": (
        "retinanet",
        {
            "train_cfg": dict(type=own_parts.OwnLoop, passes=3),
            "default_hooks.checkpoint": ITERATIONS,
        },
    ),
    "a neck whose channels mean something else": ("retinanet", {"model.neck": OWN_FPN}),
    "a head whose channels mean something else": (
        "semantic_fpn",
        {"model.decode_head.type": own_parts.OwnHead, "model.decode_head.in_channels": 16},
    ),
    "a head with classes of its own": (
        "retinanet",
        {
            "model.type": own_parts.RetinaNetOfColours,
            "model.colour_head": dict(type=own_parts.ColourHead, num_classes=11),
        },
    ),
    "an auxiliary head with labels of its own": (
        "semantic_fpn",
        {
            "model.auxiliary_head": dict(
                type=own_parts.BorderHead, in_channels=16, in_index=0, channels=8, num_classes=2
            )
        },
    ),
    "two optimisers": (
        "retinanet",
        {
            "model.type": own_parts.RetinaNetOfTwo,
            "optim_wrapper": TWO_OPTIMISERS,
            "param_scheduler": dict(
                backbone=[dict(type="MultiStepLR", milestones=[8, 11], end=12)],
                rest=dict(type="ConstantLR", factor=1.0, end=12),
            ),
        },
    ),
}
"""What mmengine takes and trains, and preflight once refused or warned of."""


@pytest.mark.parametrize("case", LEGAL)
def test_what_trains_is_taken(healthy, case):
    name, changes = LEGAL[case]
    cfg = changed(healthy[name], changes)
    if case.startswith("a neck"):
        cfg.model.neck.update(out_channels=16, num_outs=5)
    found = [str(result) for result in faults(cfg)]
    if case == "only the best is kept":  # which an interruption may not be gone on from
        (said,) = found
        assert "warning" in said and "only the best" in said
    elif case == "a head with classes of its own":
        assert found and all("warning" in said for said in found)
        assert all("colour_head.num_classes: is 11" in said for said in found)
    else:
        assert found == []


@pytest.mark.parametrize("metric", ["mape", "variance", "chamfer"])
def test_a_metric_of_ones_own_may_fall(healthy, metric):
    saving = dict(type="CheckpointHook", interval=1, save_best=f"own/{metric}", rule="less")
    cfg = changed(healthy["retinanet"], {"default_hooks.checkpoint": saving})
    assert not any("keeps the worst" in str(found) for found in faults(cfg, data=False))


@pytest.mark.parametrize("metric", ["coco/bbox_mAP_50", "mIoU", "coco/AR@100", "pascal_voc/mAP"])
def test_known_metrics_do_not_fall(healthy, metric):
    saving = dict(type="CheckpointHook", interval=1, save_best=metric, rule="less")
    cfg = changed(healthy["retinanet"], {"default_hooks.checkpoint": saving})
    assert any("keeps the worst" in str(found) for found in faults(cfg, data=False))


def test_a_wrapper_may_say_that_parameters_are_unused(healthy):
    changes = {
        "model.backbone.out_indices": (0, 1, 2, 3),
        "model.neck.in_channels": [8, 16, 24, 32],
        "model.neck.start_level": 1,
        "model_wrapper_cfg": dict(type="MMDistributedDataParallel", find_unused_parameters=True),
    }
    (found,) = faults(changed(healthy["retinanet"], changes), processes=2)
    assert found.status == "warning" and "get no gradient" in found.message


def test_a_scope_of_ones_own(healthy):
    children = MODELS.children["mmdet"].children
    Registry("model", scope="own_project", parent=MODELS.children["mmdet"], locations=[])
    try:
        cfg = changed(healthy["retinanet"], {"default_scope": "own_project"})
        assert not any("no such package" in str(found) for found in faults(cfg, data=False))
    finally:
        del children["own_project"]


def test_a_model_whose_student_is_a_name(healthy):
    cfg = changed(healthy["retinanet"], {"model.student": "somebody.pth"})
    found = [str(result) for result in faults(cfg, data=False)]
    assert all("AttributeError" not in said for said in found)
    assert any("model.student: RetinaNet takes no such argument" in said for said in found)


@pytest.mark.parametrize("kind", [own_parts.ThingsAndStuff, own_parts.ClassesFromAFile])
def test_another_form_of_file_is_not_checked_as_coco(own, kind):
    _, config = own
    cfg = config("retinanet", {})
    for split in ("train", "val", "test"):
        dataset = cfg[f"{split}_dataloader"].dataset
        dataset.pop("generate")
        dataset.type = kind
    said = [str(finding) for finding in check_data(cfg)]
    assert all(f"annotations of a {kind.__name__} were not checked" in one for one in said)
    assert said


def test_models_that_read_texts_may_be_tested_on_other_classes(own):
    _, config = own
    cfg = config("retinanet", {})
    cfg.val_dataloader.dataset.metainfo = dict(classes=METAINFO["classes"][:3])
    with pytest.raises(DataError, match="classes"):
        check_data(cfg)
    cfg.model.language_model = dict(type="BertModel")
    (finding,) = check_data(cfg)
    assert "are left out, their categories are not in metainfo.classes" in finding.message


# What once passed without a word.


def test_what_older_configs_went_on_from(healthy):
    changes = {"resume_from": "work/latest.pth", "fp16": dict(loss_scale=512.0)}
    said = [str(found) for found in faults(changed(healthy["retinanet"], changes), data=False)]
    assert any("resume_from: was read by OpenMMLab 1.x" in one for one in said)
    assert any(
        "fp16: was read by OpenMMLab 1.x" in one and "AmpOptimWrapper" in one for one in said
    )


def test_epochs_of_few_batches(healthy):
    cfg = changed(healthy["retinanet"], {"train_dataloader.num_batch_per_epoch": 2})
    cfg.param_scheduler[0].end = 12 * 2 + 1
    (found,) = faults(cfg)
    assert "training has only 24 (2 per epoch)" in found.message


def test_a_sampler_that_does_not_suit_the_data(healthy):
    sampler = dict(type="GroupMultiSourceSampler", batch_size=2, source_ratio=[1, 1])
    cfg = changed(healthy["retinanet"], {"train_dataloader.sampler": sampler})
    (found,) = faults(cfg)
    assert found.status == "failure" and "train_dataloader.sampler" in found.message
