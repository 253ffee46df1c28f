"""Trains a config of mmdet or mmseg, with the flags of their own tools."""

import argparse
import os

from mmengine.config import Config
from mmengine.dist import is_main_process

import mmplugins  # noqa: F401 - puts compat in force before anything of OpenMMLab runs
from mmplugins.checkpoint import CheckpointError
from mmplugins.checks import DataError, failures, preflight, summary, table_of
from mmplugins.console import Console
from mmplugins.engine import (
    DivergedError,
    SettingError,
    Terminated,
    check_model,
    how_to_go_on,
    launched,
    load_composed,
    restarted,
    start_processes,
    train,
    work_dir,
)
from mmplugins.engine.config import arguments, settings
from mmplugins.engine.resume.interruption import signals_interrupt
from mmplugins.engine.resume.training_folder import resumable_files
from mmplugins.utils import WriteError, one_line_errors

console = Console(soft_wrap=True, markup=False, highlight=False)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    arguments.add_config(parser)
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
        "--no-check", action="store_true", help="train without the checks of tools/check.py"
    )
    arguments.add_compiler(parser)
    arguments.add_launcher(parser)
    return parser.parse_args()


def check(cfg: Config, processes: int) -> None:
    """Show what preflight finds, and stop if training would fail."""
    results = preflight(cfg, processes=processes)
    console.print(table_of(results), soft_wrap=False)
    failed = failures(results)
    if failed:
        names = ", ".join(dict.fromkeys(result.name for result in failed))
        raise SettingError(
            f"{summary(results)} ({names}): correct what the table names, or add --no-check to "
            "train anyway; nothing was written"
        )


def main() -> None:
    args = parse_args()
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    cfg = load_composed(args.config, args.backbone, args.cfg_options)
    cfg.launcher = args.launcher
    settings.set_work_dir(cfg, args.work_dir, args.config)
    settings.use_own_hooks(cfg)
    if args.amp:
        settings.use_amp(cfg)
    if args.compile:
        settings.use_compiler(cfg, args.memory_budget)
    if args.auto_scale_lr:
        settings.use_auto_scale_lr(cfg)
    if restarted():  # go on, from here if it came so far, and move nothing aside again
        args.overwrite, args.no_check = False, True
        if args.resume in (None, "auto") or resumable_files(cfg.work_dir):
            args.resume = "auto"
    if args.resume:
        settings.use_resume(cfg, args.resume)

    try:
        with signals_interrupt():
            run(cfg, args)
    except KeyboardInterrupt as stopped:
        if launched(args.launcher)[0] == 0:
            console.print(how_to_go_on(cfg.work_dir))
        raise SystemExit(143 if isinstance(stopped, Terminated) else 130) from None


def run(cfg: Config, args: argparse.Namespace) -> None:
    """Check, join the other processes, and train."""
    rank, processes = launched(args.launcher)
    if rank == 0:
        work_dir.refuse_used(cfg.work_dir, args.overwrite or work_dir.goes_on(cfg))
        if not args.no_check:
            check(cfg, processes)  # before the processes join: it is alone
    start_processes(cfg)
    if is_main_process():
        if args.no_check:
            check_model(cfg)
        if args.overwrite and (aside := work_dir.move_aside(cfg.work_dir)):
            console.print(f"The earlier training is now in {aside}")
        console.print(f"Training {args.config}; logs and checkpoints go to {cfg.work_dir}")
    train(cfg)
    if is_main_process():
        saved = work_dir.checkpoints_in(cfg.work_dir)
        console.print(f"Done; newest checkpoint: {saved[-1] if saved else 'none was written'}")


if __name__ == "__main__":
    with one_line_errors(CheckpointError, DataError, DivergedError, SettingError, WriteError):
        main()
