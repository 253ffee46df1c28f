"""Drawn configs: changes that documentation offers pass, slips are named, and nothing ends bare."""

from __future__ import annotations

import re
from copy import deepcopy

import pytest
from breaking import changed
from drawn_sets import JUNK
from few_and_many import few_and_many
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmengine.config import Config

from mmplugins.checks import failures, preflight
from mmplugins.engine import train

TRAIN = "train_dataloader"
PIPELINE = f"{TRAIN}.dataset.pipeline"

NAMES = st.sampled_from(["retinanet", "mask_rcnn", "semantic_fpn"])
SLIPS = [value for value in JUNK if value != 10**12]
"""A width or a number of parts of that size fills the memory of the machine before it fails."""

SHARED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def optimizers():
    rate = st.sampled_from([1e-5, 1e-4, 1e-3])
    kinds = st.sampled_from(["AdamW", "Adam", "SGD", "NAdam", "RMSprop"])
    clips = st.sampled_from([None, dict(max_norm=1.0), dict(type="value", clip_value=0.5)])
    return st.builds(
        lambda wrapper, kind, lr, clip, counts, keys: dict(
            type=wrapper,
            optimizer=dict(type=kind, lr=lr, weight_decay=1e-4),
            clip_grad=clip,
            accumulative_counts=counts,
            paramwise_cfg=keys,
        ),
        st.sampled_from(["OptimWrapper", "AmpOptimWrapper"]),
        kinds,
        rate,
        clips,
        st.sampled_from([1, 2]),
        st.sampled_from(
            [None, dict(norm_decay_mult=0.0), dict(custom_keys=dict(backbone=dict(lr_mult=0.1)))]
        ),
    )


