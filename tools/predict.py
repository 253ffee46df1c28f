"""Predicts on pictures with a trained, deployed or exported model.

The model is `CONFIG CHECKPOINT`, a checkpoint that holds its config, a model folder, or an exported
file. Inputs are files, folders, patterns in quotes, videos, and `-` for a list on standard input.
"""

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

import mmplugins  # noqa: F401 - puts compat in force before anything of OpenMMLab runs
from mmplugins.checkpoint import CheckpointError
from mmplugins.console import Console
from mmplugins.deployment.errors import ExportError
from mmplugins.engine import SettingError
from mmplugins.engine.config.arguments import OptionsAction
from mmplugins.inference import InputError, find_inputs, load_model, stream
from mmplugins.inference.inputs import frame_count
from mmplugins.inference.writing import Writer
from mmplugins.utils import WriteError, one_line_errors, written_aside

console = Console(soft_wrap=True, markup=False, highlight=False, stderr=True)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, usage="%(prog)s [CONFIG] MODEL INPUT ... [options]"
    )
    parser.add_argument("words", nargs="+", metavar="MODEL INPUT", help="model, then inputs")
    parser.add_argument("--out", help="folder for the results (predictions)")
    parser.add_argument("--overwrite", action="store_true", help="replace earlier results in it")
    parser.add_argument("--no-pictures", action="store_true", help="draw nothing")
    parser.add_argument(
        "--json", metavar="FILE", help="one line of JSON per picture; `-` is standard output"
    )
    parser.add_argument("--annotations", help="COCO file whose image and category ids to use")
    parser.add_argument("--score-thr", type=float, default=0.3, help="lowest score that counts")
    parser.add_argument("--classes", nargs="+", help="names or indices of the classes to keep")
    parser.add_argument("--device", help="cpu, cuda:0, ... (the first GPU)")
    parser.add_argument("--batch-size", type=int, default=1, help="pictures of one size at once")
    parser.add_argument("--tile", type=int, metavar="SIZE", help="cut pictures into tiles")
    parser.add_argument("--overlap", type=int, help="pixels that tiles share (a fifth of SIZE)")
    parser.add_argument("--deploy", action="store_true", help="fold the model: the same, faster")
    parser.add_argument("--backbone", metavar="NAME_OR_DICT", help="as it was trained with")
    parser.add_argument("--trust", action="store_true", help="run code in a checkpoint's config")
    parser.add_argument(
        "--cfg-options", nargs="+", action=OptionsAction, metavar="NAME=VALUE", help="changes"
    )
    args = parser.parse_intermixed_args()  # options may stand between the model and the inputs
    named = Path(args.words[0]).suffix == ".py" or "::" in args.words[0]
    count = 2 if named else 1
    args.model, args.inputs = args.words[:count], args.words[count:]
    if len(args.model) < count or not args.inputs:
        parser.error("expected a model and at least one input: CONFIG CHECKPOINT INPUT ...")
    return args


def main() -> None:
    args = parse_args()
    sources = find_inputs(args.inputs, sys.stdin)
    model = load_model(
        *args.model,
        device=args.device,
        backbone=args.backbone,
        options=args.cfg_options,
        deploy=args.deploy,
        trust=args.trust,
    )
    progress = bar()
    counts = [frame_count(source.name) if source.is_video else 1 for source in sources]
    known = None if None in counts else sum(counts)
    pictures = progress.add_task("Predicting", total=known, speed="")
    tiles = progress.add_task("Tiles", total=None, speed="", visible=args.tile is not None)

    def tiles_done(count: int, total: int) -> None:
        if not count:
            progress.reset(tiles, total=total)
        advance(progress, tiles, count, "tiles")

    results = stream(
        model,
        sources,
        tiles_done=tiles_done,
        score_thr=args.score_thr,
        classes=args.classes,
        batch_size=args.batch_size,
        tile=args.tile,
        overlap=args.overlap,
    )
    folder = args.out or (None if args.json else "predictions")
    failed = []
    with ExitStack() as stack:
        lines = sys.stdout if args.json == "-" else None
        if args.json and lines is None:
            aside = stack.enter_context(written_aside(args.json))
            lines = stack.enter_context(aside.open("w", encoding="utf-8"))
        writer = Writer(
            model,
            folder,
            pictures=not args.no_pictures,
            lines=lines,
            annotations=args.annotations,
            overwrite=args.overwrite,
        )
        stack.enter_context(progress)
        for number, (found, pixels) in enumerate(results, 1):
            writer.add(found, pixels)
            if found.error is not None:
                failed.append(found.error)
                progress.console.print(f"passed over: {found.error}")
            advance(progress, pictures, number, "images")
        written = writer.close()
    for path in written:
        console.print(f"Wrote {path}")
    if failed:
        raise SystemExit(f"error: {len(failed)} of the inputs passed over, named above")


def bar() -> Progress:
    """Progress with speed and the time that is left, on standard error."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
        console=console,
    )


def advance(progress: Progress, task: TaskID, count: int, unit: str) -> None:
    """Show how many are done, and how many a second."""
    speed = progress.tasks[task].speed
    progress.update(task, completed=count, speed=f"{speed:.1f} {unit}/s" if speed else "")


if __name__ == "__main__":
    with one_line_errors(CheckpointError, ExportError, InputError, SettingError, WriteError):
        main()
