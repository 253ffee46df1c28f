"""Measures backbones and whole models, side by side in one interleaved run.

benchmark.py poolformer_s12 caformer_s18:deploy timm/resnet50
benchmark.py caformer_s18 --peers --sizes 512x512 800x1280 --batches 1 8
benchmark.py configs/mask_rcnn/mask-rcnn_1x_coco.py --backbone poolformer_s12 caformer_s18
benchmark.py convformer_s18 --variants plain deploy deploy,compile --device cuda

A row is a backbone (mmplugins.list_backbones(), timm/<model>), a config file,
CONFIG.py@BACKBONE, or an exported file, with options after a colon: deploy, channels_last, compile,
bf16, fp16, with_cp; onnxruntime, openvino and openvino,bf16 or openvino,int8 run it elsewhere.
"""

import argparse
import sys
from pathlib import Path

import torch

import mmplugins  # noqa: F401 - puts compat in force before anything of OpenMMLab runs
from mmplugins.benchmark import (
    MEASURES,
    USUAL,
    ResultFile,
    Session,
    Settings,
    csv_text,
    describe_environment,
    expand,
    make_report,
    markdown,
    notes_of,
    parse_row,
    read_results,
    rich_tables,
    with_peers,
    write_report,
)
from mmplugins.benchmark.display import display
from mmplugins.benchmark.rows import Row
from mmplugins.console import Console
from mmplugins.utils import one_line_errors, write_whole

GROWTH_SIZES = ((256, 256), (384, 384), (512, 512), (768, 768))

CONSOLE = Console(width=None if sys.stdout.isatty() else 160, highlight=False)


def parse_size(text: str) -> tuple[int, int]:
    """``'800x1280'`` (height x width), or ``'512'`` for a square."""
    sides = text.lower().split("x")
    if not 1 <= len(sides) <= 2 or not all(side.isdigit() and int(side) for side in sides):
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected HEIGHTxWIDTH in pixels, such as 800x1280"
        )
    return int(sides[0]), int(sides[-1])


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("rows", nargs="*", metavar="ROW", help="what to measure; see above")
    add("--backbone", nargs="+", default=[], metavar="NAME", help="as rows, or in each config")
    add("--variants", nargs="+", default=[], metavar="OPTIONS", help="each row in these forms")
    add("--peers", action="store_true", help="add timm and mmpretrain with the same weights")
    add("--sizes", nargs="+", type=parse_size, metavar="HxW", help="default: 512x512")
    add("--growth", action="store_true", help="latency against pixels, from 256x256 to 768x768")
    add("--batches", nargs="+", type=int, default=[1], metavar="N", help="default: 1")
    words = "default: all but operations"
    add("--measure", nargs="+", choices=MEASURES, default=USUAL, help=words)
    add("--rounds", type=int, default=25, help="samples of each time; ranks need 7 or more (25)")
    add("--device", default="cpu", help="cpu, cuda, cuda:1 ...; default: cpu")
    add("--threads", type=int, help="threads on a CPU; default: PyTorch's own choice")
    add("--seed", type=int, default=0, help="for the orders of rounds")
    add("--out", default="benchmark_results.jsonl", help="file of results; default: %(default)s")
    add("--show", action="store_true", help="measure nothing, only show the file of results")
    return parser.parse_args(argv)


def rows_of(args: argparse.Namespace) -> list[Row]:
    """All rows that the arguments ask for."""
    rows = [parse_row(text) for text in args.rows]
    backbones = [parse_row(text) for text in args.backbone]
    configs = [row for row in rows if row.whole and not row.backbone]
    if configs and backbones:
        rows = [row for row in rows if row not in configs]
        rows += [parse_row(f"{c.name}@{b.label}") for c in configs for b in backbones]
    else:
        rows += backbones
    rows = expand(rows, args.variants)
    if not rows:
        raise ValueError("Nothing to measure: give at least one row, for example poolformer_s12")
    return with_peers(rows) if args.peers else rows


def say(text: str) -> None:
    CONSOLE.print(text, markup=False, soft_wrap=True)


def measure(args: argparse.Namespace) -> bool:
    """Run the session of the arguments, to its end or until Ctrl-C; whether it came to its end."""
    if args.threads:
        torch.set_num_threads(args.threads)
    sizes = args.sizes or (() if args.growth else ((512, 512),))
    settings = Settings(
        sizes=tuple(dict.fromkeys([*sizes, *(GROWTH_SIZES if args.growth else ())])),
        batches=tuple(dict.fromkeys(args.batches)),
        measures=tuple(args.measure),
        rounds=args.rounds,
        device=args.device,
        threads=torch.get_num_threads(),
        seed=args.seed,
        peers=args.peers,
    )
    rows = rows_of(args)
    file = ResultFile(args.out, describe_environment(args.device), settings.fixed())
    try:
        with display(CONSOLE, say) as listener:
            Session(rows, settings, file, listener).run()
    except KeyboardInterrupt:
        say("stopped; the same command goes on from here")
        return False
    return True


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        whole = args.show or measure(args)
        report = make_report(read_results(args.out))
        out = Path(args.out)
        write_report(report, out.with_suffix(".json"))
        write_whole(out.with_suffix(".md"), markdown(report))
        write_whole(out.with_suffix(".csv"), csv_text(report))
    except (ValueError, OSError) as error:
        say(f"error: {error}")
        return 1
    for table in rich_tables(report):
        CONSOLE.print(table)
    for note in notes_of(report):
        say(note)
    say(f"{out}, and beside it .json, .md and .csv")
    return 0 if whole else 130


if __name__ == "__main__":
    with one_line_errors():
        raise SystemExit(main())
