"""Triton kernels against plain formulas in float64, run by Triton's interpreter on the CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmplugins.functional.calling import on_triton

pytest.importorskip("triton")
ROOT = Path(__file__).parents[2]


def test_kernels_are_the_formulas():
    script = Path(__file__).with_name("interpreted_kernels.py")
    environment = os.environ | dict(TRITON_INTERPRET="1", PYTHONPATH=str(ROOT))
    run = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    lines = [line.rsplit(maxsplit=1) for line in run.stdout.splitlines()]
    assert len(lines) == 40
    for label, error in lines:
        # bfloat16 in, float32 out, but for the gradient of a bfloat16 map
        rounded = "grad_x-bfloat16" in label
        assert float(error) < (8e-3 if rounded else 1e-6), label


def test_tensors_on_the_cpu_are_not_for_them():
    assert not on_triton(torch.ones(1, 2, 3, 4))
