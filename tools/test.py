"""Tests a checkpoint of an mmdet or mmseg config, with the flags of their own tools."""

import argparse
import os
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.runner import Runner

import mmplugins  # noqa: F401 - puts compat in force before anything of OpenMMLab runs
from mmplugins.checkpoint import CheckpointError
from mmplugins.checks import DataError, check_data
from mmplugins.console import Console
from mmplugins.deployment.errors import ExportError
from mmplugins.engine import SettingError, load_composed, start_processes, test
from mmplugins.engine.config import arguments, settings
from mmplugins.utils import one_line_errors
from mmplugins.visualization import metrics_table

BACKENDS = {"onnxruntime": ".onnx", "openvino": ".xml", "torch-export": ".pt2"}
"""Suffixes of the exported files that a runtime runs."""

console = Console(soft_wrap=True, markup=False, highlight=False)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    arguments.add_config(parser)
    parser.add_argument("checkpoint", help="checkpoint file or address, or an exported file")
    parser.add_argument(
        "--backend", choices=list(BACKENDS), help="runtime of an exported file (by its suffix)"
    )
    parser.add_argument("--trust", action="store_true", help="run pickles in a .pt2 file")
    parser.add_argument("--work-dir", help="where metrics go (work_dirs/<config name>)")
    parser.add_argument("--out", help="keep predictions: a .pkl file (mmdet) or a folder (mmseg)")
    parser.add_argument("--show", action="store_true", help="show predictions in a window")
    parser.add_argument("--show-dir", help="draw predictions into this folder")
    parser.add_argument("--wait-time", type=float, default=2, help="seconds per shown picture")
    parser.add_argument("--deploy", action="store_true", help="test the deployed form (deploy.py)")
    parser.add_argument("--tta", action="store_true", help="test with augmentation")
    arguments.add_compiler(parser)
    arguments.add_launcher(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    cfg = load_composed(args.config, args.backbone, args.cfg_options)
    cfg.launcher = args.launcher
    cfg.load_from = settings.existing_checkpoint(args.checkpoint)
    settings.set_work_dir(cfg, args.work_dir, args.config)
    settings.use_own_hooks(cfg)
    if args.show or args.show_dir:
        settings.draw_predictions(cfg, args.show, args.show_dir, args.wait_time)
    if args.out:
        settings.dump_predictions(cfg, args.out)
    if args.deploy:
        settings.use_deploy_form(cfg)
    if args.compile:
        settings.use_compiler(cfg, args.memory_budget)
    if args.tta:
        settings.use_tta(cfg)

    start_processes(cfg)
    if is_main_process():
        for finding in check_data(cfg, splits=("test",)):
            console.print(f"data: {finding}")
    runner, metrics = run(cfg, args)
    if is_main_process():
        console.print(metrics_table(metrics, title=os.path.basename(args.checkpoint)))
        console.print(f"Metrics and log are in {runner.log_dir}")


def run(cfg: Config, args: argparse.Namespace) -> tuple[Runner, dict[str, float]]:
    """Test a checkpoint, or an exported file in its runtime."""
    suffix = Path(args.checkpoint).suffix
    if args.backend and BACKENDS[args.backend] != suffix:
        raise SettingError(
            f"--backend {args.backend} runs {BACKENDS[args.backend]} files, got {args.checkpoint}: "
            "export it first (tools/export.py)"
        )
    if suffix not in BACKENDS.values():
        return test(cfg)
    if args.deploy or args.compile or args.tta:
        raise SettingError("--deploy, --compile and --tta are for checkpoints, not exported files")
    from mmplugins.inference.evaluating import test_exported

    return test_exported(cfg, args.checkpoint, trust=args.trust)


if __name__ == "__main__":
    with one_line_errors(CheckpointError, DataError, ExportError, SettingError):
        main()
