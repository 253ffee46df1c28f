"""One training and its score, safe to interrupt: what leaderboard and studies are made of.

The result is a file in the experiment's folder. One that was interrupted goes on from its last
checkpoint, one that is done is not run again, and one that another process runs is left to it.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmplugins.checkpoint import find_weights, read_checkpoint
from mmplugins.engine import SettingError, build_runner
from mmplugins.engine.config.settings import task_of
from mmplugins.engine.resume.interruption import signals_interrupt
from mmplugins.engine.resume.training_folder import resumable_files
from mmplugins.utils import write_whole

from .environment import describe_environment
from .memory import release
from .speed import reason_of

SCHEMA = 2


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
class Experiment:
    """A training to be run once.

    Attributes:
        folder: Where checkpoints, logs and the result go.
        about: Plain data that identify it and stand in its result.
        config: Makes its config; what this raises is the experiment's failure.
        select: ``'best'`` tests the checkpoint of the best validation, ``'last'`` the last one.
        report: ``'test'`` or ``'val'``: whose metrics are the score.
        threads: Threads of PyTorch on a CPU while it runs.
        after: Is told the runner when all is done, for example to keep the weights.
    """

    folder: Path
    about: Mapping[str, Any]
    config: Callable[[], Config]
    select: str = "last"
    report: str = "val"
    threads: int = 1
    after: Callable[[Runner], None] = lambda runner: None

    @property
    def result(self) -> Path:
        """File of the result."""
        return self.folder / "result.json"

    def read(self) -> dict[str, Any] | None:
        """The result, failed or not; None if there is none yet.

        Raises:
            SettingError: If it is of another version, or of something else than ``about`` says.
        """
        if not self.result.is_file():
            return None
        return checked_result(self.result, self.about)

    def done(self) -> dict[str, Any] | None:
        """The result, if the experiment has run and did not fail.

        The checkpoints are removed, if a kill came between the result and their removal.
        """
        result = self.read()
        if not result or result["failure"] is not None:
            return None
        self.remove_checkpoints()
        return result

    def remove_checkpoints(self) -> None:
        """Remove what an interrupted training would go on from."""
        notes = (self.folder / name for name in ("last_checkpoint", "validations.json"))
        for path in (*self.folder.glob("*.pth"), *notes):
            path.unlink(missing_ok=True)


def checked_result(path: Path, about: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Read a result.

    Raises:
        SettingError: If it is of another version, or of something else than ``about`` says.
    """
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        schema = result.get("schema")
    except (ValueError, AttributeError) as error:
        raise SettingError(
            f"{path} is no result ({error}): remove it, or give another --out"
        ) from error
    if schema != SCHEMA:
        raise SettingError(
            f"{path} was written by another version of mmplugins (schema {schema}, this one reads "
            f"{SCHEMA}): give another --out"
        )
    score = result.get("score")
    if not result.get("failure") and not (isinstance(score, Real) and math.isfinite(score)):
        raise SettingError(f"{path} is no result (its score is {score!r}): remove it")
    plain = json.loads(json.dumps(dict(about or {}), default=str))
    # A result from before a key existed has no say in it.
    other = [f"{k}: {result[k]}, now {v}" for k, v in plain.items() if result.get(k, v) != v]
    if other:
        raise SettingError(
            f"{path} is the result of something else ({'; '.join(other)}): give the backbone a "
            "name of its own by NAME=dict(...), or another --out"
        )
    return result


def task_name(cfg: Config) -> str:
    """Which of :data:`TASKS` a config is."""
    if task_of(cfg) == "segmentation":
        return "semantic"
    evaluators = cfg.get("val_evaluator") or cfg.get("test_evaluator") or {}
    evaluators = [evaluators] if isinstance(evaluators, Mapping) else evaluators
    metrics = [one.get("metric", ()) for one in evaluators]
    return "instance" if any("segm" in metric for metric in metrics) else "detection"


def score_of(metrics: Mapping[str, Any], task: str) -> float:
    """The figure that counts, in percent.

    Raises:
        ValueError: If an evaluator gave others only, or had nothing to score.
    """
    wanted = TASKS[task]
    for name, value in metrics.items():
        if name.rsplit("/", 1)[-1] == wanted.metric:
            if not value >= 0:
                raise ValueError(f"{name} is {value}: the pictures have nothing to be found")
            return float(value) * wanted.scale
    if not metrics and task != "semantic":
        return 0.0  # mmdet's metric is silent where nothing at all was detected: AP is 0
    raise ValueError(f"no {wanted.metric} among the metrics {', '.join(metrics) or '(none)'}")


