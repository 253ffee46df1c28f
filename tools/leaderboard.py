"""Trains many backbones on one small budget, and shows what they score beside what they cost.

leaderboard.py poolformer_s12 caformer_s18 timm/resnet50 --steps 500 --seeds 3
leaderboard.py poolformer_s12 caformer_s18 --configs my_coco_config.py --batch 16 --steps 2000
leaderboard.py --read work_dirs/run_a work_dirs/run_b

A backbone is a name (mmplugins.list_backbones(), timm/<model>), a dict ("dict(type='ResNet',
depth=18)"), or a dict with a name of its own ("tiny=dict(type=...)"). Without --configs they learn
detection, instance and semantic segmentation on the embedded shapes data, from random weights.
Ctrl-C keeps what is there; the same command goes on, also with more backbones or seeds.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

import torch
from mmengine.config import DictAction
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

import mmplugins  # noqa: F401 - puts compat in force before anything of OpenMMLab runs
from mmplugins.benchmark import (
    ResultFile,
    Row,
    Session,
    Settings,
    describe_environment,
    make_report,
    read_results,
)
from mmplugins.benchmark.budget import Budget, settle_budget
from mmplugins.benchmark.html_report import benchmark_section, write_html
from mmplugins.benchmark.leaderboard import (
    board_plots,
    board_section,
    board_tables,
    make_board,
    notes_of_board,
    write_board,
)
from mmplugins.benchmark.plots import save_plots
from mmplugins.benchmark.trials import Trial, plan, run_trial
from mmplugins.benchmark.work_dirs import read_work_dir
from mmplugins.engine import Terminated
from mmplugins.utils import one_line_errors

CONFIGS = Path(__file__).parents[1] / "configs"
SHAPES = {
    "detection": CONFIGS / "retinanet/retinanet_shapes.py",
    "instance": CONFIGS / "mask_rcnn/mask-rcnn_shapes.py",
    "semantic": CONFIGS / "semantic_fpn/semantic-fpn_shapes.py",
}
CONSOLE = Console(width=None if sys.stdout.isatty() else 160, highlight=False)


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("backbones", nargs="*", metavar="BACKBONE", help="what to train; see above")
    add("--tasks", nargs="+", choices=SHAPES, default=list(SHAPES), help="default: all three")
    add("--configs", nargs="+", default=[], metavar="CONFIG", help="recipes in place of these")
    add("--read", nargs="+", default=[], metavar="WORK_DIR", help="also show finished trainings")
    add("--steps", type=int, default=500, help="of each training (500)")
    add("--batch", type=int, default=8, help="pictures per step (8)")
    add("--image-size", type=int, metavar="PIXELS", help="of the shapes (the recipe's own, 128)")
    add("--lr", type=float, help="learning rate (the recipe's own)")
    add("--amp", action="store_true", help="mixed precision")
    add("--seeds", type=int, default=3, help="trainings of each; places need 3 or more (3)")
    add("--cfg-options", nargs="+", action=DictAction, default={}, metavar="NAME=VALUE",
        help="changes of all configs")  # fmt: skip
    add("--cost", metavar="RESULTS", help="costs from a benchmark's .jsonl, measure none")
    add("--cost-size", type=int, nargs=2, default=(512, 512), metavar=("H", "W"),
        help="pictures that latency is measured with (512 512)")  # fmt: skip
    add("--rounds", type=int, default=25, help="samples of each latency (25)")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="of latency")
    add("--out", default="leaderboard", metavar="FOLDER", help="default: %(default)s")
    return parser.parse_args(argv)


class Display:
    """Shows how far all trainings, and then the measuring, are."""

    def __init__(self, progress: Progress):
        self.progress = progress
        self.bar = progress.add_task("", total=None)

    def start(self, total: float) -> None:
        self.progress.reset(self.bar, total=total)

    def at(self, done: float, what: str) -> None:
        self.progress.update(self.bar, completed=done, description=what)

    # What a benchmark's session tells its listener.
    def preparing(self, label: str) -> None:
        self.progress.update(self.bar, description=f"building {Path(label).name}")

    def planned(self, seconds: float) -> None:
        self.start(seconds)

    def sampled(self, sample, seconds: float) -> None:
        label = Path(sample.key.row).name
        self.progress.update(self.bar, advance=seconds, description=f"latency of {label}")

    def failed(self, failure) -> None:
        CONSOLE.print(f"{failure.key.row}: {failure.reason}", markup=False, soft_wrap=True)


def train_all(trials: list[Trial], budget: Budget, out: Path, display: Display) -> list[dict]:
    """Results of all trials; those that are done are read."""
    todo = [trial for trial in trials if trial.done() is None]
    display.start(len(todo) * budget.steps)
    results = [trial.done() for trial in trials if trial not in todo]
    for k, trial in enumerate(todo):
        name = f"{Path(trial.config).stem}, {trial.label}, seed {trial.seed}"
        display.at(k * budget.steps, f"{k + 1}/{len(todo)}  {name}")

        def on_step(step: int, k: int = k, name: str = name) -> None:
            display.at(k * budget.steps + step, f"{k + 1}/{len(todo)}  {name}")

        result = run_trial(trial, budget, out / "shapes", on_step)
        said = result["failure"] or f"{result['score']:.2f}"
        CONSOLE.print(f"{k + 1}/{len(todo)}  {name}: {said}", markup=False, soft_wrap=True)
        results.append(result)
    return results


class Costs:
    """What the models of all trials cost, in a file of results in the folder of the trials.

    Whatever speaks against measuring is said here, as the trainings that come first take long.
    """

    def __init__(self, args: argparse.Namespace):
        self.settings = Settings(
            sizes=(tuple(args.cost_size),),
            measures=("inference", "memory"),
            rounds=args.rounds,
            device=args.device,
            threads=torch.get_num_threads(),
        )
        self.path = Path(args.out) / "cost.jsonl"
        self.environment = describe_environment(args.device)
        if self.path.exists():
            self.file()

    def file(self) -> ResultFile:
        return ResultFile(self.path, self.environment, self.settings.fixed())

    def measure(self, trials: list[Trial], display: Display) -> dict:
        """A benchmark of the whole models of all trials."""
        rows = list(dict.fromkeys(Row(trial.config, trial.backbone) for trial in trials))
        Session(rows, self.settings, self.file(), display).run()
        return make_report(read_results(self.path))


def make(args: argparse.Namespace) -> tuple[dict, dict | None]:
    """The board of the arguments, and the benchmark that its costs are from."""
    out = Path(args.out)
    configs = args.configs or [str(SHAPES[task]) for task in args.tasks]
    budget = Budget(
        args.steps, args.batch, args.image_size, args.lr, args.amp, dict(args.cfg_options)
    )
    trials = plan(configs, args.backbones, args.seeds, out / "trials")
    work_dirs = dict.fromkeys(Path(path) for path in args.read)  # a training counts once
    results = [read_work_dir(path) for path in work_dirs]
    if not trials and not results:
        raise ValueError("Nothing to do: give backbones, for example poolformer_s12, or --read")
    report = make_report(read_results(args.cost)) if args.cost else None
    costs = Costs(args) if trials and not report else None
    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn()
    with Progress(*columns, TimeRemainingColumn(), console=CONSOLE, transient=True) as progress:
        display = Display(progress)
        if trials:
            settle_budget(budget, out)
            results += train_all(trials, budget, out, display)
            if costs:
                report = costs.measure(trials, display)
    environment = describe_environment("cuda" if torch.cuda.is_available() else "cpu")
    return make_board(results, environment, asdict(budget) if trials else None, report), report


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    out = Path(args.out)
    CONSOLE.file = sys.stdout  # also while trials are kept quiet
    try:
        board, report = make(args)
        write_board(board, out)
        parts = [board_section(board, "Leaderboard")]
        parts += [benchmark_section(report, "Cost")] if report else []
        write_html(out / "leaderboard.html", "Leaderboard", parts)
        save_plots(board_plots(board), out / "leaderboard")
    except KeyboardInterrupt as stopped:
        CONSOLE.print("stopped; the same command goes on from here")
        return 143 if isinstance(stopped, Terminated) else 130
    except (ValueError, OSError, json.JSONDecodeError) as error:
        CONSOLE.print(f"error: {error}", markup=False, soft_wrap=True)
        return 1
    for table in board_tables(board):
        CONSOLE.print(table)
    for note in notes_of_board(board):
        CONSOLE.print(note, markup=False, soft_wrap=True)
    CONSOLE.print(
        f"{out}/leaderboard.md, .csv, .json, .html and plots", markup=False, soft_wrap=True
    )
    failed = any(row["failures"] for task in board["tasks"] for row in task["rows"])
    return 2 if failed else 0


if __name__ == "__main__":
    with one_line_errors():
        raise SystemExit(main())
