"""Configs small enough to train within a test: 64-pixel shapes, a backbone of four thin blocks."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from programs import ROOT, load

DATA = """
data_root = {root!r} + '/shapes/'
data = dict(data_root=data_root, generate=dict(image_size=64, num_train=6, num_val=4, seed=0))
loader = dict(batch_size=2, num_workers=0, persistent_workers=False, dataset=data)
train_dataloader = loader
val_dataloader = loader
test_dataloader = loader
tiny = dict(type='PoolFormer', arch=dict(depths=(1, 1, 1, 1), dims=(8, 16, 24, 32)))
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3))
"""

DETECTION = """
_base_ = [
    {configs!r} + '/_base_/models/retinanet.py',
    {configs!r} + '/_base_/datasets/shapes_detection.py',
    {configs!r} + '/_base_/detection_runtime.py',
]
model = dict(
    backbone=tiny,
    neck=dict(in_channels=[16, 24, 32], out_channels=16),
    bbox_head=dict(num_classes=4, in_channels=16, feat_channels=16, stacked_convs=1),
    test_cfg=dict(score_thr=0.001),  # a model that knows nothing must find something, too
)
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val.json')
test_evaluator = val_evaluator
train_cfg = dict(by_epoch=True, max_epochs=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(enable=False, base_batch_size=16)
default_hooks = dict(logger=dict(interval=1))
"""

SEGMENTATION = """
_base_ = [
    {configs!r} + '/_base_/datasets/shapes_semantic.py',
    {configs!r} + '/_base_/segmentation_runtime.py',
]
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', size=(64, 64), bgr_to_rgb=True),
    backbone=tiny,
    decode_head=dict(
        type='FCNHead',
        in_channels=32,
        in_index=3,
        channels=8,
        num_convs=1,
        num_classes=4,
        loss_decode=dict(type='CrossEntropyLoss'),
    ),
    test_cfg=dict(mode='whole'),
)
train_cfg = dict(by_epoch=False, max_iters=2, val_interval=2)
val_cfg = dict()
test_cfg = dict()
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=2))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where the configs, the data and the work dirs of one test file are."""
    return tmp_path_factory.mktemp("tools")


@pytest.fixture(scope="module")
def write(folder) -> Callable[[str, str], Path]:
    """Write a config on the tiny data, by its name and what follows the data."""

    def write(name: str, text: str) -> Path:
        path = folder / f"{name}.py"
        path.write_text((DATA + text).format(root=str(folder), configs=str(ROOT / "configs")))
        return path

    return write


@pytest.fixture(scope="module")
def detection(write) -> Path:
    return write("tiny_detection", DETECTION)


@pytest.fixture(scope="module")
def segmentation(write) -> Path:
    return write("tiny_segmentation", SEGMENTATION)


@pytest.fixture
def call(monkeypatch):
    """Run a tool's ``main`` in this process: ``call('train', config, '--amp')``."""

    def call(tool: str, *args: object) -> ModuleType:
        monkeypatch.setattr(sys, "argv", [f"{tool}.py", *map(str, args)])
        module = load(f"tools/{tool}.py")
        module.main()
        return module

    return call


@pytest.fixture
def end(monkeypatch):
    """Run a tool as a program, in this process; the status, or the text, that it ends with."""

    def end(tool: str, *args: object) -> int | str | None:
        path = str(ROOT / f"tools/{tool}.py")
        monkeypatch.setattr(sys, "argv", [path, *map(str, args)])
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(path, run_name="__main__")
        return stopped.value.code

    return end
