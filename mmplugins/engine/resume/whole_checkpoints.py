"""Checkpoints of a training: written whole or not at all, readable, and only the own ones removed.

Which of them a training goes on from is decided in :mod:`.training_folder`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.optim import ZeroRedundancyOptimizer
from mmengine.registry import HOOKS
from mmengine.runner import BaseLoop, Runner

from mmplugins.checkpoint import CheckpointError, read_checkpoint, resolve
from mmplugins.checkpoint.sources import is_resolvable
from mmplugins.checkpoint.training_schema import check_training
from mmplugins.utils import PARTIAL, WriteError, write_whole, written_aside

from ..config.settings import SettingError
from .divergence import require_finite
from .fitting import check_fits
from .readable import readable
from .training_folder import (
    POINTER,
    SUFFIXES,
    check_resumable,
    check_template,
    is_own_name,
    latest_resumable,
)

RETIRED = "retired_ckpts"
"""Where a checkpoint names the files that it replaces: a kill may leave them for the next run."""

_PARTIAL = re.compile(rf"\.(.+)\.\d+\{PARTIAL}")


class WholeFileBackend(LocalBackend):
    """mmengine's local files, written aside and renamed; checkpoints only if they can be read."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes."""
        with written_aside(filepath) as aside:
            aside.write_bytes(obj)
            if str(filepath).endswith(SUFFIXES):
                try:
                    read_checkpoint(aside, mapped=True)
                except CheckpointError as error:
                    raise WriteError(f"it could not be read back: {error}") from error

    def put_text(self, obj: str, filepath: str | Path, encoding: str = "utf-8") -> None:
        """Write text."""
        write_whole(filepath, obj.encode(encoding))


register_backend("mmplugins.whole", WholeFileBackend, force=True)


