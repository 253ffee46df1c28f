"""Training and testing a config."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import warnings
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import init_dist, is_distributed, is_main_process
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, RUNNERS
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmplugins.checkpoint import CheckpointError
from mmplugins.utils import WriteError, type_name

from .config.settings import SettingError
from .hooks.progress import ProgressHook, console_handlers
from .resume.divergence import FiniteLossHook
from .resume.interruption import raise_if_interrupted, signals_interrupt, start_worker
from .resume.occupation import end_with_launcher, only_training_in
from .resume.whole_checkpoints import once
from .work_dir import number_run

_LAUNCHERS = {
    "pytorch": ("RANK", "WORLD_SIZE"),
    "slurm": ("SLURM_PROCID", "SLURM_NTASKS"),
    "mpi": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
}
"""Where launchers say rank and number of processes."""

_OWN_TALK = (
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
    "The prefix is not set in metric class",
)

_DRAW_IS_OFF = "The draw is False"
"""mmseg's hook warns so wherever it is not asked to draw."""

_RESTARTS = ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")
"""Where torchrun and Slurm count how often they have started a training."""

_MISFITS = (
    ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError,
    ValueError,
)  # fmt: skip
"""What mmengine and torch raise over a file that is not what they take it for."""


@RUNNERS.register_module()
class ConsoleRunner(Runner):
    """A runner that logs all into the work dir's log file, and warnings only on the console.

    OpenMMLab's runner prints the whole config and environment before anything happens. The
    console belongs to :class:`ProgressHook`.
    """

    _experiment_name: str

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """As in :class:`mmengine.runner.Runner`, with a quiet console and a name of its own.

        OpenMMLab names a run by the second in which it starts. Of two in one second, the second
        would share the first one's logger and write into its work dir.
        """
        name, count = self._experiment_name, 1
        while MMLogger.check_instance_created(self._experiment_name):
            count += 1
            self._experiment_name = f"{name}_{count}"
        logger = super().build_logger(*args, **kwargs)
        for handler in console_handlers(logger):
            handler.setLevel(max(handler.level, logging.WARNING))
            handler.addFilter(_concerns_the_user)
        return logger

    @staticmethod
    def build_dataloader(dataloader: DataLoader | dict, *args: Any, **kwargs: Any) -> DataLoader:
        """As in :class:`mmengine.runner.Runner`, with workers that end quietly at SIGTERM."""
        loader = Runner.build_dataloader(dataloader, *args, **kwargs)
        if loader is not dataloader:
            loader.worker_init_fn = partial(start_worker, then=loader.worker_init_fn)
        return loader

    def load_or_resume(self) -> None:
        """As in :class:`mmengine.runner.Runner`; a file that does not fit is one sentence.

        Raises:
            CheckpointError: If it cannot be loaded or gone on from.
        """
        try:
            super().load_or_resume()
        except CheckpointError:
            raise
        except _MISFITS as error:
            reason = f"{type(error).__name__}: {str(error)[:300]}"
            raise CheckpointError(
                f"{self._load_from} does not fit this config ({reason}): take the config it was "
                "trained with, or another checkpoint"
            ) from error

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """As in :class:`mmengine.runner.Runner`; a signal that Python dropped ends it here."""
        raise_if_interrupted()
        super().call_hook(fn_name, **kwargs)


def _concerns_the_user(record: logging.LogRecord) -> bool:
    """Whether a warning is more than OpenMMLab's talk about its own code, left to the log file."""
    return not record.getMessage().startswith(_OWN_TALK)


def start_processes(cfg: Config) -> None:
    """Join the other processes of ``cfg.launcher``, if it has one and that has not been done."""
    if cfg.get("launcher", "none") != "none" and not is_distributed():
        end_with_launcher()
        init_dist(cfg.launcher, **cfg.get("env_cfg", {}).get("dist_cfg", {}))


def launched(launcher: str) -> tuple[int, int]:
    """Rank of this process and number of processes, before they join.

    Args:
        launcher: ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.
    """
    rank, count = _LAUNCHERS.get(launcher, ("", ""))
    return int(os.environ.get(rank, 0)), int(os.environ.get(count, 1))


