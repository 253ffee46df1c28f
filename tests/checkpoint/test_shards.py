"""Checkpoints in shards are folders; each is told apart, with the way to make it one file."""

from __future__ import annotations

import runpy
import sys

import pytest
import torch
from torch.distributed import checkpoint as sharded

import mmplugins
from mmplugins.checkpoint import CheckpointError, load_source, read_checkpoint
from mmplugins.engine.config.settings import existing_checkpoint
from mmplugins.engine.resume.training_folder import latest_resumable

KINDS = {
    "torch": ((".metadata", "__0_0.distcp"), "dcp_to_torch"),
    "fsdp": (("rank0.pth", "rank1.pth"), "state_dict_cfg='full'"),
    "deepspeed": (("mp_rank_00_model_states.pt",), "zero_to_fp32.py"),
    "deepspeed, latest": (("latest", "zero_to_fp32.py"), "zero_to_fp32.py"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_way_in_names_the_way_out(tmp_path, kind):
    names, remedy = KINDS[kind]
    folder = tmp_path / "iter_9.pth"
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(b"")
    for read in (read_checkpoint, load_source, existing_checkpoint, mmplugins.load_model):
        with pytest.raises(CheckpointError, match=f"in shards, .*{remedy}"):
            read(str(folder))
    with pytest.raises(CheckpointError, match=f"no checkpoint that can be gone on .*\n.*{remedy}"):
        latest_resumable(tmp_path)


def test_one_shard_alone(tmp_path):
    with pytest.raises(CheckpointError, match="in shards"):
        read_checkpoint(tmp_path / "__0_0.distcp")


def test_other_folders_are_none(tmp_path):
    (tmp_path / "20260101_000000").mkdir()
    assert latest_resumable(tmp_path) is None


def test_the_way_of_torchs_own(tmp_path, monkeypatch):
    weights = dict(state_dict=dict(weight=torch.arange(6.0).reshape(2, 3)))
    sharded.save(weights, checkpoint_id=tmp_path / "shards")
    with pytest.raises(CheckpointError, match="format_utils") as refused:
        read_checkpoint(tmp_path / "shards")
    command = str(refused.value).partition("`")[2].partition("`")[0]
    python, option, module, *words = command.replace("OUT.pth", str(tmp_path / "one.pth")).split()
    assert (python, option) == ("python", "-m")
    monkeypatch.setattr(sys, "argv", [module, *words])
    runpy.run_module(module, run_name="__main__")
    found = read_checkpoint(tmp_path / "one.pth")["state_dict"]["weight"]
    assert torch.equal(found, weights["state_dict"]["weight"])
