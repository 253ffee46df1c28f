"""Training in shards on two CPU processes: mmengine's FSDP strategy, and its sharded optimiser."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from toy_training import ToyModel

from mmplugins.checkpoint import read_checkpoint

HERE = Path(__file__).parent
pytestmark = pytest.mark.slow

START = """
import sys
sys.path.insert(0, {here!r})
from pathlib import Path
import torch
import mmplugins
from mmengine.runner import FlexibleRunner
from mmplugins.engine import train
from random_training import KillHook
from toy_training import toy
torch.set_num_threads(1)
cfg = toy(Path(sys.argv[1]), launcher="pytorch")
cfg.train_dataloader.batch_size = 2
"""

# As docs/training.md has it.
FSDP = (
    START
    + """
if sys.argv[2] == "resume":
    cfg.train_cfg.max_iters = 15
runner = FlexibleRunner(
    model=cfg.model, work_dir=cfg.work_dir, launcher="pytorch",
    strategy=dict(type="FSDPStrategy", state_dict_cfg="full",
                  model_wrapper=dict(device_id=torch.device("cpu"))),
    train_dataloader=cfg.train_dataloader, train_cfg=cfg.train_cfg,
    optim_wrapper=cfg.optim_wrapper, default_scope="mmengine", randomness=cfg.randomness,
    default_hooks=dict(checkpoint=cfg.default_hooks.checkpoint),
    resume=sys.argv[2] == "resume")
runner.train()
"""
)

ZERO = (
    START
    + """
kind = sys.argv[2]
optimizer = dict(type="ZeroRedundancyOptimizer", optimizer_type="AdamW", lr=1e-2)
if kind == "plain":
    optimizer = dict(type=optimizer["optimizer_type"], lr=1e-2)
cfg.optim_wrapper.optimizer = optimizer
cfg.default_hooks.checkpoint.save_optimizer = kind == "plain"
cfg.default_hooks.checkpoint.interval = 12
train(cfg)
"""
)


def launch(tmp_path: Path, text: str, *args: object) -> None:
    script = tmp_path / "script.py"
    script.write_text(text.format(here=str(HERE)))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, str(script), *map(str, args)],
        env=os.environ | {"PYTHONPATH": str(HERE.parents[1]), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=400,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_fsdp_writes_checkpoints_that_a_plain_model_loads(tmp_path):
    launch(tmp_path, FSDP, tmp_path / "work", "start")
    first = read_checkpoint(tmp_path / "work/iter_12.pth")
    model = ToyModel()
    model.load_state_dict(first["state_dict"])
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
    assert first["optimizer"]["state"]


def test_the_ways_round_the_sharded_optimiser(tmp_path):
    """Without its state it trains as the optimiser in it does, which is the other way."""
    for kind in ("sharded", "plain"):
        launch(tmp_path, ZERO, tmp_path / kind, kind)
    one, other = (read_checkpoint(tmp_path / kind / "iter_12.pth") for kind in ("sharded", "plain"))
    assert "optimizer" not in one and "optimizer" in other
    torch.testing.assert_close(one["state_dict"], other["state_dict"])