def restarted() -> bool:
    """Whether a launcher started this process anew, after a failure or, on a cluster, elsewhere."""
    counts = (os.environ.get(name, "") for name in _RESTARTS)
    return any(count.isdigit() and int(count) for count in counts)


def build_runner(cfg: Config) -> Runner:
    """The runner of a config: its own ``runner_type``, else :class:`ConsoleRunner`."""
    start_processes(cfg)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", _DRAW_IS_OFF)
        return RUNNERS.build(cfg) if "runner_type" in cfg else ConsoleRunner.from_cfg(cfg)


def check_model(cfg: Config) -> None:
    """Build the model once and let it go, so that mistakes in it show before anything is written.

    Raises:
        SettingError: If a part is not registered or refuses its arguments.
    """
    with MODELS.switch_scope_and_registry(cfg.get("default_scope")) as models:
        try:
            models.build(deepcopy(cfg.model))  # detectors write into what they are built from
        except (AssertionError, KeyError, TypeError, ValueError) as error:
            reason = error.args[0] if error.args else f"{error!r}, tools/check.py says where"
            raise SettingError(f"model: {reason}") from error


def train(cfg: Config) -> Runner:
    """Train a config in its ``work_dir``; returns the runner afterwards.

    Raises:
        KeyboardInterrupt: If Ctrl-C or SIGTERM stops it; the checkpoints so far are whole.
        DivergedError: If losses or weights are no longer finite.
        SettingError: If another training is at work in the folder, or it cannot be written.
        WriteError: If a file cannot be written, or the folder was removed meanwhile.
    """
    start_processes(cfg)
    with contextlib.ExitStack() as held:
        once(lambda: held.enter_context(only_training_in(cfg.work_dir)) and None)
        runner = build_runner(cfg)
        if "finite_loss" not in (cfg.get("default_hooks") or {}):
            runner.register_hook(FiniteLossHook())
        if is_main_process():
            number_run(runner.log_dir)
        try:
            with signals_interrupt():
                runner.train()
        except FileNotFoundError as error:
            if Path(runner.log_dir).is_dir():
                raise
            raise WriteError(
                f"{runner.log_dir} was removed while the training wrote to it: start it again, or "
                "go on from a copy by --resume"
            ) from error
        finally:
            _leave_console(runner)
    return runner


def test(cfg: Config) -> tuple[Runner, dict[str, float]]:
    """Test ``cfg.load_from``; returns the runner and its metrics, as the evaluators name them.

    Raises:
        SettingError: If the work dir cannot be written.
    """
    cfg = without_averaging(cfg)
    require_writable(cfg.work_dir)
    # The config beside the checkpoint of a resumed training says so; testing never resumes.
    runner = build_runner(Config(dict(cfg, resume=False)) if cfg.get("resume") else cfg)
    # mmseg's drawing hook asks for the iteration, for which mmengine would build the training data.
    runner._train_loop = None
    try:
        return runner, runner.test()
    finally:
        _leave_console(runner)


def require_writable(work_dir: str) -> None:
    """Make a work dir if need be, and make sure that its logs can be written.

    Raises:
        SettingError: If not.
    """
    try:
        Path(work_dir).mkdir(parents=True, exist_ok=True)
        if not os.access(work_dir, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise SettingError(
            f"work dir {str(work_dir)!r} cannot be written ({error.strerror or error}): give "
            "another --work-dir"
        ) from error


def without_averaging(cfg: Config) -> Config:
    """A config for testing, without mmengine's ``EMAHook``.

    A checkpoint has the averaged weights in the place of the model's own, so that there is nothing
    left to do for the hook. It would test a copy of the model instead, which holds random weights
    if test-time augmentation wraps it, and other tensors if the model is brought to deployed form.
    """
    hooks = cfg.get("custom_hooks") or []
    kept = [hook for hook in hooks if type_name(hook) != "EMAHook"]
    if len(kept) == len(hooks):
        return cfg
    cfg = deepcopy(cfg)
    cfg.custom_hooks = kept
    return cfg


def _leave_console(runner: Runner) -> None:
    """Give the console back also when training was interrupted or failed."""
    for hook in runner.hooks:
        if isinstance(hook, ProgressHook):
            hook.close()
