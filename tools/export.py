"""Exports a detector or segmentor as a file of another runtime, and verifies it."""

import argparse
from pathlib import Path

from rich.console import Console

import mmplugins  # noqa: F401 - puts compat in force before anything of OpenMMLab runs
from mmplugins.checkpoint import CheckpointError
from mmplugins.deployment.errors import ExportError
from mmplugins.deployment.exporting import FORMATS
from mmplugins.deployment.operators import OPSET
from mmplugins.engine import SettingError
from mmplugins.engine.config.arguments import OptionsAction
from mmplugins.inference import InputError, load_model
from mmplugins.inference.exporting import export_verified
from mmplugins.utils import WriteError, one_line_errors

console = Console(soft_wrap=True, markup=False, highlight=False)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, usage="%(prog)s [CONFIG] CHECKPOINT [options]"
    )
    parser.add_argument(
        "model", nargs="+", metavar="CONFIG CHECKPOINT", help="or one with its config"
    )
    parser.add_argument("--format", choices=list(FORMATS), default="onnx")
    parser.add_argument("--out", help="the file (CHECKPOINT with the format's suffix)")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    parser.add_argument("--pictures", nargs="+", help="to verify on (four of the test data)")
    parser.add_argument("--backbone", metavar="NAME_OR_DICT", help="as it was trained with")
    parser.add_argument("--trust", action="store_true", help="run code in a checkpoint's config")
    parser.add_argument(
        "--cfg-options", nargs="+", action=OptionsAction, metavar="NAME=VALUE", help="changes"
    )
    args = parser.parse_args()
    if len(args.model) > 2:
        parser.error(f"expected CONFIG CHECKPOINT, got {' '.join(args.model)}")
    return args


def main() -> None:
    args = parse_args()
    model = load_model(
        *args.model,
        device="cpu",
        backbone=args.backbone,
        options=args.cfg_options,
        trust=args.trust,
    )
    out = Path(args.out or Path(args.model[-1]).with_suffix(FORMATS[args.format]))
    found = export_verified(
        model,
        out,
        args.format,
        pictures=args.pictures or (),
        overwrite=args.overwrite,
        tell=console.print,
    )
    console.print(f"Largest differences from PyTorch: {found}")
    opset = f", opset {OPSET}" if args.format == "onnx" else ""
    console.print(f"Wrote {out} ({out.stat().st_size / 2**20:.1f} MB{opset})")
    console.print(f"    python tools/predict.py {out} PICTURES")


if __name__ == "__main__":
    with one_line_errors(CheckpointError, ExportError, InputError, SettingError, WriteError):
        main()
