"""Whole files are read; broken and hostile ones are refused with the reason, and run nothing."""

import os
import pickle
import re
import struct
import subprocess
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy
import pytest
import torch
from mmengine.logging import MessageHub
from safetensors.torch import save_file

from mmplugins.checkpoint import (
    CheckpointError,
    UnsafeCheckpointError,
    check_tensors,
    read_checkpoint,
)
from mmplugins.engine import SettingError
from mmplugins.engine.compiling import TORCH_2_4
from mmplugins.engine.config.settings import existing_checkpoint
from mmplugins.inference import InputError, load_model

STATE = {"stem.conv.weight": torch.arange(600.0).reshape(2, 300), "stem.conv.bias": torch.ones(2)}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "w.pth"


def rewritten(path, change, **kwargs):
    """The archive once more, with another pickle in it."""
    with zipfile.ZipFile(path) as archive:
        parts = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w", **kwargs) as archive:
        for name, data in parts.items():
            archive.writestr(name, change(data) if name.endswith("data.pkl") else data)


# ---------------------------------------------------------------- what must be read


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_whole_files(path, form):
    if form == "safetensors":
        save_file(STATE, path)
    else:
        torch.save(STATE, path, _use_new_zipfile_serialization=form == "zip")
    read = read_checkpoint(path)
    assert list(read) == list(STATE) or form == "safetensors"
    assert all(torch.equal(read[key], value) for key, value in STATE.items())
    check_tensors(read, path)


def test_what_training_checkpoints_of_mmengine_hold(path):
    hub = MessageHub("test_reading")
    for step in range(5):
        hub.update_scalar("train/loss", numpy.float32(1 / (step + 1)))
    hub.update_info("iter", 5)
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([parameter])
    parameter.sum().backward()
    optimizer.step()
    torch.save(
        dict(
            meta=dict(epoch=1, iter=5, seed=1, cfg="a = 1", dataset_meta=dict(CLASSES=("a",))),
            state_dict=OrderedDict(STATE),
            message_hub=hub.state_dict(),
            optimizer=optimizer.state_dict(),
            param_schedulers=[dict(last_step=3)],
            ema_state_dict=OrderedDict(STATE),
        ),
        path,
    )
    read = read_checkpoint(path)
    buffer = read["message_hub"]["log_scalars"]["train/loss"]
    assert buffer.mean() == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4 + 1 / 5) / 5)
    assert torch.equal(read["state_dict"]["stem.conv.bias"], torch.ones(2))


def test_tied_and_sliced_tensors_are_whole(path):
    whole = torch.arange(100.0)
    torch.save({"a": whole, "b": whole, "c": whole[10:20], "d": whole.reshape(10, 10).t()}, path)
    read = read_checkpoint(path)
    check_tensors(read, path)
    assert torch.equal(read["d"], whole.reshape(10, 10).t())


# ---------------------------------------------------------------- broken files


def cut(form, keep):
    def write(path):
        if form == "safetensors":
            save_file(STATE, path)
        else:
            torch.save(STATE, path, _use_new_zipfile_serialization=form == "zip")
        data = path.read_bytes()
        path.write_bytes(data[: int(keep * len(data))])

    return write


def header(text, data=b"", length=None):
    """A safetensors file with this header, and the length that it claims to have."""
    return struct.pack("<Q", length or len(text)) + text + data


def other_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")


