"""Checkpoints of a training: written whole or not at all, and read only if whole."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from mmplugins.checkpoint import (
    CheckpointError,
    check_checksums,
    check_tensors,
    read_checkpoint,
)
from mmplugins.utils import PARTIAL, write_whole

POINTER = "last_checkpoint"
"""mmengine's file in a work dir that names the checkpoint to go on from."""

_NUMBERED = re.compile(r"(.*?)(\d+)")


class WholeFileBackend(LocalBackend):
    """mmengine's local files, written by :func:`mmplugins.checkpoint.write_whole`."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes."""
        write_whole(filepath, obj)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = "utf-8") -> None:
        """Write text."""
        write_whole(filepath, obj.encode(encoding))


register_backend("mmplugins.whole", WholeFileBackend, force=True)


@HOOKS.register_module(name="CheckpointHook", force=True)
class WholeCheckpointHook(CheckpointHook):
    """mmengine's hook with all its arguments and its name, safe against interruption.

    A checkpoint, and the file ``last_checkpoint``, is written aside, forced to disk and renamed.
    What ``max_keep_ckpts`` and ``save_best`` retire is removed after the new file is there, not
    before. ``resume`` goes on from the newest checkpoint that is whole.
    """

    def before_run(self, runner: Runner) -> None:
        """Choose the checkpoint to go on from, or check the one that was given."""
        if not runner._resume:
            return
        if runner._load_from is None:
            chosen = _once(lambda: latest_resumable(runner.work_dir))
            if chosen is None:
                runner.logger.warning(
                    f"{runner.work_dir} holds no checkpoint: the training starts at its beginning"
                )
            runner._load_from = None if chosen is None else str(chosen)
        elif "://" not in str(runner._load_from):
            _once(lambda: check_resumable(Path(runner._load_from)))

    def before_train(self, runner: Runner) -> None:
        """Find the folder to write to, and clear it of what a killed run left half."""
        if self.backend_args is None and "://" not in str(self.out_dir or runner.work_dir):
            self.backend_args = dict(backend="mmplugins.whole")
        super().before_train(runner)
        self.file_backend = _LateRemoval(self.file_backend)
        if is_main_process() and Path(self.out_dir).is_dir():
            for left in Path(self.out_dir).glob(f".*{PARTIAL}"):
                left.unlink(missing_ok=True)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        """Write a numbered checkpoint, then the pointer to it, then remove what it replaces."""
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            if len(self.keep_ckpt_ids) == self.max_keep_ckpts and is_main_process():
                self.file_backend.remove(self._path(self.keep_ckpt_ids[0]))
            self.keep_ckpt_ids.append(step)  # the oldest falls out at the other end
            runner.message_hub.update_info("keep_ckpt_ids", list(self.keep_ckpt_ids))
        self.last_ckpt = self._path(step)
        runner.message_hub.update_info("last_ckpt", self.last_ckpt)
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
            write_whole(Path(runner.work_dir) / POINTER, self.last_ckpt)
            self.file_backend.remove_now()

    def _save_best_checkpoint(self, runner: Runner, metrics: dict[str, float]) -> None:
        super()._save_best_checkpoint(runner, metrics)
        if is_main_process():
            self.file_backend.remove_now()

    def _path(self, step: int) -> str:
        return self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(step))


class _LateRemoval:
    """A file backend that removes files when told to, after their successor was written."""

    def __init__(self, backend: Any):
        self._backend = backend
        self._retired: list[tuple[Callable[[str], None], str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def remove(self, path: str) -> None:
        self._retired.append((self._backend.remove, path))

    def rmtree(self, path: str) -> None:
        self._retired.append((self._backend.rmtree, path))

    def remove_now(self) -> None:
        """Remove what was retired, if it is still there."""
        while self._retired:
            remove, path = self._retired.pop(0)
            if self._backend.exists(path):
                remove(path)


def latest_resumable(work_dir: str | Path) -> Path | None:
    """The newest checkpoint of a training that can be gone on from.

    Args:
        work_dir: Of the training.

    Returns:
        The file, or None if there is none at all.

    Raises:
        CheckpointError: If there are some, and none can be used; all reasons are named.
    """
    reasons = []
    for path in resumable_files(work_dir):
        try:
            check_resumable(path)
        except (CheckpointError, OSError) as error:
            reasons.append(str(error))
            continue
        for reason in reasons:
            print_log(f"Passed over: {reason}. Going on from {path}", "current", logging.WARNING)
        return path
    if reasons:
        raise CheckpointError(
            f"{work_dir} holds no checkpoint that can be gone on from:\n  "
            + "\n  ".join(reasons)
            + "\nName another file by --resume FILE, or start anew by --overwrite"
        )
    return None


def resumable_files(work_dir: str | Path) -> list[Path]:
    """Checkpoints of a work dir from which to go on, newest first, unread.

    The one that ``last_checkpoint`` names is the first; best checkpoints lack the optimiser and are
    left out. Numbers in names go before dates, which copies do not keep.
    """
    work_dir, named = Path(work_dir), None
    pointer = work_dir / POINTER
    if pointer.is_file():
        text = pointer.read_text(encoding="utf-8", errors="replace").strip("\0 \r\n")
        named = Path(text) if text else None
        if named and not named.is_file() and (work_dir / named.name).is_file():
            named = work_dir / named.name  # the work dir was moved
    folders = dict.fromkeys([*([named.parent] if named else []), work_dir])
    files = {
        path.resolve(): path
        for folder in folders
        for path in folder.glob("*.pth")
        if not path.name.startswith(("best_", "."))
    }
    kinds = {path: _NUMBERED.fullmatch(path.stem) for path in files.values()}
    numbered = all(kinds.values()) and len({kind[1] for kind in kinds.values()}) == 1
    order = sorted(
        files.values(),
        key=lambda path: int(kinds[path][2]) if numbered else path.stat().st_mtime,
        reverse=True,
    )
    if named is None:
        return order
    return [named, *(path for path in order if path.resolve() != named.resolve())]


def check_resumable(path: str | Path) -> None:
    """Make sure that a training can go on from a file.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If it is not whole, holds NaN or infinite weights, or is no checkpoint of
            a training.
    """
    content = read_checkpoint(path)
    check_checksums(path)
    absent = [key for key in ("meta", "state_dict", "message_hub") if key not in content]
    absent += [key for key in ("epoch", "iter") if key not in content.get("meta", {})]
    if absent:
        raise CheckpointError(
            f"{path} is no checkpoint of a training (it lacks {', '.join(absent)}): to start a new "
            "training from its weights, use load_from"
        )
    for key in ("state_dict", "ema_state_dict"):
        weights = content.get(key, {})
        check_tensors({k: v for k, v in weights.items() if isinstance(v, torch.Tensor)}, path)


def _once(function: Callable[[], Any]) -> Any:
    """Call a function in the main process; all processes get its result or its error."""
    answer: list[Any] = [None, None]
    if is_main_process():
        try:
            answer[0] = function()
        except (CheckpointError, OSError) as error:
            answer[1] = error
    broadcast_object_list(answer)
    if answer[1] is not None:
        raise answer[1]
    return answer[0]
