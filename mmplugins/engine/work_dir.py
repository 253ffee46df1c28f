"""A work dir holds one training. A second one goes elsewhere, goes on with it, or moves it aside.

OpenMMLab writes ``epoch_1.pth`` over an older ``epoch_1.pth`` without a word.
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from mmengine.config import Config

from mmplugins.utils import write_whole

from .config.settings import SettingError
from .resume.occupation import refuse_in_use
from .resume.training_folder import POINTER, resumable_files


def checkpoints_in(work_dir: str | os.PathLike) -> list[Path]:
    """Checkpoints directly in a work dir, oldest first; none if there is no such folder."""
    return sorted(Path(work_dir).glob("*.pth"), key=lambda path: path.stat().st_mtime)


def last_checkpoint(work_dir: str | os.PathLike) -> Path:
    """The checkpoint that was written last; those of the best scores do not count.

    Raises:
        FileNotFoundError: If the work dir holds none.
    """
    found = resumable_files(work_dir)
    if not found:
        raise FileNotFoundError(f"{work_dir} holds no checkpoint: train first")
    return found[0]


def refuse_used(work_dir: str | os.PathLike, resume: bool = False) -> None:
    """Stop if a training would start anew over the checkpoints of an old one.

    Args:
        work_dir: Where the training is to go.
        resume: Whether it goes on from a checkpoint there, or moves the old training aside.

    Raises:
        SettingError: If the work dir holds checkpoints and is not to be gone on with, is in use, or
            is no folder that can be written to.
    """
    folder = Path(work_dir)
    if folder.exists() and not folder.is_dir():
        raise SettingError(f"work dir {str(folder)!r} is a file: give another --work-dir")
    if (folder / POINTER).is_dir():
        raise SettingError(
            f"{folder / POINTER} is a folder: expected mmengine's file of that name; remove it"
        )
    refuse_in_use(folder)
    found = checkpoints_in(work_dir)
    if not found or resume:
        return
    raise SettingError(
        f"work dir {str(work_dir)!r} holds {len(found)} checkpoint(s) of an earlier training "
        f"(last: {found[-1].name}), and nothing is overwritten: go on with it by --resume, "
        "give another --work-dir, or move it aside by --overwrite"
    )


def goes_on(cfg: Config) -> bool:
    """Whether a config goes on with the training of its own work dir, from whichever checkpoint.

    From a checkpoint of another folder it is a new training here, and takes a folder of its own.
    """
    source = cfg.get("load_from")
    if not cfg.get("resume") or not source:
        return bool(cfg.get("resume"))
    return Path(source).resolve().parent == Path(cfg.work_dir).resolve()


def move_aside(work_dir: str | os.PathLike) -> Path | None:
    """Rename a work dir that is not empty to ``<name>.old-<date>-<time>``.

    Returns:
        Its new place, or None if there was nothing to move.
    """
    work_dir = Path(work_dir)
    if not work_dir.is_dir() or not any(work_dir.iterdir()):
        return None
    stem = f"{work_dir.name}.old-{datetime.now():%Y%m%d-%H%M%S}"
    aside, count = work_dir.with_name(stem), 1
    while aside.exists():
        count += 1
        aside = work_dir.with_name(f"{stem}-{count}")
    work_dir.rename(aside)
    return aside


def number_run(log_dir: str | os.PathLike) -> None:
    """Number the folder of a run's logs within its work dir; clocks do not tell their order."""
    folder = Path(log_dir)
    from mmplugins.visualization.training_curves import RUN, run_number  # brings matplotlib

    if folder.is_dir() and not (folder / RUN).exists():
        before = [run_number(other) for other in folder.parent.iterdir() if other.is_dir()]
        write_whole(folder / RUN, str(1 + max(before, default=0)))
