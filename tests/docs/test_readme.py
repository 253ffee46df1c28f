"""The README's figures are those that the repository's scripts give."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_table_of_backbones_is_up_to_date():
    command = [sys.executable, str(ROOT / "tools/backbone_table.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
