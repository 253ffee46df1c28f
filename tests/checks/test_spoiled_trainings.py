"""What trains without an error and spoils the result is named before it starts."""

from __future__ import annotations

import pytest
from breaking import changed, faults

from mmplugins.checks import entries

TRAIN, VAL = "train_dataloader.dataset", "val_dataloader.dataset"

BEST = dict(type="CheckpointHook", interval=1, save_best="coco/bbox_mAP")


def test_steps_that_move_pixels_before_the_annotations_are_loaded(healthy):
    steps = healthy["retinanet"].train_dataloader.dataset.pipeline
    order = [steps[0], steps[3], steps[1], steps[2], steps[4]]
    (found,) = faults(changed(healthy["retinanet"], {f"{TRAIN}.pipeline": order}))
    assert (found.name, found.status) == ("pipelines", "failure")
    assert "RandomFlip comes before LoadAnnotations" in found.message
    assert "put LoadAnnotations before it" in found.message


def test_a_validation_on_the_pictures_of_the_training(healthy, shapes):
    train = healthy["retinanet"].train_dataloader.dataset
    changes = {
        f"{VAL}.ann_file": train.ann_file,
        f"{VAL}.data_prefix": train.data_prefix,
        "val_evaluator.ann_file": f"{shapes}/{train.ann_file}",
    }
    (found,) = faults(changed(healthy["retinanet"], changes))
    assert found.status == "warning" and "reads the pictures of the training" in found.message


def test_a_validation_without_a_metric(healthy):
    (found,) = faults(changed(healthy["retinanet"], {"val_evaluator": []}))
    assert found.status == "warning"
    assert found.message.startswith("val_evaluator: holds no metric")


@pytest.mark.parametrize(
    "changes",
    [
        {"default_hooks.checkpoint": dict(BEST, rule="less")},
        {"custom_hooks": [dict(type="EarlyStoppingHook", monitor="coco/bbox_mAP", rule="less")]},
    ],
)
def test_a_rule_against_the_sense_of_the_metric(healthy, changes):
    (found,) = faults(changed(healthy["retinanet"], changes))
    assert found.status == "failure"
    assert "is 'coco/bbox_mAP' with rule='less'" in found.message
    assert "give rule='greater'" in found.message


def test_a_package_of_logging_that_is_absent(healthy, monkeypatch):
    changes = {"visualizer.vis_backends": [dict(type="TensorboardVisBackend")]}
    cfg = changed(healthy["retinanet"], changes)
    assert faults(cfg) == []
    monkeypatch.setattr(entries, "find_spec", lambda name: None)
    (found,) = faults(cfg)
    assert found.status == "failure"
    assert "TensorboardVisBackend needs the package tensorboard" in found.message
    assert "pip install tensorboard" in found.message


def test_a_folder_that_cannot_be_written(healthy, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    (found,) = faults(changed(healthy["retinanet"], {"work_dir": f"{tmp_path}/file/run"}))
    assert found.status == "failure" and f"{tmp_path}/file is no folder" in found.message
    monkeypatch.setattr(entries.os, "access", lambda path, mode: False)
    (found,) = faults(changed(healthy["retinanet"], {"work_dir": f"{tmp_path}/a/b"}))
    assert found.status == "failure" and f"nothing can be written in {tmp_path}" in found.message


def test_an_epoch_that_never_comes(healthy):
    hook = dict(type="EMAHook", begin_epoch=50)
    (found,) = faults(changed(healthy["retinanet"], {"custom_hooks": [hook]}))
    assert found.status == "warning"
    assert found.message.startswith(
        "custom_hooks[0].begin_epoch: is 50, but training ends after 12"
    )


@pytest.mark.parametrize(("size", "left"), [(1, "a batch is of one"), (11, "the last batch of 12")])
def test_a_batch_norm_that_meets_a_single_position(healthy, size, left):
    head = dict(
        type="PSPHead",
        in_channels=16,
        in_index=3,
        channels=16,
        num_classes=4,
        pool_scales=(1, 2),
        norm_cfg=dict(type="BN"),
        loss_decode=dict(type="CrossEntropyLoss"),
    )
    changes = {
        "model.decode_head": head,
        "train_dataloader.batch_size": size,
        "train_dataloader.sampler": dict(type="DefaultSampler", shuffle=True),
        "find_unused_parameters": True,
        "auto_scale_lr": {},
    }
    cfg = changed(healthy["semantic_fpn"], changes)
    found = [r for r in faults(cfg) if r.status == "failure"]
    assert len(found) == 1, [str(r) for r in found]
    assert left in found[0].message and "give a batch_size of 2 or more" in found[0].message
    assert ("drop_last=True" in found[0].message) is (size > 1)
    cfg.train_dataloader.update(batch_size=4)
    assert [str(r) for r in faults(cfg) if r.status == "failure"] == []
