"""The launch scripts with two processes: restarts, nodes, and a Slurm of two files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow
SRUN = """#!{python}
import os, subprocess, sys
command, tasks = sys.argv[1:], None
while command[0].startswith("--"):
    name, _, value = command.pop(0).partition("=")
    tasks = int(value) if name == "--ntasks" else tasks
assert tasks == 2
started = [
    subprocess.Popen(command, env=os.environ | dict(
        SLURM_PROCID=str(n), SLURM_NTASKS="2", SLURM_NODELIST="localhost", SLURM_LOCALID=str(n),
        MASTER_PORT="29877", **{{"SLURM_RESTART_COUNT": os.environ.get("REQUEUED", "0")}}))
    for n in range(2)
]
sys.exit(max(process.wait() for process in started))
"""
DIE_ONCE = """
import os, signal
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
@HOOKS.register_module(force=True)
class DieOnce(Hook):
    priority = "LOWEST"
    def __init__(self, at): self.at = at
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        rank = os.environ.get("RANK", os.environ.get("SLURM_PROCID"))
        first = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"
        if runner.iter + 1 == self.at and rank == "1" and first:
            os.kill(os.getpid(), signal.SIGKILL)
"""


def environment(folder: Path, **more: str) -> dict[str, str]:
    (folder / "die_once.py").write_text(DIE_ONCE)
    path = f"{folder}:{ROOT}"
    return os.environ | dict(PYTHON=sys.executable, OMP_NUM_THREADS="1", PYTHONPATH=path) | more


def command(script: str, *args: object) -> list[str]:
    return ["bash", str(ROOT / f"tools/{script}"), *map(str, args)]


def launch(script: str, *args: object, folder: Path, **env: str) -> None:
    """Run a script to its end, which must be a good one."""
    done = subprocess.run(
        command(script, *args), env=environment(folder, **env), capture_output=True, text=True,
        timeout=500, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


OPTIONS = (
    "--no-check",
    "--cfg-options",
    "train_cfg.max_iters=6",
    "train_cfg.val_interval=100",
    "default_hooks.checkpoint.interval=2",
    "randomness.seed=3",
    "train_dataloader.batch_size=1",
    "model.backbone.out_indices=[3]",
    "model.decode_head.in_index=0",
)


def weights(work_dir: Path) -> dict:
    return torch.load(work_dir / "iter_6.pth", weights_only=False)["state_dict"]


def test_a_killed_process_costs_a_restart_and_no_bit(segmentation, folder):
    dying = segmentation.with_name("dying.py")
    dying.write_text(
        f"_base_ = {segmentation.name!r}\n"
        "custom_imports = dict(imports=['mmplugins', 'die_once'])\n"
        "custom_hooks = [dict(type='DieOnce', at=5)]\n"
    )
    for config, name in ((segmentation, "whole"), (dying, "killed")):
        launch("dist_train.sh", config, 2, "--work-dir", folder / name, *OPTIONS, folder=folder)
    first, second = weights(folder / "whole"), weights(folder / "killed")
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_two_nodes(segmentation, folder):
    work_dir = folder / "nodes"
    env = environment(folder, NNODES="2", MASTER_ADDR="localhost", PORT="29878", MAX_RESTARTS="0")
    args = command("dist_train.sh", segmentation, 1, "--work-dir", work_dir, *OPTIONS)
    nodes = [subprocess.Popen(args, env=env, cwd=folder, start_new_session=True) for _ in range(2)]
    try:
        begin = time.monotonic()
        while any(node.poll() is None for node in nodes):
            assert time.monotonic() - begin < 500
            time.sleep(0.5)
        assert [node.returncode for node in nodes] == [0, 0]
    finally:
        for node in nodes:
            if node.poll() is None:
                os.killpg(node.pid, signal.SIGKILL)
    assert weights(work_dir)


def test_slurm(segmentation, folder):
    programs = folder / "bin"
    programs.mkdir()
    (programs / "srun").write_text(SRUN.format(python=sys.executable))
    (programs / "scontrol").write_text("#!/bin/sh\necho localhost\n")
    for program in programs.iterdir():
        program.chmod(0o755)
    work_dir = folder / "slurm"
    for requeued, steps in (("0", 4), ("1", 6)):
        path = f"{programs}:{os.environ['PATH']}"
        args = ("part", "job", segmentation, 2, "--work-dir", work_dir, *OPTIONS)
        args += (f"train_cfg.max_iters={steps}",)
        env = dict(PATH=path, GPUS_PER_NODE="0", REQUEUED=requeued)
        launch("slurm_train.sh", *args, folder=folder, **env)
    assert weights(work_dir)