@HOOKS.register_module(name="CheckpointHook", force=True)
class WholeCheckpointHook(CheckpointHook):
    """mmengine's hook with all its arguments and its name, safe against interruption.

    A checkpoint, and the file ``last_checkpoint``, is written aside, read back, forced to disk and
    renamed. What ``max_keep_ckpts`` and ``save_best`` retire is removed after the new file is
    there, not before; what a killed run left is removed by the next one. No file is removed but
    those that this training wrote, directly in its own folder: paths that a checkpoint names are
    never followed. Weights that are not finite are not written, so a finite checkpoint stays.
    ``resume`` goes on from the newest checkpoint that is whole.

    Raises:
        ValueError: If ``filename_tmpl`` gives no name of its own to every step.
    """

    backend_args: dict[str, Any] | None
    file_backend: Any

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        check_template(self.filename_tmpl)

    def before_run(self, runner: Runner) -> None:
        """Choose the checkpoint to go on from, or check the one that was given."""
        if not runner._resume:
            return
        if runner._load_from is None:
            folder = self._folder(runner)
            chosen = once(lambda: latest_resumable(folder)) if "://" not in folder else None
            if chosen is None:
                runner.logger.warning(
                    f"{folder} holds no checkpoint: the training starts at its beginning"
                )
                runner._resume = False  # mmengine would follow the path in last_checkpoint
            runner._load_from = None if chosen is None else str(chosen)
        elif is_resolvable(runner._load_from) and not Path(runner._load_from).is_dir():
            once(lambda: check_resumable(resolve(runner._load_from)))

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Make sure, before anything goes on from it, that its states are this training's."""
        if runner._resume and isinstance(runner._train_loop, BaseLoop):
            check_training(checkpoint, str(runner._load_from))
            check_fits(runner, checkpoint)

    def before_train(self, runner: Runner) -> None:
        """Find the folder to write to, and clear it of what a killed run left."""
        _refuse_sharded(runner.optim_wrapper, self.save_optimizer)
        folder = self._folder(runner)
        local = "://" not in folder
        if self.backend_args is None and self.file_client_args is None and local:
            self.backend_args = dict(backend="mmplugins.whole")
        left = self._own_files(runner, folder)
        super().before_train(runner)
        self.file_backend = _LateRemoval(self.file_backend, self.out_dir, self.filename_tmpl)
        if is_main_process() and local:
            _clear(Path(self.out_dir), left, self.filename_tmpl, runner)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        """Write a numbered checkpoint, then the pointer to it, then remove what it replaces."""
        require_finite(runner)
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            if len(self.keep_ckpt_ids) == self.max_keep_ckpts and is_main_process():
                self.file_backend.remove(self._path(self.keep_ckpt_ids[0]))
            self.keep_ckpt_ids.append(step)  # the oldest falls out at the other end
            runner.message_hub.update_info("keep_ckpt_ids", list(self.keep_ckpt_ids))
        self.last_ckpt = self._path(step)
        runner.message_hub.update_info("last_ckpt", self.last_ckpt)
        runner.message_hub.update_info(RETIRED, self.file_backend.retired_names)
        runner.save_checkpoint(
            self.out_dir,
            self.filename_tmpl.format(step),
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if is_main_process():
            write_whole(Path(runner.work_dir) / POINTER, self.filename_tmpl.format(step))
            self.file_backend.remove_now(but=self._named(runner))

    def _save_best_checkpoint(self, runner: Runner, metrics: dict[str, float]) -> None:
        if not self.save_best:
            return
        require_finite(runner)
        super()._save_best_checkpoint(runner, metrics)
        if is_main_process():
            self.file_backend.remove_now(but=self._named(runner))

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Leave out what could not be read back, above all what is no data."""
        kept, left_out = readable(checkpoint)
        for key in list(checkpoint):
            if key in kept:
                checkpoint[key] = kept[key]
            else:
                del checkpoint[key]
        for place in left_out:
            runner.logger.warning(f"Not in the checkpoint, as it could not be read back: {place}")

    def _path(self, step: int) -> str:
        return self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(step))

    def _folder(self, runner: Runner) -> str:
        """Where mmengine's hook will write to: below ``out_dir`` if that is not the work dir."""
        if self.out_dir is None or str(self.out_dir) == str(runner.work_dir):
            return str(runner.work_dir)
        return f"{str(self.out_dir).rstrip('/')}/{Path(runner.work_dir).name}"

    def _own_files(self, runner: Runner, folder: str) -> list[str]:
        """Reduce the paths in a checkpoint to names of files that this training wrote.

        Args:
            runner: Its message hub, as the checkpoint left it, is changed in place.
            folder: Where this training writes to; another folder's files are not ours.

        Returns:
            Names of files that are no longer wanted: the checkpoint has replaced them, or
            ``max_keep_ckpts`` is lower now.
        """
        info, own = runner.message_hub.runtime_info, _continues(runner, folder)
        for key in [key for key in info if str(key).startswith("best_ckpt")]:
            name = _name(info[key])
            if own and name.startswith("best_") and is_own_name(name, self.filename_tmpl):
                info[key] = f"{folder.rstrip('/')}/{name}"
            else:
                del info[key]
        ids, left = info.pop("keep_ckpt_ids", None), info.pop(RETIRED, None)
        if not own:
            return []
        done = runner.epoch if self.by_epoch else runner.iter
        given = ids if isinstance(ids, list) else []
        steps = [step for step in given if type(step) is int and 0 <= step <= done]
        kept = steps[-self.max_keep_ckpts :] if self.max_keep_ckpts > 0 else steps
        info["keep_ckpt_ids"] = kept
        names = [self.filename_tmpl.format(step) for step in steps[: len(steps) - len(kept)]]
        names += left if isinstance(left, list) else []
        wanted = self._named(runner)
        return [n for n in names if is_own_name(n, self.filename_tmpl) and n not in wanted]

    def _named(self, runner: Runner) -> set[str]:
        """Names of the checkpoints that this training has now, as far as it counts them."""
        info = runner.message_hub.runtime_info
        names = {self.filename_tmpl.format(step) for step in info.get("keep_ckpt_ids", [])}
        return names | {_name(v) for key, v in info.items() if str(key).startswith("best_ckpt")}


class _LateRemoval:
    """A file backend that removes checkpoints when told to, after their successor was written.

    Args:
        backend: mmengine's.
        folder: Of the training; nothing outside of it is removed.
        template: ``filename_tmpl``; nothing with another name is removed.
    """

    def __init__(self, backend: Any, folder: str, template: str):
        self._backend, self._folder, self._template = backend, str(folder), template
        self._retired: list[tuple[Callable[[str], None], str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    @property
    def retired_names(self) -> list[str]:
        """Names of the files that will be removed next."""
        return [_name(path) for _, path in self._retired]

    def remove(self, path: str) -> None:
        self._retire(self._backend.remove, path)

    def isdir(self, path: str) -> bool:
        """Nothing that this hook has written is a folder; whose it is, and why, is not known."""
        return False

    def _retire(self, remove: Callable[[str], None], path: str) -> None:
        own = self._backend.join_path(self._folder, _name(path)) == str(path)
        if own and is_own_name(_name(path), self._template):
            self._retired.append((remove, str(path)))

    def remove_now(self, but: set[str]) -> None:
        """Remove what was retired, if it is still there and no name in ``but``."""
        while self._retired:
            remove, path = self._retired.pop(0)
            if _name(path) not in but and self._backend.isfile(path):
                remove(path)


def _refuse_sharded(wrapper: Any, saved: bool) -> None:
    """Refuse an optimiser whose state lies in several processes.

    mmengine gathers it in the main process alone, which then waits for the others for ever.
    """
    if saved and isinstance(getattr(wrapper, "optimizer", None), ZeroRedundancyOptimizer):
        raise SettingError(
            "optim_wrapper.optimizer.type='ZeroRedundancyOptimizer': mmengine hangs as it writes "
            "its state into a checkpoint. Take its optimizer_type as type, or go without the state "
            "and without --resume: default_hooks.checkpoint.save_optimizer=False"
        )


def _continues(runner: Runner, folder: str) -> bool:
    """Whether this run goes on from a checkpoint of its own folder."""
    source = str(runner._load_from or "")
    if not runner._resume or not source:
        return False
    if "://" in folder or "://" in source:
        return source.rpartition("/")[0] == folder.rstrip("/")
    return Path(source).resolve().parent == Path(folder).resolve()


def _clear(folder: Path, left: list[str], template: str, runner: Runner) -> None:
    """Remove half-written checkpoints, and whole ones that were replaced before a kill."""
    resumed = Path(runner._load_from).name if runner._load_from else ""
    for path in folder.iterdir() if folder.is_dir() else ():
        half = _PARTIAL.fullmatch(path.name)
        if half and (half[1] == POINTER or is_own_name(half[1], template)):
            path.unlink(missing_ok=True)
        elif path.name in left and path.name != resumed and path.is_file():
            path.unlink(missing_ok=True)
            runner.logger.info(f"Removed {path}: replaced before the last run was stopped")


def _name(path: object) -> str:
    return path.rpartition("/")[2] if isinstance(path, str) else ""


def once(function: Callable[[], Any]) -> Any:
    """Call a function in the main process; all processes get its result or its error."""
    answer: list[Any] = [None, None]
    if is_main_process():
        try:
            answer[0] = function()
        except (CheckpointError, SettingError, OSError) as error:
            answer[1] = error
    broadcast_object_list(answer)
    if answer[1] is not None:
        raise answer[1]
    return answer[0]
