"""Two processes: killed and resumed, and against one process with twice the batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from random_training import compare_states, run, tiny

from mmplugins.checkpoint import read_checkpoint

HERE = Path(__file__).parents[1]

SCRIPT = """
import sys
sys.path.insert(0, {here!r})
from pathlib import Path
import torch
from random_training import run, tiny
torch.set_num_threads(1)
folder, work_dir, kill, resume, drop_path = sys.argv[1:]
cfg = tiny("segmentation", Path(folder), Path(work_dir), launcher="pytorch")
cfg.model.backbone.drop_path_rate = float(drop_path)
cfg.model.decode_head.dropout_ratio = 0.3 if float(drop_path) else 0.0
if not float(drop_path):
    cfg.optim_wrapper.optimizer = dict(type="SGD", lr=0.05)
cfg.train_dataloader.batch_size = 1
run(cfg, kill_after=int(kill) or None, resume=resume == "yes")
"""


def launch(folder: Path, work_dir: Path, kill: int = 0, resume: str = "no", drop_path=0.4) -> None:
    script = folder / "two.py"
    script.write_text(SCRIPT.format(here=str(HERE)))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    command += ["--master-port=29713", script, folder, work_dir, kill, resume, drop_path]
    environment = os.environ | {"PYTHONPATH": str(HERE.parents[1]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(part) for part in command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_killed_and_resumed(tmp_path):
    launch(tmp_path, tmp_path / "whole")
    launch(tmp_path, tmp_path / "broken", kill=7)
    launch(tmp_path, tmp_path / "broken", resume="yes")
    assert not compare_states(tmp_path / "whole/iter_12.pth", tmp_path / "broken/iter_12.pth")


@pytest.mark.slow
def test_same_samples_as_one_process(tmp_path):
    """Without what is drawn per process, the weights agree but for rounding."""
    launch(tmp_path, tmp_path / "two", kill=4, drop_path=0.0)
    cfg = tiny("segmentation", tmp_path, tmp_path / "one")
    cfg.model.backbone.drop_path_rate = cfg.model.decode_head.dropout_ratio = 0.0
    cfg.optim_wrapper.optimizer = dict(type="SGD", lr=0.05)
    torch.set_num_threads(1)
    run(cfg, kill_after=4)
    one, two = (read_checkpoint(tmp_path / name / "iter_3.pth") for name in ("one", "two"))
    torch.testing.assert_close(one["state_dict"], two["state_dict"], rtol=1e-4, atol=1e-6)
