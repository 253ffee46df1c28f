"""Which files of a work dir a training can go on from, and which it wrote itself."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

from mmengine.logging import print_log

from mmplugins.checkpoint import (
    CheckpointError,
    check_checksums,
    read_checkpoint,
    refuse_shards,
)
from mmplugins.checkpoint.training_schema import check_training

POINTER = "last_checkpoint"
"""mmengine's file in a work dir that names the checkpoint to go on from; here a name only."""

SUFFIXES = (".pth", ".pt", ".ckpt")
"""Of checkpoints, whatever ``filename_tmpl`` says before them."""

_NUMBERED = re.compile(r"(.*?)(\d+)")
_BEST = "best_"


def check_template(template: str) -> None:
    """Make sure that every checkpoint of a training has a name of its own.

    Args:
        template: ``filename_tmpl`` of the checkpoint hook.

    Raises:
        ValueError: If the names are the same for different steps, so that ``max_keep_ckpts`` would
            remove the file just written; or if they would not be found again.
    """
    expected = "expected a name with one {} for the epoch or iteration, like 'epoch_{}.pth'"
    try:
        names = {template.format(step) for step in range(1, 33)}
    except (AttributeError, IndexError, KeyError, ValueError) as error:
        raise ValueError(
            f"filename_tmpl={template!r} takes no number ({type(error).__name__}: {error}): "
            f"{expected}"
        ) from error
    if len(names) < 32:
        raise ValueError(
            f"filename_tmpl={template!r} gives several steps one name: each checkpoint would "
            f"replace the one before, and be removed with it; {expected}"
        )
    name = min(names)
    if not name.endswith(SUFFIXES) or name.startswith((".", _BEST)) or Path(name).name != name:
        raise ValueError(
            f"filename_tmpl={template!r} gives names like {name!r}, which --resume would not find: "
            f"{expected}; without folders, not beginning with '.' or '{_BEST}', and ending in one "
            f"of {', '.join(SUFFIXES)}"
        )


def is_own_name(name: object, template: str) -> bool:
    """Whether a checkpoint hook with this template may have given a file this name.

    Args:
        name: Of a file, as it may stand in a checkpoint: of any type.
        template: ``filename_tmpl`` of the hook.
    """
    if not isinstance(name, str) or len(name) > 255 or os.path.basename(name) != name:
        return False
    numbered = {template.format(int(digits)) for digits in re.findall(r"\d{1,18}", name)}
    return any(name == n or (name.startswith(_BEST) and name.endswith(f"_{n}")) for n in numbered)


def latest_resumable(work_dir: str | Path) -> Path | None:
    """The newest checkpoint of a training that can be gone on from.

    Args:
        work_dir: Of the training, or the folder in it that its checkpoints are in.

    Returns:
        The file, or None if there is none at all.

    Raises:
        CheckpointError: If there are some, and none can be used; all reasons are named.
    """
    named = _named(Path(work_dir))
    lost = named and not (Path(work_dir) / named).exists()
    reasons = [f"{named}, which {POINTER} names, does not exist"] if lost else []
    reasons += _shards_in(Path(work_dir))
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


def resumable_files(work_dir: str | os.PathLike) -> list[Path]:
    """Checkpoints of a work dir from which to go on, newest first, unread.

    Only what lies in the folder itself counts, so a copied, moved or renamed one goes on with its
    own files. The one that ``last_checkpoint`` names is the first; best checkpoints lack the
    optimiser and are left out. Numbers in names go before dates, which neither copies nor clocks
    keep.
    """
    work_dir = Path(work_dir)
    found = [
        path
        for path in (work_dir.iterdir() if work_dir.is_dir() else ())
        if path.suffix in SUFFIXES and not path.name.startswith((_BEST, ".")) and path.is_file()
    ]
    kinds = {path: _NUMBERED.fullmatch(path.stem) for path in found}
    series = {kind[1] for kind in kinds.values() if kind}

    def age(path: Path) -> tuple[bool, int, float]:
        kind = kinds[path]
        number = int(kind[2]) if kind and len(series) == 1 else 0
        return bool(kind), number, path.stat().st_mtime

    found.sort(key=age, reverse=True)
    named = _named(work_dir)
    return sorted(found, key=lambda path: path.name != named)


def _shards_in(work_dir: Path) -> list[str]:
    """What is said of the folders of a work dir that are checkpoints in shards."""
    found = []
    for folder in sorted(work_dir.iterdir()) if work_dir.is_dir() else ():
        try:
            if folder.is_dir():
                refuse_shards(folder)
        except CheckpointError as error:
            found.append(str(error))
    return found


def _named(work_dir: Path) -> str:
    """The name in ``last_checkpoint``; older versions and mmengine write a path, elsewhere now."""
    try:
        with (work_dir / POINTER).open("rb") as file:
            text = file.read(4096).decode("utf-8", errors="replace")
    except OSError:  # missing, a folder, or no right to read it
        return ""
    return text.strip("\0 \r\n").replace("\\", "/").rpartition("/")[2]


def check_resumable(path: str | Path) -> None:
    """Make sure that a training can go on from a file.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If it is not whole, holds NaN or infinite weights, or is no checkpoint of
            a training.
    """
    content = read_checkpoint(path, mapped=True)
    check_checksums(path)
    check_training(content, path)
