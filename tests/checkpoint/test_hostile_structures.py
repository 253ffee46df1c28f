"""Files of a few bytes that would hang, fill memory or confuse whoever walks through them."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import time
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from mmplugins.checkpoint import CheckpointError, check_tensors, read_checkpoint


def archive(path: Path, data: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", data)
        file.writestr("archive/version", "3\n")
        file.writestr("archive/byteorder", "little")
    return path


def itself() -> dict:
    content: dict = dict(state_dict=dict(a=1))
    content["state_dict"]["more"] = content
    return content


def deep() -> dict:
    content: dict = {}
    for _ in range(300):
        content = dict(a=content)
    return content


def many() -> dict:
    content: list = [0, 1]
    for _ in range(60):
        content = [content, content]
    return dict(a=content)


def shadowed() -> OrderedDict:
    content = OrderedDict(a=1)
    content.get = 5
    return content


def wrong_metadata() -> dict:
    state = OrderedDict(a=torch.ones(1))
    state._metadata = dict(a=dict(version="new"))
    return dict(state_dict=state)


@pytest.mark.parametrize("make", [itself, deep, many, shadowed, wrong_metadata])
def test_structures_are_refused(tmp_path, make):
    torch.save(make(), tmp_path / "file.pth")
    begin = time.process_time()
    with pytest.raises(CheckpointError) as error:
        read_checkpoint(tmp_path / "file.pth")
    assert time.process_time() - begin < 5 and len(str(error.value)) < 1000


def nested_key() -> bytes:
    # t = (); t = (t, t) forty times; {t: 1}: its hash would take 2 ** 40 steps.
    data = b"\x80\x02)" + b"q\x00"
    for number in range(40):
        at = bytes([number])
        data += b"h" + at + b"h" + at + b"\x86q" + bytes([number + 1])
    return data + b"}" + b"h\x28" + b"K\x01s."


def test_keys_that_take_for_ever(tmp_path):
    path = archive(tmp_path / "keys.pth", nested_key())
    with pytest.raises(CheckpointError, match="not opened|Not opened"):
        read_checkpoint(path)


def test_long_names_make_no_long_messages(tmp_path):
    names = {f"{n}" + "x" * 100_000: torch.tensor(float("nan")) for n in range(20)}
    with pytest.raises(CheckpointError) as error:
        check_tensors(names, "file")
    assert len(str(error.value)) < 5000


def test_what_trainings_write_is_read(tmp_path):
    key = ("a", ("b", 1))
    state = torch.nn.BatchNorm2d(3).state_dict()
    shared = [1, 2, 3]
    content = dict(state_dict=state, meta={key: shared, "b": shared, "classes": ("x",) * 1000})
    torch.save(content, tmp_path / "file.pth")
    found = read_checkpoint(tmp_path / "file.pth")
    assert found["meta"] == content["meta"] and found["state_dict"]._metadata == state._metadata


def test_a_file_of_holes(tmp_path):
    path = tmp_path / "holes.pth"
    torch.save(dict(a=torch.zeros(1000)), path)
    data = path.read_bytes()
    with path.open("wb") as file:
        file.write(data[:100])
        file.seek(1 << 30)
        file.write(data[100:])
    if path.stat().st_blocks * 512 > 1 << 28:
        pytest.skip("this file system has no holes")
    with pytest.raises(CheckpointError, match="mostly holes|cut short"):
        read_checkpoint(path)


MEASURE = """
import resource, sys
from mmplugins.checkpoint import check_tensors, read_checkpoint
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
check_tensors(read_checkpoint(sys.argv[1]), "file")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_memory_follows_the_file(tmp_path):
    path = tmp_path / "large.pth"
    torch.save(dict(a=torch.ones(64 << 20 >> 2)), path)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert int(done.stdout.split()[-1]) / 1024 < 64 * 1.9


def test_instructions_of_damaged_pickles(tmp_path):
    file = io.BytesIO()
    pickle.dump(dict(a=[1, 2], b=(3, 4)), file, protocol=2)
    data = file.getvalue()
    for cut in range(len(data)):
        path = archive(tmp_path / "cut.pth", data[:cut])
        with pytest.raises(CheckpointError):
            read_checkpoint(path)