class _Watch(Hook):
    """Counts steps, stops a training that has gone astray, and keeps each validation."""

    priority = "VERY_HIGH"

    def __init__(self, on_step: Callable[[int], None], task: str, folder: Path):
        self.on_step, self.task = on_step, task
        self.file = folder / "validations.json"

    def before_train(self, runner: Runner) -> None:
        self._write([one for one in self.validations() if one["step"] <= runner.iter])
        self.on_step(runner.iter)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None):
        loss = float(torch.as_tensor((outputs or {}).get("loss", 0.0)).detach())
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss} at step {runner.iter + 1}")
        self.on_step(runner.iter + 1)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        found = {k: float(v) for k, v in (metrics or {}).items() if isinstance(v, Real)}
        one = dict(step=runner.iter, score=score_of(found, self.task), metrics=found)
        before = [other for other in self.validations() if other["step"] != runner.iter]
        self._write([*before, one])

    def validations(self) -> list[dict[str, Any]]:
        """Those so far, also of before an interruption."""
        return json.loads(self.file.read_text()) if self.file.is_file() else []

    def _write(self, validations: list[dict[str, Any]]) -> None:
        write_whole(self.file, json.dumps(validations) + "\n")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what OpenMMLab and pycocotools print and warn of at each start."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run_experiment(
    experiment: Experiment, on_step: Callable[[int], None] = lambda step: None
) -> dict[str, Any] | None:
    """Train and score, go on with it if it was interrupted, and write the result.

    Checkpoints are removed when the result is there. What fails is a result as well, with the
    reason; ``error.txt`` beside it says where, and the next call tries again, from the start.

    Args:
        experiment: What to run.
        on_step: Is told the number of steps done.

    Returns:
        The result: ``about``, and ``task``, ``score`` in percent, ``selected`` (step and score on
        validation, or None), ``metrics``, ``validations``, ``seconds`` (None if it was resumed),
        ``environment``, ``failure``. None if another process runs it just now.

    Raises:
        KeyboardInterrupt: If Ctrl-C or SIGTERM stops it; the next call goes on.
    """
    experiment.folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(experiment.folder / ".running", timeout=0):
            # Another process may have done it since the caller looked.
            return experiment.done() or _run(experiment, on_step)
    except Timeout:
        return None


def _run(experiment: Experiment, on_step: Callable[[int], None]) -> dict[str, Any]:
    folder = experiment.folder
    result = dict(
        json.loads(json.dumps(dict(experiment.about), default=str)), schema=SCHEMA, task=None,
        score=None, selected=None, metrics={}, validations=[], seconds=None, failure=None,
    )  # fmt: skip
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    began, resumed = time.monotonic(), False
    with _threads(experiment.threads):
        result["environment"] = describe_environment(device)
        try:
            cfg = experiment.config()
            result["task"] = task = task_name(cfg)
            cfg.resume = resumed = bool(resumable_files(folder))
            if resumed:
                cfg.load_from = None  # else it would be gone on from
            watch = _Watch(on_step, task, folder)
            with signals_interrupt(), _quiet():
                runner = build_runner(cfg)
                runner.register_hook(watch)
                runner.train()
                result |= _score(experiment, runner, watch, task)
                experiment.after(runner)
                del runner
            result["seconds"] = None if resumed else round(time.monotonic() - began, 1)
        except Exception as error:
            result["failure"] = reason_of(error)
            write_whole(folder / "error.txt", traceback.format_exc())
        else:
            (folder / "error.txt").unlink(missing_ok=True)
    release(device)
    write_whole(experiment.result, json.dumps(result, indent=1, default=str) + "\n")
    experiment.remove_checkpoints()
    return result


def _score(experiment: Experiment, runner: Runner, watch: _Watch, task: str) -> dict[str, Any]:
    """Select, and report what the experiment asks for."""
    # The checkpoint that it went on from is gone by now, and hooks would look for it.
    runner._resume, runner._load_from = False, None
    found = watch.validations()
    if not found and experiment.report == "val":
        runner.val()  # resumed behind its last step
        found = watch.validations()
    chosen: dict[str, Any] | None
    if experiment.select == "best" and found:
        chosen = max(found, key=lambda one: one["score"])  # of equal ones the first
        best = sorted(experiment.folder.glob("best_*.pth"), key=lambda p: p.stat().st_mtime)
        if best:
            weights = find_weights(read_checkpoint(best[-1]), best[-1])
            runner.model.load_state_dict(weights.tensors)
    else:
        chosen = found[-1] if found else None
    if experiment.report == "val":
        metrics = chosen["metrics"] if chosen else {}
    else:
        metrics = {k: float(v) for k, v in runner.test().items() if isinstance(v, Real)}
    return dict(
        metrics=metrics,
        score=score_of(metrics, task),
        selected=dict(step=chosen["step"], score=chosen["score"]) if chosen else None,
        validations=[dict(step=one["step"], score=one["score"]) for one in found],
    )
