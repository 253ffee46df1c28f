"""Weight files before they are opened: whole, in one piece, no larger inside than outside."""

from __future__ import annotations

import os
import pickletools
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from mmplugins.utils import few

from .errors import WAYS_OUT, CheckpointError, UnsafeCheckpointError
from .structure import StructureError, check_instructions


def refuse_shards(path: str | Path) -> None:
    """Refuse a checkpoint in shards (a folder of files, or one of them), and say how to join it.

    Raises:
        CheckpointError: If it is one of torch, of mmengine's FSDP strategy, or of DeepSpeed.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    try:
        names = {entry.name for entry in folder.iterdir()} if path.is_dir() else {path.name}
    except OSError:  # no right to read it
        return
    if ".metadata" in names or any(name.endswith(".distcp") for name in names):
        way = (
            "torch.distributed.checkpoint: if it is your own, join it by `python -m "
            f"torch.distributed.checkpoint.format_utils dcp_to_torch {folder} OUT.pth`"
        )
    elif "zero_to_fp32.py" in names or any("mp_rank_" in name for name in names):
        way = "DeepSpeed: if it is your own, join its weights by the zero_to_fp32.py beside them"
    elif path.is_dir() and "rank0.pth" in names:
        way = (
            "mmengine's FSDPStrategy: write it in one file, strategy.state_dict_cfg='full', or "
            "load it once by that strategy and save the model's state_dict"
        )
    else:
        return
    raise CheckpointError(f"{path} is a checkpoint in shards, which are not read here, of {way}")


def check_holes(path: Path) -> None:
    """Refuse a large file that is mostly holes: it would take memory that it does not have."""
    size, held = path.stat().st_size, 0
    if size < 1 << 28 or not hasattr(os, "SEEK_HOLE"):
        return
    with path.open("rb") as file:
        at = 0
        while at < size:
            try:
                begin = os.lseek(file.fileno(), at, os.SEEK_DATA)
                at = os.lseek(file.fileno(), begin, os.SEEK_HOLE)
            except OSError:  # no more data, or a file system that does not know
                break
            held += at - begin
    if 0 < held < size // 2:
        raise CheckpointError(
            f"{path} is mostly holes: {held:,} bytes in a file of {size:,} (a download or copy "
            "that broke off, or a hostile file). Copy or download it again"
        )


def check_zip(path: Path) -> None:
    """Refuse a torch archive that is cut short or would unpack to more than its own size."""
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            declared = sum(entry.file_size for entry in archive.infolist())
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise CheckpointError(
            f"{path} is cut short or damaged ({error}; it has {size:,} bytes). Copy or download it "
            "again"
        ) from error
    if any("/code/" in name for name in names):
        raise UnsafeCheckpointError(
            f"{path} is a TorchScript program, not weights: save model.state_dict() instead"
        )
    if declared > size:
        raise CheckpointError(
            f"{path} declares {declared:,} bytes of content in a file of {size:,}: torch.save does "
            "not compress, so this is a zip bomb or no weight file. Not opened"
        )
    pickles = [name for name in names if name.endswith("data.pkl")]
    if not pickles:
        raise CheckpointError(
            f"{path} is a zip archive without weights (it holds {few(names, 3)}): unpack it "
            "and give the weight file inside"
        )
    try:  # torch 2.4 would read beyond the end of a record
        with zipfile.ZipFile(path) as archive, archive.open(pickles[0]) as file:
            _check_elements(path, file)
    except (zipfile.BadZipFile, UnicodeDecodeError, RuntimeError) as error:  # the last: encrypted
        raise CheckpointError(
            f"{path} is damaged or no file of torch.save ({error}). Copy or download it again"
        ) from error


def check_legacy(path: Path) -> None:
    """Refuse a file of torch < 1.6 whose tensors would be larger than the file."""
    with path.open("rb") as file:
        _check_elements(path, file, before=3)  # magic number, protocol, machine


def _check_elements(path: Path, file: IO[bytes], before: int = 0) -> None:
    """Refuse a file whose pickle names storages of more elements than the file has bytes.

    Args:
        path: The file.
        file: Where its pickles are read from.
        before: Pickles that come first.
    """
    size = path.stat().st_size
    try:
        for _ in range(before):
            check_instructions(file, size)
        begin = file.tell()
        check_instructions(file, size)
        file.seek(begin)
        declared = sum(dict(_declared_storages(file)).values())
    except StructureError as error:
        raise UnsafeCheckpointError(
            f"{path} is no file of weights: {error}. Not opened. {WAYS_OUT}"
        ) from error
    except _GARBLED as error:
        raise CheckpointError(
            f"{path} is cut short or damaged ({error}). Copy or download it again"
        ) from error
    if declared > size:
        raise CheckpointError(
            f"{path} declares tensors of {declared:,} elements in a file of {size:,} bytes: "
            "damaged or hostile. Not opened"
        )


_GARBLED = (
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    zipfile.BadZipFile,
    zlib.error,
    OSError,
)
"""What is raised on the way through a pickle that makes no sense, or a record of an archive."""


def _declared_storages(file: IO[bytes]) -> Iterator[tuple[str, int]]:
    """Key and number of elements of each storage that a pickle names, without unpickling it.

    A storage is a tuple ('storage', type, key, device, elements, ...) before BINPERSID. Constants
    may come straight or from the memo.
    """
    memo: dict[Any, Any] = {}
    constants: list[Any] = []
    top: Any = None
    for count, (op, arg, _) in enumerate(pickletools.genops(file)):
        if op.name == "MARK":
            constants = []
        elif op.name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if arg is None else arg] = top
            continue
        elif op.name == "BINPERSID":
            key = "/".join(c for c in constants if isinstance(c, str)) or str(count)
            yield key, max((c for c in constants if type(c) is int), default=0)
        top = memo.get(arg) if op.name in ("BINGET", "LONG_BINGET") else arg
        if isinstance(top, int | str) and op.name not in ("GLOBAL", "PROTO", "FRAME"):
            constants.append(top)
