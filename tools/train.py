"""Trains a config of mmdet or mmseg, with the flags of their own tools."""

import argparse
import os

from mmengine.config import DictAction
from mmengine.dist import is_main_process
from rich.console import Console

import mmplugins  # noqa: F401 - puts compat in force before anything of OpenMMLab runs
from mmplugins.datasets import DataError, check_data
from mmplugins.engine import (
    SettingError,
    check_model,
    settings,
    start_processes,
    train,
    work_dir,
)

console = Console(soft_wrap=True, markup=False, highlight=False)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="config file")
    parser.add_argument("--work-dir", help="where all results go (work_dirs/<config name>)")
    parser.add_argument(
        "--amp", action="store_true", help="mixed precision: float16 on a GPU, bfloat16 on a CPU"
    )
    parser.add_argument(
        "--auto-scale-lr", action="store_true", help="scale the learning rate with the batch size"
    )
    used = parser.add_mutually_exclusive_group()
    used.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="CHECKPOINT",
        help="go on from the work dir's last checkpoint, or from the one given",
    )
    used.add_argument(
        "--overwrite",
        action="store_true",
        help="start anew in a used work dir; the old one is renamed, not deleted",
    )
    parser.add_argument(
        "--cfg-options", nargs="+", action=DictAction, metavar="NAME=VALUE", help="config changes"
    )
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    parser.add_argument(
        "--local_rank", "--local-rank", type=int, default=0, help="set by launchers"
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    cfg = settings.load_config(args.config, args.cfg_options)
    cfg.launcher = args.launcher
    settings.set_work_dir(cfg, args.work_dir, args.config)
    if args.amp:
        settings.use_amp(cfg)
    if args.auto_scale_lr:
        settings.use_auto_scale_lr(cfg)
    if args.resume:
        settings.use_resume(cfg, args.resume)

    start_processes(cfg)
    if is_main_process():
        if not args.overwrite and not (cfg.get("resume") and cfg.get("load_from")):
            work_dir.refuse_used(cfg.work_dir, cfg.get("resume", False))
        for finding in check_data(cfg):
            console.print(f"data: {finding}")
        check_model(cfg)
        if args.overwrite and (aside := work_dir.move_aside(cfg.work_dir)):
            console.print(f"The earlier training is now in {aside}")
        console.print(f"Training {args.config}; logs and checkpoints go to {cfg.work_dir}")
    train(cfg)
    if is_main_process():
        saved = work_dir.checkpoints_in(cfg.work_dir)
        console.print(f"Done; newest checkpoint: {saved[-1] if saved else 'none was written'}")


if __name__ == "__main__":
    try:
        main()
    except (DataError, SettingError) as error:
        raise SystemExit(f"error: {error}") from None
