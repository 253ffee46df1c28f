"""Reading weight files without running what may be hidden in them.

A ``.pth`` file is a pickle, and a pickle is a program. Here a file is looked at first (is it
weights at all, is it whole, does it claim more than it holds), then read by safetensors or by
torch's weights-only reader, which knows tensors, plain containers and what mmengine's own
checkpoints hold, and refuses the rest by name.
"""

from __future__ import annotations

import json
import pickle
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor

from mmplugins.compat.patches.checkpoints import allowed
from mmplugins.utils import few

from .archives import check_holes, check_legacy, check_zip, refuse_shards
from .errors import WAYS_OUT, CheckpointError, MissingCheckpointError, UnsafeCheckpointError
from .structure import StructureError, check_structure

_CHUNK = 1 << 22
"""Numbers that are looked at together, so that looking takes no memory."""

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""Dtypes in which weights may come; on loading they become those of the model."""

WHOLE_NUMBERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool)

_LEGACY_HEAD = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
"""torch's magic number as a pickle spells it, after the two bytes that name the protocol."""


def read_checkpoint(
    path: str | Path,
    allow_unsafe: bool = False,
    map_location: Any = "cpu",
    *,
    mapped: bool = False,
) -> dict[str, Any]:
    """Read a weight file, safetensors or PyTorch's, told apart by content and not by name.

    Args:
        path: A local file.
        allow_unsafe: Unpickle whatever the file asks for, which runs code of its author's
            choosing. Defaults to False.
        map_location: Device of the tensors, as in ``torch.load``. Defaults to ``'cpu'``.
        mapped: Leave the tensors of PyTorch's files on the disk until they are used; the file
            must stay as it is for so long. Defaults to False.

    Returns:
        What the file holds: a state dict, or a dict with one and other things beside it.

    Raises:
        MissingCheckpointError: If there is no such file; also a FileNotFoundError.
        UnsafeCheckpointError: If the file asks for a type outside the allow-list.
        CheckpointError: If it is empty, truncated, no weight file, or declares more data than it
            holds.
    """
    path = Path(path).expanduser()
    refuse_shards(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise MissingCheckpointError(f"{path} {what}: expected a weight file (.pth, .safetensors)")
    kind = sniff(path)
    check_holes(path)
    if kind == "safetensors":
        return _read_safetensors(path, map_location)
    if kind == "zip":
        check_zip(path)
    elif kind == "legacy":
        check_legacy(path)
    content = _read_torch(path, allow_unsafe, map_location, mapped and kind == "zip")
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path} holds one {type(content).__name__}: expected a state dict, or a dict with "
            "one. Save model.state_dict(), not the model itself"
        )
    if not allow_unsafe:
        try:
            check_structure(content, path.stat().st_size)
        except (StructureError, RecursionError) as error:
            raise UnsafeCheckpointError(
                f"{path} is no file of weights: {error}. Not used. {WAYS_OUT}"
            ) from error
    return dict(content) if type(content) is not dict else content


def sniff(path: Path) -> str:
    """Tell from its first bytes what a file is: ``'safetensors'``, ``'zip'`` or ``'legacy'``.

    Raises:
        CheckpointError: If it is none of them; web pages and Git LFS pointers are named.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:  # no right to read it, or a failing disk
        raise CheckpointError(f"{path} cannot be read ({error.strerror or error})") from error
    if not head:
        raise CheckpointError(f"{path} is empty: copy or download it again")
    if head.startswith(b"PK"):
        return "zip"
    if head[:1] == b"\x80" and head[2 : 2 + len(_LEGACY_HEAD)] == _LEGACY_HEAD:
        return "legacy"
    if len(head) > 8 and head[8:9] == b"{":
        length = struct.unpack("<Q", head[:8])[0]
        if length <= size - 8:
            return "safetensors"
        raise CheckpointError(
            f"{path} is a safetensors file cut short or damaged: its header claims {length:,} "
            f"bytes, the file has {size:,}. Copy or download it again"
        )
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise CheckpointError(
            f"{path} is a web page, not weights: the address it came from answered with a page "
            "(a login, an error, an expired host). Open it to see which; download the file again "
            "from another host"
        )
    if text.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            f"{path} is a Git LFS pointer of {size} bytes, not the weights: run `git lfs pull`, or "
            "download the file itself"
        )
    if head[:1] == b"\x80":
        raise CheckpointError(
            f"{path} is a pickle, but not one that torch.save wrote, or a file cut off after "
            f"{size:,} bytes: expected weights saved by torch.save or safetensors"
        )
    raise CheckpointError(
        f"{path} is no weight file (it begins with {head[:16]!r}): expected one written by "
        "torch.save or safetensors"
    )


def check_checksums(path: str | Path) -> None:
    """Compare the content of a file that ``torch.save`` wrote with the checksums in it.

    torch itself does not, and takes wrong bytes in the middle of a file for weights. Files of
    other kinds have no checksums and pass.

    Raises:
        CheckpointError: If the file cannot be read to its end, or a part is not what was written.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError) as error:
        damaged = str(error)
    if damaged:
        raise CheckpointError(
            f"{path} is damaged ({damaged}: checksum does not match). Copy or download it again"
        )


