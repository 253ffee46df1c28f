import os
from pathlib import Path

import pytest
import torch

from mmplugins.checkpoint import read_checkpoint, save_weights

STATE = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.bfloat16)}


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w.pth.tar", "deep/er/w.pt"])
def test_what_is_written_can_be_read(tmp_path, name):
    path = save_weights(STATE, tmp_path / name)
    read = read_checkpoint(path)
    assert set(read) == set(STATE)
    assert all(torch.equal(read[key], value) for key, value in STATE.items())
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_shared_and_transposed_memory(tmp_path):
    whole = torch.arange(6.0).reshape(2, 3)
    state = dict(a=whole, b=whole, c=whole.t(), d=whole[1])
    read = read_checkpoint(save_weights(state, tmp_path / "w.safetensors"))
    assert all(torch.equal(read[key], value) for key, value in state.items())


def test_payload(tmp_path):
    assert set(read_checkpoint(save_weights(STATE, tmp_path / "w.pth", payload="model"))) == {
        "model"
    }


def test_nothing_is_overwritten_unasked(tmp_path):
    path = tmp_path / "w.pth"
    path.write_text("precious")
    with pytest.raises(FileExistsError, match="exists.*overwrite"):
        save_weights(STATE, path)
    assert path.read_text() == "precious"
    save_weights(STATE, path, overwrite=True)
    assert set(read_checkpoint(path)) == set(STATE)


def test_a_failure_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = save_weights(STATE, tmp_path / "w.pth")
    before = path.read_bytes()

    def full_disk(content, file):
        Path(file).write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="no space"):
        save_weights(STATE, path, overwrite=True)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["w.pth"]


def test_files_are_as_readable_as_others(tmp_path):
    path = save_weights(STATE, tmp_path / "w.pth")
    (tmp_path / "plain").touch()
    assert os.stat(path).st_mode == os.stat(tmp_path / "plain").st_mode


def test_unknown_suffix(tmp_path):
    with pytest.raises(ValueError, match=r"unknown kind of weight file '\.onnx'"):
        save_weights(STATE, tmp_path / "w.onnx")
