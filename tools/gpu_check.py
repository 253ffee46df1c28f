"""Checks a GPU in minutes: what works, how fast against timm, how exact, whether detectors learn.

Prints as it goes, the most telling first, and writes gpu_check.jsonl and gpu_check.md. Runs on a
CPU too, with fewer and smaller cases.
"""

import argparse
from pathlib import Path

import torch

import mmplugins  # noqa: F401 - puts compat in force before anything of OpenMMLab runs
from mmplugins.benchmark.environment import usable_cores
from mmplugins.benchmark.gpu_check import PARTS, Settings, run_check
from mmplugins.engine import work_dir

CONFIGS = Path(__file__).parents[1] / "configs"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=4, help="when to stop (%(default)s)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", default="work_dirs/gpu_check", help="folder of the results")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument(
        "--workers", type=int, help="processes for what is not timed (on a GPU: one a core, to 14)"
    )
    args = parser.parse_args()
    device = torch.device(args.device)
    if aside := work_dir.move_aside(Path(args.out)):
        print(f"The earlier check is now in {aside}")
    small = device.type == "cpu"
    workers = args.workers or (1 if small else min(14, usable_cores()))
    settings = Settings(device, Path(args.out), CONFIGS, small, workers)
    rows = run_check(settings, args.minutes, tuple(args.parts))
    failed = [row for row in rows if "failed" in row or "fails" in row]
    print(f"{len(rows)} rows, {len(failed)} of them failures, in {args.out}/gpu_check.md")
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
