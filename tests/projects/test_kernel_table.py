"""The script behind the table of kernels in docs/speed.md."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "projects/kernel_counts/table.py"


def test_a_row_counts_timm_ours_and_the_deployed_form():
    command = [sys.executable, str(SCRIPT), "poolformer_s12"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    head, _, row = text.strip().splitlines()
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert len(cells) == head.count("|") - 1 == 7
    timm, ours, deployed = map(int, cells[1:4])
    assert 0 < deployed < ours <= timm and float(cells[4]) == round(deployed / timm, 2)
    assert 0 < int(cells[6]) <= int(cells[5])
