"""Every scheduler and optimiser at hand is trained, killed, resumed and ends in the same bits."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.registry import OPTIMIZERS, PARAM_SCHEDULERS
from random_training import compare_states, run
from toy_training import toy

import mmplugins  # noqa: F401
from mmplugins.engine import SettingError
from mmplugins.engine.resume import whole_checkpoints

SCHEDULERS = dict(
    ConstantLR=dict(factor=0.5, end=6),
    CosineAnnealingLR=dict(T_max=10),
    CosineRestartLR=dict(periods=[4, 4, 4], restart_weights=[1, 0.5, 0.2], eta_min=0),
    ExponentialLR=dict(gamma=0.9),
    LinearLR=dict(end=8),
    MultiStepLR=dict(milestones=[4, 8]),
    OneCycleLR=dict(eta_max=0.02, total_steps=12),
    PolyLR=dict(power=0.9, end=12),
    StepLR=dict(step_size=3),
    ReduceOnPlateauLR=dict(monitor="score", patience=0, rule="less", by_epoch=True),
    ConstantMomentum=dict(factor=0.9, end=6),
    CosineAnnealingMomentum=dict(T_max=10),
    LinearMomentum=dict(end=8),
)
OPTIMISERS = {
    name: dict(lr=1e-3)
    for name in ("SGD", "Adam", "AdamW", "Adagrad", "Adadelta", "Adamax", "ASGD", "NAdam", "RAdam")
}
OPTIMISERS |= {name: dict(lr=1e-3) for name in ("RMSprop", "Rprop", "TorchAdafactor")}
OPTIMISERS |= {"AdamW_amsgrad": dict(lr=1e-3, amsgrad=True), "SGD_m": dict(lr=0.01, momentum=0.9)}
FAST = (
    "OneCycleLR",
    "MultiStepLR",
    "ReduceOnPlateauLR",
    "SGD_m",
    "TorchAdafactor",
    "AdamW_amsgrad",
)


def names(table: dict) -> list:
    return [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in table]


def same_after_a_kill(tmp_path: Path, **changes) -> None:
    torch.set_num_threads(1)
    whole = run(toy(tmp_path / "whole", **changes))
    broken = toy(tmp_path / "broken", **changes)
    run(broken, kill_after=8)
    run(broken, resume=True)
    assert not compare_states(whole / "iter_12.pth", tmp_path / "broken/iter_12.pth")


@pytest.mark.parametrize("name", names(SCHEDULERS))
def test_schedulers(tmp_path, name):
    if name not in PARAM_SCHEDULERS:
        pytest.skip(f"this mmengine has no {name}")
    scheduler = dict(type=name, by_epoch=False) | SCHEDULERS[name]
    momentum = dict(type="SGD", lr=0.01, momentum=0.9)
    wrapper = dict(type="OptimWrapper", optimizer=momentum)
    same_after_a_kill(tmp_path, param_scheduler=[scheduler], optim_wrapper=wrapper)


@pytest.mark.parametrize("name", names(OPTIMISERS))
def test_optimisers(tmp_path, name):
    kind = name.partition("_")[0]
    if kind not in OPTIMIZERS:
        pytest.skip(f"this torch has no {kind}")
    optimizer = dict(type=kind, **OPTIMISERS[name])
    same_after_a_kill(tmp_path, optim_wrapper=dict(type="OptimWrapper", optimizer=optimizer))


@pytest.mark.parametrize(
    "hook",
    [
        dict(type="EMAHook"),
        pytest.param(dict(type="EMAHook", ema_type="MomentumAnnealingEMA"), marks=pytest.mark.slow),
        pytest.param(
            dict(type="EarlyStoppingHook", monitor="score", rule="greater"), marks=pytest.mark.slow
        ),
        pytest.param(dict(type="SyncBuffersHook"), marks=pytest.mark.slow),
    ],
)
def test_hooks(tmp_path, hook):
    same_after_a_kill(tmp_path, custom_hooks=[hook])


def test_a_sharded_optimiser_is_refused_before_it_hangs(monkeypatch):
    class Sharded:
        pass

    monkeypatch.setattr(whole_checkpoints, "ZeroRedundancyOptimizer", Sharded)
    wrapper = SimpleNamespace(optimizer=Sharded())
    with pytest.raises(SettingError, match=r"ZeroRedundancyOptimizer.*save_optimizer=False"):
        whole_checkpoints._refuse_sharded(wrapper, saved=True)
    whole_checkpoints._refuse_sharded(wrapper, saved=False)
