"""One backbone trained once in a recipe on a small budget, the same for all: what it scored.

A *trial* is a config, a backbone and a seed. Its result is a file in its own folder; a trial that
was interrupted goes on from its last checkpoint, one that is done is not run again.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import re
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmplugins.engine import build_runner, compose, load_config
from mmplugins.engine.config import settings
from mmplugins.engine.config.backbone_choice import parse_backbone, short_name
from mmplugins.engine.config.settings import SettingError, task_of
from mmplugins.engine.resume.interruption import signals_interrupt
from mmplugins.engine.resume.training_folder import resumable_files
from mmplugins.utils import write_whole

from .budget import Budget, schedule, shapes_loaders, use_shapes
from .environment import describe_environment
from .memory import release
from .palette import timm_family
from .speed import reason_of


@dataclass(frozen=True)
class Task:
    """What is learnt, and the figure that counts.

    Attributes:
        title: Its name in headings.
        score: Name of the figure, in percent.
        metric: Ending of its name among an evaluator's metrics.
        scale: What brings that to percent.
    """

    title: str
    score: str
    metric: str
    scale: float


TASKS = {
    "detection": Task("Object detection", "box AP", "bbox_mAP", 100),
    "instance": Task("Instance segmentation", "mask AP", "segm_mAP", 100),
    "semantic": Task("Semantic segmentation", "mIoU", "mIoU", 1),
}


@dataclass(frozen=True)
class Trial:
    """A config, a backbone and a seed.

    Attributes:
        config: Config file.
        backbone: As for :func:`mmplugins.engine.compose`, as text.
        label: The backbone's name in tables and folders.
        seed: For weights and data.
        folder: Where checkpoints, logs and the result go.
    """

    config: str
    backbone: str
    label: str
    seed: int
    folder: Path

    @property
    def result(self) -> Path:
        """File of the result."""
        return self.folder / "result.json"

    def done(self) -> dict[str, Any] | None:
        """The result, if the trial has run and did not fail.

        Raises:
            SettingError: If it is of another backbone that had the same name.
        """
        if not self.result.is_file():
            return None
        result = json.loads(self.result.read_text(encoding="utf-8"))
        if result["failure"] is not None:
            return None
        if result["backbone"] != self.backbone:
            raise SettingError(
                f"{self.result} is of the backbone {result['backbone']}, and {self.label!r} is now "
                f"{self.backbone}: give it a name of its own by NAME=dict(...), or another --out"
            )
        return result


def name_backbone(text: str) -> tuple[str, str]:
    """Label and backbone of ``caformer_s18``, ``timm/resnet50``, ``dict(...)``, ``NAME=dict(...)``.

    Raises:
        SettingError: If a dict cannot be read.
    """
    named = re.match(r"\s*([\w.-]+)\s*=\s*(?=dict\(|\{)", text)
    backbone = text[named.end() :] if named else text
    if named:
        return named[1], backbone.strip()
    written = backbone.strip().startswith(("{", "dict("))
    return (short_name(backbone) if written else backbone.strip()), backbone.strip()


def family_of_backbone(backbone: str | Mapping[str, Any]) -> str | None:
    """Family of a backbone in lower case, as in :mod:`.palette`; None if it cannot be read."""
    try:
        config = parse_backbone(backbone) if isinstance(backbone, str) else backbone
    except SettingError:
        return None
    kind = str(config.get("type", "")).rpartition(".")[2]
    name = str(config.get("model_name", "")).removeprefix("timm/")
    return timm_family(name) if kind == "TimmBackbone" and name else kind.lower()


def task_name(cfg: Config) -> str:
    """Which of :data:`TASKS` a config is."""
    if task_of(cfg) == "segmentation":
        return "semantic"
    evaluators = cfg.get("val_evaluator") or {}
    evaluators = [evaluators] if isinstance(evaluators, Mapping) else evaluators
    metrics = [one.get("metric", ()) for one in evaluators]
    return "instance" if any("segm" in metric for metric in metrics) else "detection"


def score_of(metrics: Mapping[str, Any], task: str) -> float:
    """The figure that counts, in percent.

    Raises:
        ValueError: If an evaluator gave others only.
    """
    wanted = TASKS[task]
    values = {k: v for k, v in metrics.items() if k.rsplit("/", 1)[-1] == wanted.metric}
    if values:
        return float(next(iter(values.values()))) * wanted.scale
    if not metrics and task != "semantic":
        return 0.0  # mmdet's metric is silent where nothing at all was detected: AP is 0
    raise ValueError(f"no {wanted.metric} among the metrics {', '.join(metrics) or '(none)'}")


def plan(
    configs: Sequence[str | Path], backbones: Sequence[str], seeds: int, folder: Path
) -> list[Trial]:
    """All trials of some configs and backbones: seed by seed, so that all have one early.

    Args:
        configs: Config files.
        backbones: As for :func:`name_backbone`.
        seeds: Trials of each, with seeds 0, 1 ...
        folder: Where their folders go.

    Raises:
        SettingError: If two backbones or two configs have the same name, a dict cannot be read, or
            there are no seeds.
    """
    if seeds < 1:
        raise SettingError(f"seeds={seeds}: expected 1 or more")
    named = [name_backbone(text) for text in backbones]
    for what, names in (
        ("backbones", [label for label, _ in dict.fromkeys(named)]),
        ("configs", [Path(config).stem for config in dict.fromkeys(map(str, configs))]),
    ):
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise SettingError(
                f"two {what} are called {twice[0]!r}: give names of their own, for backbones by "
                "NAME=dict(...)"
            )
    return [
        Trial(
            str(config), backbone, label, seed,
            Path(folder) / Path(config).stem / label.replace("/", "-") / f"seed{seed}",
        )
        for seed in range(seeds)
        for config in dict.fromkeys(configs)
        for label, backbone in dict.fromkeys(named)
    ]  # fmt: skip


def trial_config(trial: Trial, budget: Budget, data: Path) -> Config:
    """The config of a trial: recipe, backbone and budget.

    Args:
        trial: The trial.
        budget: The budget of all.
        data: Folder for the shapes pictures, if the recipe trains on them.

    Raises:
        SettingError: If the backbone does not fit, or the data have no size to set.
    """
    cfg = compose(load_config(trial.config), trial.backbone)
    if shapes_loaders(cfg):
        use_shapes(cfg, data, budget.image_size)
    elif budget.image_size:
        raise SettingError(
            f"image_size={budget.image_size} is for the shapes data, which are drawn at that "
            "size; for other data set the sizes of the pipelines in the config"
        )
    steps = budget.steps
    cfg.train_dataloader.batch_size = budget.batch
    cfg.train_cfg = dict(type="IterBasedTrainLoop", max_iters=steps, val_interval=steps)
    cfg.optim_wrapper.optimizer.lr = budget.lr or cfg.optim_wrapper.optimizer.lr
    cfg.param_scheduler = schedule(steps)
    cfg.setdefault("log_processor", dict(type="LogProcessor")).by_epoch = False
    # A tenth of the work is the most that an interruption costs.
    hooks = cfg.setdefault("default_hooks", {})
    hooks.setdefault("checkpoint", dict(type="CheckpointHook"))
    hooks.checkpoint.update(
        interval=math.ceil(steps / 10), by_epoch=False, max_keep_ckpts=1, save_last=False
    )
    hooks.checkpoint.pop("save_best", None)
    for name in ("progress", "results"):  # the console belongs to the leaderboard
        hooks.pop(name, None)
    cfg.randomness = dict(seed=trial.seed)
    cfg.work_dir = str(trial.folder)
    cfg.log_level = "ERROR"
    cfg.experiment_name = re.sub(r"\W+", "_", f"{Path(trial.config).stem}_{trial.folder}")
    if budget.amp:
        settings.use_amp(cfg)
    cfg.merge_from_dict(dict(budget.options))
    return cfg


class _Watch(Hook):
    """Counts steps, stops a training that has gone astray, and keeps the metrics."""

    def __init__(self, on_step: Callable[[int], None]):
        self.on_step = on_step
        self.metrics: dict[str, Any] | None = None

    def before_train(self, runner: Runner) -> None:
        self.on_step(runner.iter)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None):
        loss = float(torch.as_tensor((outputs or {}).get("loss", 0.0)).detach())
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss} at step {runner.iter + 1}")
        self.on_step(runner.iter + 1)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self.metrics = dict(metrics or {})


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what OpenMMLab and pycocotools print and warn of at each start."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def run_trial(
    trial: Trial, budget: Budget, data: Path, on_step: Callable[[int], None] = lambda step: None
) -> dict[str, Any]:
    """Train and validate, go on with it if it was interrupted, and write the result.

    Checkpoints are removed when the result is there. What fails is a result as well, with the
    reason; ``error.txt`` beside it says where, and the next call tries again, from the start.

    Args:
        trial: What to train.
        budget: The budget of all.
        data: Folder for the shapes pictures.
        on_step: Is told the number of steps done.

    Returns:
        The result, as :mod:`.leaderboard` takes it.

    Raises:
        KeyboardInterrupt: If Ctrl-C or SIGTERM stops it; the next call goes on.
    """
    result = dict(
        config=Path(trial.config).stem, backbone=trial.backbone, label=trial.label,
        family=family_of_backbone(trial.backbone), seed=trial.seed, budget=asdict(budget),
        steps=budget.steps, source="trained", task=None, score=None, metrics={}, seconds=None,
        failure=None,
    )  # fmt: skip
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    result["environment"] = describe_environment(device)
    began, resumed = time.monotonic(), False
    try:
        result["task"] = task_name(load_config(trial.config))
        cfg = trial_config(trial, budget, data)
        cfg.resume = resumed = bool(resumable_files(trial.folder))
        if resumed:
            cfg.load_from = None  # else it would be gone on from
        watch = _Watch(on_step)
        with signals_interrupt(), _quiet():
            runner = build_runner(cfg)
            runner.register_hook(watch, priority="VERY_HIGH")
            runner.train()
            metrics = runner.val() if watch.metrics is None else watch.metrics
            del runner
        result["metrics"] = {k: float(v) for k, v in metrics.items() if isinstance(v, Real)}
        result["score"] = score_of(result["metrics"], result["task"])
        # Of a resumed trial, this counts what was done after the interruption only.
        result["seconds"] = None if resumed else round(time.monotonic() - began, 1)
    except Exception as error:
        result["failure"] = reason_of(error)
        write_whole(trial.folder / "error.txt", traceback.format_exc())
    else:
        (trial.folder / "error.txt").unlink(missing_ok=True)
    release(device)
    trial.folder.mkdir(parents=True, exist_ok=True)
    write_whole(trial.result, json.dumps(result, indent=1, default=str) + "\n")
    for path in trial.folder.glob("*.pth"):
        path.unlink()
    (trial.folder / "last_checkpoint").unlink(missing_ok=True)
    return result