def check_tensors(state_dict: Mapping[str, Tensor], source: str | Path) -> None:
    """Make sure that tensors are what weights can be.

    Raises:
        CheckpointError: If a tensor is not dense, has a dtype that weights do not come in, claims
            more elements than it stores, or holds NaN or infinity; up to five keys are named.
    """
    problems: dict[str, list[str]] = {}
    for key, value in state_dict.items():
        problem = _problem(value)
        if problem:
            problems.setdefault(problem, []).append(key)
    if problems:
        named = (f"{what} in {few([str(k)[:80] for k in keys])}" for what, keys in problems.items())
        raise CheckpointError(f"{source}: {'; '.join(named)}")


def _problem(value: Tensor) -> str | None:
    if value.is_meta:
        return (
            "tensors of the meta device, which have shapes and no values (the model was saved "
            "before it was filled: load its weights or call to_empty() and initialise it, then "
            "save it again)"
        )
    if value.is_quantized or value.layout is not torch.strided:
        return "quantized or sparse tensors (expected dense ones: dequantize before saving)"
    if value.dtype not in FLOATS + WHOLE_NUMBERS:
        return (
            f"tensors of {value.dtype} (expected float32, float16, bfloat16, float64 or whole "
            "numbers: convert before saving)"
        )
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        return "tensors that declare more elements than they store (damaged or hostile file)"
    if value.is_floating_point() and not _is_finite(value):
        return (
            "NaN or infinite values (a diverged training or a damaged file: take an earlier "
            "checkpoint)"
        )
    return None


def _is_finite(value: Tensor) -> bool:
    flat = value.detach().flatten() if not value.is_contiguous() else value.detach().view(-1)
    return all(bool(torch.isfinite(part).all()) for part in flat.split(_CHUNK))


def _read_safetensors(path: Path, map_location: Any) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    try:
        tensors = load_file(path, device=str(map_location or "cpu"))
        with safe_open(path, "pt") as file:
            meta = (file.metadata() or {}).get("meta")  # as save_weights keeps it
        return tensors if meta is None else dict(state_dict=tensors, meta=json.loads(meta))
    except (SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{path} is a safetensors file cut short or damaged ({error}). Copy or download it "
            "again"
        ) from error


def _read_torch(path: Path, allow_unsafe: bool, map_location: Any, mapped: bool = False) -> Any:
    if allow_unsafe:
        print_log(f"{path} is read without protection, as asked: code in it runs", "current", 30)
    # At every call: a `safe_globals(...)` block of other code may have taken our entries away.
    torch.serialization.add_safe_globals(list(allowed()))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on pickle protocols and archives; we raise instead
            return torch.load(
                path, map_location=map_location, weights_only=not allow_unsafe, mmap=mapped
            )
    except pickle.UnpicklingError as error:
        raise _refusal(path, error) from error
    except MemoryError as error:
        raise CheckpointError(f"{path} asks for more memory than there is: not opened") from error
    except Exception as error:  # the reader fails in many ways on bytes that make no sense
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else '-'}"
        raise CheckpointError(
            f"{path} is cut short or damaged ({reason}). Copy or download it again"
        ) from error


def _refusal(path: Path, error: Exception) -> CheckpointError:
    if "unexpected EOF" in str(error):  # torch 2.4 says it so
        return CheckpointError(f"{path} is cut short or damaged. Copy or download it again")
    wanted = re.findall(r"GLOBAL (\S+)", str(error))
    asked = re.search(r"the file asks for [^\n]*|arrays of [^\n]*", str(error))
    if not wanted and asked is None:
        detail = str(error).strip().splitlines()
        reason = next((line for line in detail if "nsupported" in line or "Can only" in line), "")
        return UnsafeCheckpointError(
            f"{path} is pickled in a way that weights never are"
            f"{f' ({reason.strip()})' if reason else ''}: not opened. {WAYS_OUT}"
        )
    what = next(iter(wanted), asked[0] if asked else "")
    return UnsafeCheckpointError(
        f"{path} wants more than tensors: {what}. Opening it could run code, so it stays closed. "
        f"{WAYS_OUT}"
    )
