"""Writing weight files: aside first, then renamed, and never over an existing file unasked."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

SUFFIXES = (".safetensors", ".pth", ".pt", ".tar")

PARTIAL = ".partial"
"""Ending of files that are being written; what is left of them belongs to a run that was killed."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class WriteError(OSError):
    """A file that could not be written; nothing half is left, and what was there before stays."""


def write_whole(path: str | Path, data: bytes | str) -> Path:
    """Write a file so that, whatever happens, it is there whole or as it was before.

    The data go to a hidden file beside it, are forced to the disk, and take the name last.

    Args:
        path: Where to; an existing file is replaced, folders are made.
        data: Its content; text is written as UTF-8.

    Returns:
        The path.

    Raises:
        WriteError: If it cannot be written; a full disk is named as such.
    """
    path = Path(path)
    data = data.encode() if isinstance(data, str) else data
    aside = path.with_name(f".{path.name}{PARTIAL}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
        _sync_folder(path.parent)
    except OSError as error:
        aside.unlink(missing_ok=True)
        if error.errno in _FULL:
            free = shutil.disk_usage(path.parent).free
            raise WriteError(
                error.errno,
                f"{path} was not written, the disk or quota is full: it needs "
                f"{len(data) / 2**20:.1f} MB, {free / 2**20:.1f} MB are free. Free some space "
                "(checkpoints: default_hooks.checkpoint.max_keep_ckpts=2), or write elsewhere",
            ) from error
        raise WriteError(error.errno, f"{path} was not written: {error}") from error
    return path


def _sync_folder(folder: Path) -> None:
    """Force the names in a folder to the disk, on systems where folders can be opened."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows
        return
    try:
        os.fsync(handle)
    except OSError:  # file systems that cannot
        pass
    finally:
        os.close(handle)


def save_weights(
    tensors: Mapping[str, Tensor],
    path: str | Path,
    *,
    payload: str = "",
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a state dict.

    Args:
        tensors: By key.
        path: Where to; ``.safetensors`` selects that format, ``.pth``, ``.pt`` and ``.pth.tar``
            PyTorch's.
        payload: Key under which PyTorch's file holds the dict, or ``''`` for a bare one. Has no
            meaning for safetensors, which hold tensors only.
        metadata: Strings to keep beside the tensors; safetensors only.
        overwrite: Replace an existing file. Defaults to False.

    Returns:
        The path.

    Raises:
        ValueError: If the suffix is unknown.
        FileExistsError: If the file exists and ``overwrite`` is False.
    """
    path = check_target(path, overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Contiguous copies, each of its own memory: safetensors refuses views and shared storage.
    tensors = {key: value.detach().cpu().clone().contiguous() for key, value in tensors.items()}
    handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import save_file

            save_file(tensors, aside, metadata=dict(format="pt", **(metadata or {})))
        else:
            torch.save({payload: tensors} if payload else tensors, aside)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(aside, 0o666 & ~mask)  # mkstemp lets only its owner read
        os.replace(aside, path)
    finally:
        Path(aside).unlink(missing_ok=True)
    return path


def check_target(path: str | Path, overwrite: bool = False) -> Path:
    """The path to write to, if writing there is allowed; for arguments and errors see above."""
    path = Path(path).expanduser()
    if path.suffix not in SUFFIXES:
        raise ValueError(
            f"{path}: unknown kind of weight file {path.suffix!r}: expected one of "
            f"{', '.join(SUFFIXES)}"
        )
    if path.exists() and not overwrite:
        raise FileExistsError(
            f"{path} exists: choose another name, or ask for it to be replaced (overwrite=True, "
            "--overwrite)"
        )
    return path
