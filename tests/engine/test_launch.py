"""Starting a run, and what is left on the console when it breaks."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.dist import is_distributed

from mmplugins.engine import ConsoleRunner, SettingError, launch
from mmplugins.engine.hooks.progress import ProgressHook


class BrokenRunner:
    """Breaks off in the middle, with its progress on the console."""

    def __init__(self):
        self.hooks = [SimpleNamespace(), ProgressHook()]
        self.closed, self.log_dir = 0, "absent"
        self.register_hook = self.hooks.append
        self.hooks[1].close = self.close

    def close(self):
        self.closed += 1

    def train(self):
        raise KeyboardInterrupt

    test = train


@pytest.mark.parametrize("start", [launch.train, launch.test])
def test_console_is_given_back_when_a_run_breaks(monkeypatch, tmp_path, start):
    runner = BrokenRunner()
    monkeypatch.setattr(launch, "build_runner", lambda cfg: runner)
    with pytest.raises(KeyboardInterrupt):
        start(Config(dict(work_dir=str(tmp_path))))
    assert runner.closed == 1


def test_one_process_joins_no_group():
    launch.start_processes(Config(dict(launcher="none")))
    assert not is_distributed()


def test_own_runner_type_goes_first(monkeypatch):
    monkeypatch.setattr(launch.RUNNERS, "build", lambda cfg: ("own", cfg.runner_type))
    monkeypatch.setattr(ConsoleRunner, "from_cfg", lambda cfg: "console")
    assert launch.build_runner(Config(dict(runner_type="Flexible"))) == ("own", "Flexible")
    assert launch.build_runner(Config(dict(a=1))) == "console"


def test_the_check_of_a_model_leaves_its_config_alone():
    """mmdet's detectors write ``train_cfg`` and ``test_cfg`` into the configs of their heads."""
    root = Path(__file__).parents[2] / "configs"
    cfg = Config.fromfile(root / "retinanet/retinanet_shapes.py")
    before = cfg.to_dict()
    launch.check_model(cfg)
    assert cfg.to_dict() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bbox_head.no_such_argument": 1}, "no_such_argument"),
        ({"neck.num_outs": 1}, r"AssertionError\(\), tools/check\.py"),
        ({"bbox_head.type": "NoSuchHead"}, "NoSuchHead"),
    ],
)
def test_what_a_model_refuses(change, message):
    cfg = Config.fromfile(Path(__file__).parents[2] / "configs/retinanet/retinanet_shapes.py")
    cfg.merge_from_dict({f"model.{place}": value for place, value in change.items()})
    with pytest.raises(SettingError, match=message):
        launch.check_model(cfg)


def test_testing_goes_without_averaging():
    others = [dict(type="ChannelsLastHook"), ProgressHook()]
    cfg = Config(dict(custom_hooks=[*others, dict(type="mmengine.EMAHook", momentum=0.1)]))
    assert launch.without_averaging(cfg).custom_hooks == others
    assert len(cfg.custom_hooks) == 3
    assert launch.without_averaging(Config(dict(custom_hooks=None))).custom_hooks is None
    assert "custom_hooks" not in launch.without_averaging(Config())


def test_two_runs_in_one_second_have_two_logs(monkeypatch, tmp_path):
    monkeypatch.setattr("mmengine.runner.runner.time.strftime", lambda *_: "20260101_000000")
    for name in ("first", "second"):
        settings = dict(work_dir=str(tmp_path / name), experiment_name="run", default_hooks={})
        runner = ConsoleRunner(torch.nn.Identity(), **settings)
        runner.logger.info(f"this is {name}")
        (log,) = (tmp_path / name).rglob("*.log")
        assert f"this is {name}" in log.read_text()


@pytest.mark.parametrize(
    ("launcher", "variables", "expected"),
    [
        ("none", dict(RANK="3", WORLD_SIZE="4"), (0, 1)),
        ("pytorch", dict(RANK="3", WORLD_SIZE="4"), (3, 4)),
        ("slurm", dict(SLURM_PROCID="1", SLURM_NTASKS="2"), (1, 2)),
        ("mpi", {}, (0, 1)),
    ],
)
def test_rank_before_the_processes_join(monkeypatch, launcher, variables, expected):
    for names in launch._LAUNCHERS.values():
        for name in names:
            monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert launch.launched(launcher) == expected


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ('"FileClient" will be deprecated in future. Please use io functions', False),
        ('"HardDiskBackend" is the alias of "LocalBackend" and the former will be', False),
        ("The prefix is not set in metric class IoUMetric.", False),
        ("Reach the end of the dataloader, it will be restarted", True),
    ],
)
def test_talk_of_openmmlab_about_its_own_code_stays_in_the_log_file(message, shown):
    record = logging.LogRecord("mmengine", logging.WARNING, "", 0, message, (), None)
    assert launch._concerns_the_user(record) is shown