def zip_bomb(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/data.pkl", pickle.dumps({}, 2))
        archive.writestr("w/data/0", bytes(50_000_000))
    assert path.stat().st_size < 100_000


def compressed_weights(path):
    torch.save(STATE | dict(zeros=torch.zeros(100_000)), path)
    rewritten(path, lambda data: data, compression=zipfile.ZIP_DEFLATED)


def storage_larger_than_its_record(path):
    torch.save({"a": torch.ones(15)}, path)
    rewritten(path, lambda data: data.replace(b"K\x0ft", b"J\x00\x00\x00\x70t", 1))


def legacy_storage_larger_than_the_file(path):
    torch.save({"a": torch.ones(15)}, path, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    assert data.count(b"K\x0fN") == 1
    path.write_bytes(data.replace(b"K\x0fN", b"J\x00\x00\x00\x70N"))


def legacy_storage_size_from_the_memo(path):
    torch.save({"a": torch.ones(15)}, path, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    # push the number, remember it as 99, drop it, and fetch it where the size belongs
    start = data.index(b"}q\x00X")
    data = data[:start] + b"J\x00\x00\x00\x70qc0" + data[start:].replace(b"K\x0fN", b"hcN")
    path.write_bytes(data)


def zip_with_garbled_pickle(path):
    torch.save(STATE, path)
    rewritten(path, lambda data: data[:20] + b"\xff\xfe" + data[22:])


def zip_with_garbled_name(path):
    torch.save(STATE, path)
    data = path.read_bytes()
    place = data.index(b"data.pkl")  # of the record itself; the directory at the end has it again
    path.write_bytes(data[:place] + b"\x82" + data[place + 1 :])


def torchscript(path):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), path)


ENTRY = b'{"dtype":"F32","shape":[4],"data_offsets":[0,16]}'
BEYOND = b'{"a":{"dtype":"F32","shape":[1000000],"data_offsets":[0,4000000]}}'
BROKEN = {  # what the file holds, or a function that writes it, and what is said of it
    "html": (b"\n <!DOCTYPE html>\n<html><body>Sign in</body></html>", "web page"),
    "xml": (b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>', "web page"),
    "empty": (b"", "is empty"),
    "text": (b"weights will follow", "no weight file"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 1\n", "Git LFS"),
    "zip cut at 0.99": (cut("zip", 0.99), "cut short"),
    "zip cut at 0.5": (cut("zip", 0.5), "cut short"),
    "zip cut at 0.01": (cut("zip", 0.01), "cut short"),
    "legacy cut at 0.9": (cut("legacy", 0.9), "cut short"),
    "legacy cut at 0.1": (cut("legacy", 0.1), "cut short"),
    "legacy cut at 0.002": (cut("legacy", 0.002), "cut off|cut short"),
    "safetensors cut at 0.9": (cut("safetensors", 0.9), "cut short"),
    "safetensors cut at 0.05": (cut("safetensors", 0.05), "cut short"),
    "safetensors cut at 0.002": (cut("safetensors", 0.002), "no weight file"),
    "header too long": (header(b'{"a": 1}', length=10**15), "cut short or damaged"),
    "header no json": (header(b"{oops!!!", bytes(100)), "cut short or damaged"),
    "offsets beyond the file": (header(BEYOND, bytes(64)), "cut short or damaged"),
    "offsets that overlap": (
        header(b'{"a":' + ENTRY + b',"b":' + ENTRY + b"}", bytes(16)),
        "cut short or damaged",
    ),
    "other zip": (other_zip, "without weights.*readme.txt"),
    "zip bomb": (zip_bomb, "zip bomb"),
    "compressed weights": (compressed_weights, "zip bomb"),
    "storage larger than its record": (storage_larger_than_its_record, "damaged"),
    "legacy storage larger than the file": (
        legacy_storage_larger_than_the_file,
        "declares tensors of 1,879,048,192",
    ),
    "legacy storage size from the memo": (
        legacy_storage_size_from_the_memo,
        "declares tensors of 1,879,048,192",
    ),
    "zip with garbled pickle": (zip_with_garbled_pickle, "damaged|pickled in a way"),
    "zip with garbled name": (zip_with_garbled_name, "is damaged or no file of torch.save"),
    "torchscript": (torchscript, "TorchScript"),
    "one tensor": (lambda path: torch.save(torch.ones(3), path), "holds one Tensor.*state_dict"),
    "a list": (lambda path: torch.save([torch.ones(3)], path), "holds one list"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_files(path, kind):
    written, message = BROKEN[kind]
    if isinstance(written, bytes):
        path.write_bytes(written)
    else:
        written(path)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)


def test_a_file_that_cannot_be_read(path, monkeypatch):
    path.write_bytes(b"x")

    def refuse(*args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # root may read everything
    with pytest.raises(CheckpointError, match=r"cannot be read \(Permission denied\)"):
        read_checkpoint(path)


def test_absent_files_are_errors_of_both_kinds(path):
    path.symlink_to(path)  # a link to itself
    for kind in (CheckpointError, FileNotFoundError):
        with pytest.raises(kind, match="does not exist"):
            read_checkpoint(path)
    with pytest.raises(SettingError, match="does not exist"):
        existing_checkpoint(str(path))
    with pytest.raises(InputError, match="does not exist"):
        load_model(path, device="cpu")
    with pytest.raises(FileNotFoundError, match="is a folder"):
        read_checkpoint(path.parent)


@pytest.mark.parametrize("meta", ["text", 5, torch.ones(2), []])
def test_meta_of_another_kind(path, meta):
    torch.save(dict(state_dict=dict(a=torch.ones(1)), meta=meta), path)
    with pytest.raises(CheckpointError, match="holds no config"):
        load_model(path, device="cpu")


# ---------------------------------------------------------------- hostile pickles


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


class Home:
    """Pickles as an object of a class of this module."""


TRAP = "import pathlib; pathlib.Path({!r}).touch()"
HOSTILE = {
    "posix.system": lambda trap: Calls(os.system, f"touch {trap}"),
    "eval": lambda trap: Calls(eval, TRAP.format(trap).replace("import pathlib; pathlib", "open")),
    "exec": lambda trap: Calls(exec, TRAP.format(trap)),
    "getattr": lambda trap: Calls(getattr, OrderedDict, "fromkeys"),
    "__import__": lambda trap: Calls(__import__, "os"),
    "Popen": lambda trap: Calls(subprocess.Popen, ["touch", trap]),
    "shutil.rmtree": lambda trap: Calls(__import__("shutil").rmtree, trap),
    "pathlib": lambda trap: Path(trap),
    "Home": lambda trap: Home(),
    "torch.nn.modules.linear.Linear": lambda trap: torch.nn.Linear(1, 1),
    "torch.hub.load": lambda trap: Calls(torch.hub.load, trap, "x"),
    "numpy.load": lambda trap: Calls(numpy.load, trap),
    "numpy.fromfile": lambda trap: Calls(numpy.fromfile, trap),
    "timedelta": lambda trap: __import__("datetime").timedelta(1),
    "Namespace": lambda trap: __import__("argparse").Namespace(lr=1),
}


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_refused_by_name_and_run_nothing(path, tmp_path, name, legacy):
    trap = str(tmp_path / "sprung")
    content = dict(state_dict=STATE, extra=HOSTILE[name](trap))
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UnsafeCheckpointError, match=re.escape(name)) as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value) and "allow_unsafe" in str(caught.value)
    assert not os.path.exists(trap)


def test_arrays_of_object_pointers_are_refused(path):
    torch.save(dict(a=numpy.array([object], dtype=object)), path)
    with pytest.raises(UnsafeCheckpointError, match=str(path)):
        read_checkpoint(path)


def test_newer_pickle_protocols_hide_nothing(path, tmp_path):
    trap = str(tmp_path / "sprung")
    torch.save(dict(a=Calls(os.system, f"touch {trap}")), path, pickle_protocol=4)
    with pytest.raises(UnsafeCheckpointError, match="pickled in a way"):
        read_checkpoint(path)
    assert not os.path.exists(trap)


def test_bare_pickles_are_refused(path, tmp_path):
    trap = str(tmp_path / "sprung")
    path.write_bytes(pickle.dumps(Calls(os.system, f"touch {trap}")))
    with pytest.raises(CheckpointError, match="not one that torch.save wrote"):
        read_checkpoint(path)
    assert not os.path.exists(trap)


def test_only_the_explicit_flag_opens_them(path):
    torch.save(dict(state_dict=STATE, extra=HOSTILE["Namespace"]("")), path)
    assert read_checkpoint(path, allow_unsafe=True)["extra"].lr == 1


def test_demand_for_memory_is_refused(path):
    torch.save(dict(a=Calls(bytearray, 10**16)), path)  # more than any machine can address
    # torch 2.4 takes no bytearray of any size.
    said = "more than tensors: builtins.bytearray" if TORCH_2_4 else "more memory than there is"
    with pytest.raises(CheckpointError, match=said):
        read_checkpoint(path)


# ---------------------------------------------------------------- tensors


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.tensor([1.0, float("nan")]), "NaN or infinite values.* in stem"),
        (torch.tensor([1.0, float("inf")]), "NaN or infinite values.* in stem"),
        (torch.tensor([-float("inf")], dtype=torch.bfloat16), "NaN or infinite"),
        (torch.zeros(1).expand(1000, 1000), "declare more elements than they store"),
        (torch.zeros(2, dtype=torch.complex64), "complex64"),
        (torch.zeros(2).to(torch.float8_e4m3fn), "float8"),
        pytest.param(
            torch.zeros(2).to(torch.uint16),
            "uint16",
            marks=pytest.mark.skipif(TORCH_2_4, reason="torch 2.4 writes none"),
        ),
        (torch.eye(3).to_sparse(), "sparse"),
    ],
)
def test_tensors_that_are_no_weights(path, value, message):
    torch.save({"stem.conv.weight": value, "fine": torch.ones(1)}, path)
    with pytest.raises(CheckpointError, match=message) as caught:
        check_tensors(read_checkpoint(path), path)
    assert str(path) in str(caught.value) and "fine" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_quantized_tensors_are_no_weights():
    quantized = torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)
    with pytest.raises(CheckpointError, match="quantized .* in a"):
        check_tensors({"a": quantized}, "w.pth")


def test_only_the_first_bad_keys_are_named():
    state = {f"layer{i}": torch.tensor(float("nan")) for i in range(9)}
    with pytest.raises(CheckpointError, match=r"layer0, .*layer4, \.\.\. 4 more"):
        check_tensors(state, "w.pth")
