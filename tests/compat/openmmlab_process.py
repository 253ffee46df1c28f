"""Runs code in a Python of its own, with or without the start-up hook, on CPU."""

import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
START = "import mmplugins_hook; mmplugins_hook.install()\n"


def run_python(folder: Path, *arguments: str, hook: bool, **environment: str) -> str:
    """Run ``python arguments`` in ``folder`` and return what it printed.

    The hook starts through a `sitecustomize`, which child processes inherit as they would an
    installed `.pth`; an installed hook is switched off where it is not wanted.
    """
    site = folder / "site"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(START if hook else "")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    paths = [str(site), str(ROOT / "hook"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    settings = {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "MMPLUGINS_HOOK": "" if hook else "off",
        "CUDA_VISIBLE_DEVICES": "-1",
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, **settings, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{arguments} failed:\n{done.stdout}\n{done.stderr}"
    return done.stdout
