"""Writing weight files: aside first, then renamed, and never over an existing file unasked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmplugins.utils import written_aside

SUFFIXES = (".safetensors", ".pth", ".pt", ".tar")


def save_weights(
    tensors: Mapping[str, Tensor],
    path: str | Path,
    *,
    payload: str = "",
    metadata: Mapping[str, str] | None = None,
    meta: Mapping[str, Any] | None = None,
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
        meta: What mmengine keeps beside weights under this name (``dataset_meta``), of plain
            values. With it the file is read as a dict with ``state_dict`` and ``meta``.
        overwrite: Replace an existing file. Defaults to False.

    Returns:
        The path.

    Raises:
        ValueError: If the suffix is unknown.
        FileExistsError: If the file exists and ``overwrite`` is False.
    """
    path = check_target(path, overwrite)
    # Contiguous copies, each of its own memory: safetensors refuses views and shared storage.
    tensors = {key: value.detach().cpu().clone().contiguous() for key, value in tensors.items()}
    with written_aside(path) as aside:
        if path.suffix == ".safetensors":
            from safetensors.torch import save_file

            texts = dict(format="pt", **(metadata or {}))
            if meta is not None:
                texts["meta"] = json.dumps(meta)
            save_file(tensors, aside, metadata=texts)
        elif meta is not None:
            torch.save({payload or "state_dict": tensors, "meta": dict(meta)}, aside)
        else:
            torch.save({payload: tensors} if payload else tensors, aside)
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