def schedules(steps):
    """Documented schedulers, one or two of them, by steps."""
    own = dict(by_epoch=False, begin=0, end=steps)
    return st.sampled_from(
        [
            [dict(type="PolyLR", eta_min=1e-6, power=0.9, **own)],
            [dict(type="CosineAnnealingLR", T_max=steps, eta_min=0.0, **own)],
            [dict(type="OneCycleLR", eta_max=1e-3, total_steps=steps, by_epoch=False)],
            [dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=2)],
            dict(type="ConstantLR", factor=0.5, **own),
            [dict(type="MultiStepLR", by_epoch=False, milestones=[steps // 2], gamma=0.1)],
            [dict(type="CosineAnnealingMomentum", T_max=steps, eta_min=0.85, **own)],
            None,
        ]
    )


HOOKS = st.lists(
    st.sampled_from(
        [
            dict(type="EMAHook"),
            dict(type="EMAHook", ema_type="mmdet.ExpMomentumEMA", momentum=0.001),
            dict(type="SyncBuffersHook"),
            dict(type="EmptyCacheHook"),
        ]
    ),
    max_size=2,
    unique_by=lambda hook: hook["type"],
)

STEPS = st.sampled_from(
    [
        [],
        [dict(type="RandomFlip", prob=0.5)],
        [dict(type="RandomFlip", prob=[0.3, 0.3], direction=["horizontal", "vertical"])],
        [dict(type="PhotoMetricDistortion")],
        [dict(type="RandomCrop", crop_size=(48, 48))],
        [
            dict(
                type="RandomChoice",
                transforms=[
                    [dict(type="RandomFlip", prob=1.0)],
                    [dict(type="PhotoMetricDistortion")],
                ],
            )
        ],
        [dict(type="RandomApply", transforms=[dict(type="RandomFlip", prob=1.0)], prob=0.5)],
    ]
)


@st.composite
def legal_changes(draw, cfg: Config, name: str):
    """Some of what a user may change, by the documentation of mmengine, mmdet and mmseg."""
    segmentation = name == "semantic_fpn"
    steps = 40 if segmentation else 72
    own = cfg.train_dataloader.dataset.to_dict()
    loads = [k for k, one in enumerate(own["pipeline"]) if "LoadAnnotations" in one["type"]]
    pipeline = [*own["pipeline"][: loads[0] + 2], *draw(STEPS), own["pipeline"][-1]]
    dataset = draw(
        st.sampled_from(
            [
                dict(own, pipeline=pipeline),
                dict(type="RepeatDataset", times=2, dataset=own),
                dict(type="ConcatDataset", datasets=[own, own]),
                *([] if segmentation else [dict(type="ClassBalancedDataset", oversample_thr=0.1,
                                                dataset=own)]),
            ]
        )
    )  # fmt: skip
    changes = {
        f"{TRAIN}.dataset": dataset,
        f"{TRAIN}.batch_size": draw(st.integers(2, 4)),
        "optim_wrapper": draw(optimizers()),
        "param_scheduler": draw(schedules(steps)),
        "custom_hooks": draw(HOOKS),
        "randomness": draw(st.sampled_from([dict(seed=3), dict(seed=None)])),
        "auto_scale_lr": draw(st.sampled_from([None, dict(enable=False, base_batch_size=16)])),
        "model.type": draw(
            st.sampled_from([cfg.model.type, f"{cfg.default_scope}.{cfg.model.type}"])
        ),
        "log_level": draw(st.sampled_from(["INFO", "WARNING"])),
        "default_hooks.visualization": None,
    }  # fmt: skip
    if draw(st.booleans()):
        unit = dict(type="IterBasedTrainLoop", max_iters=steps, val_interval=20)
        changes["train_cfg"] = unit
        changes["default_hooks.checkpoint.by_epoch"] = False
        changes["default_hooks.checkpoint.interval"] = 20
    if draw(st.booleans()):
        for key in ("val_dataloader", "val_evaluator", "val_cfg"):
            changes[key] = None
    elif draw(st.booleans()):
        changes["val_evaluator"] = [cfg.val_evaluator.to_dict()]
    return changes


def check_legal(healthy, name, data):
    cfg = healthy[name]
    changes = data.draw(legal_changes(cfg, name))
    results = preflight(changed(cfg, changes))
    found = [str(r) for r in failures(results)]
    assert not found, (found, changes)


def places(value, way=()):
    """Dotted paths of all entries of a config."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        path = f"{way}[{key}]" if isinstance(key, int) else f"{way}.{key}" if way else key
        yield path
        if isinstance(inner, dict | list | tuple):
            yield from places(inner, path)


def slip(healthy, name, data):
    """One entry of another value: preflight never ends in an error, and names the place."""
    cfg = deepcopy(healthy[name])
    cfg.model = Config(dict(model=listed(cfg.model.to_dict()))).model
    path = data.draw(st.sampled_from(sorted(places(cfg.to_dict()))))
    value = data.draw(st.sampled_from(SLIPS))
    results = preflight(changed(Config(listed(cfg.to_dict())), {path: value}))
    for failure in failures(results):
        assert len(failure.message) < 3000
        assert not re.search(r"Traceback|^\w+Error", failure.message), str(failure)
    return path, value, results


def check_slip(healthy, name, data):
    slip(healthy, name, data)


def listed(value):
    """Tuples as lists, so that every entry can be replaced."""
    if isinstance(value, dict):
        return {key: listed(inner) for key, inner in value.items()}
    return [listed(inner) for inner in value] if isinstance(value, list | tuple) else value


test_legal_configs, test_many_legal_configs = few_and_many(check_legal, 8, 300, NAMES, st.data())
test_slips, test_many_slips = few_and_many(check_slip, 12, 400, NAMES, st.data())


@pytest.mark.slow
@settings(SHARED, max_examples=60)
@given(NAMES, st.data())
def test_what_passes_trains(healthy, tmp_path_factory, name, data):
    path, value, results = slip(healthy, name, data)
    if failures(results):
        return
    cfg = changed(Config(listed(healthy[name].to_dict())), {path: value})
    cfg.work_dir = str(tmp_path_factory.mktemp("drawn"))
    cfg.train_cfg = dict(type="IterBasedTrainLoop", max_iters=2, val_interval=2)
    cfg.default_hooks = dict(logger=None, checkpoint=None)
    train(cfg)
