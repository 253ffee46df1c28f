"""Trains many backbones by one protocol, and shows what they score beside what they cost.

leaderboard.py poolformer_s12 caformer_s18 timm/resnet50 --steps 500 --seeds 3
leaderboard.py caformer_s18 timm/resnet50 --protocol bob-detection --data coco=/data/coco
leaderboard.py poolformer_s12 caformer_s18 --configs my_coco_config.py --batch 16 --steps 2000
leaderboard.py --out leaderboard --show
leaderboard.py --read work_dirs/run_a work_dirs/run_b

A backbone is a name (mmplugins.list_backbones(), timm/<model>), a dict ("dict(type='ResNet',
depth=18)"), or a dict with a name of its own ("tiny=dict(type=...)"). A protocol is a name or a
YAML file; without one they learn detection, instance and semantic segmentation on the embedded
shapes data. Ctrl-C keeps what is there; the same command goes on, also with more backbones or
seeds.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
import yaml
from mmengine.config import DictAction

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
from mmplugins.benchmark.board_plots import board_section
from mmplugins.benchmark.board_tables import board_tables, notes_of_board, write_board
from mmplugins.benchmark.display import Display, display
from mmplugins.benchmark.energy import find_meter
from mmplugins.benchmark.experiment import run_experiment
from mmplugins.benchmark.fields import check_count
from mmplugins.benchmark.html_report import benchmark_section, write_html
from mmplugins.benchmark.jobs import command_of, run_workers, submit, write_plan
from mmplugins.benchmark.leaderboard import make_board, read_board, read_runs, run_key
from mmplugins.benchmark.plots import save_plots
from mmplugins.benchmark.protocol import STARTS, Protocol, ProtocolError, changed
from mmplugins.benchmark.protocol_files import load_protocol, of_recipes, shipped
from mmplugins.benchmark.publish import check_target, publish
from mmplugins.benchmark.runs import RUNS, Run, name_backbones, plan
from mmplugins.benchmark.set_checks import check_backbones, check_sets
from mmplugins.benchmark.settled import agreed, read_settled, settle
from mmplugins.benchmark.trackers import TRACKERS, check_tracker, prepare_tracker
from mmplugins.benchmark.work_dirs import read_work_dir
from mmplugins.console import Console
from mmplugins.engine import Terminated
from mmplugins.utils import few, one_line_errors

CONSOLE = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
QUICK = "shapes-quick"
COMMANDS = "commands.txt"


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("backbones", nargs="*", metavar="BACKBONE", help="what to train; see above")
    add("--protocol", metavar="NAME|FILE.yml", help=f"{', '.join(shipped())}, or a file")
    add("--data", nargs="+", default=[], metavar="SET=FOLDER", help="where a set's data are")
    add("--sets", "--tasks", nargs="+", metavar="SET", help="of the protocol; default: all")
    add("--starts", nargs="+", choices=STARTS, help="in place of the protocol's")
    add("--configs", nargs="+", default=[], metavar="CONFIG", help="recipes as they are")
    add("--read", nargs="+", default=[], metavar="WORK_DIR", help="also show finished trainings")
    add("--steps", type=int, help="of each training, in place of the protocol's (shapes: 500)")
    add("--batch", type=int, help="pictures per step, likewise (shapes: 8)")
    add("--image-size", type=int, metavar="PIXELS", help="of the shapes (the recipe's own, 128)")
    add("--lr", type=float, help="one learning rate, in place of the protocol's")
    add("--amp", action="store_true", default=None, help="mixed precision")
    add("--threads", type=int, help="of each training on a CPU (1); see --workers")
    add("--seeds", type=int, help="trainings of each; ranks need 3 or more (the protocol's, 3)")
    add("--cfg-options", nargs="+", action=DictAction, default={}, metavar="NAME=VALUE",
        help="changes of all configs")  # fmt: skip
    add("--workers", type=int, default=1, metavar="N", help="trainings at a time (1)")
    add("--plan", action="store_true", help="train nothing: write a command per missing run")
    add("--submit", metavar="CLUSTER", help="train by submitit: slurm, or local")
    add("--submit-options", nargs="+", action=DictAction, default={}, metavar="NAME=VALUE",
        help="of submitit's executor: timeout_min=240 slurm_partition=gpu ...")  # fmt: skip
    add("--run", metavar="NAME", help="do one run of the folder, as plans and workers call it")
    add("--show", action="store_true", help="train nothing: show what the folder holds")
    add("--tracker", choices=TRACKERS, help="log the trainings there as well")
    add(
        "--compare", nargs="+", default=[], metavar="BOARD", help="orders of leaderboard.json files"
    )
    add("--publish", metavar="FOLDER", help="write a folder for readers: all but weights and logs")
    add("--cost", metavar="RESULTS", help="costs from a benchmark's .jsonl, measure none")
    add("--no-cost", action="store_true", help="measure no costs")
    add("--cost-size", type=int, nargs=2, default=(512, 512), metavar=("H", "W"),
        help="pictures that latency is measured with (512 512)")  # fmt: skip
    add("--rounds", type=int, default=25, help="samples of each latency (25)")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="of latency")
    add("--out", default="leaderboard", metavar="FOLDER", help="default: %(default)s")
    return parser.parse_args(argv)


def say(text: str) -> None:
    CONSOLE.print(text, markup=False, soft_wrap=True)


def protocol_of(args: argparse.Namespace) -> Protocol:
    """The protocol of the arguments."""
    if args.protocol and args.configs:
        raise ValueError(
            "--protocol and --configs exclude each other: a protocol names its recipes"
        )
    roots = {}
    for text in args.data:
        name, equals, folder = text.partition("=")
        if not equals or name in roots:
            raise ValueError(f"--data {text!r}: expected SET=FOLDER, each set once")
        roots[name] = folder
    if args.configs:
        protocol = of_recipes(args.configs)
    else:
        protocol = load_protocol(args.protocol or QUICK, roots)
    return changed(
        protocol, args.sets, steps=args.steps, batch=args.batch, image_size=args.image_size,
        amp=args.amp, threads=args.threads, options=dict(args.cfg_options), seeds=args.seeds,
        learning_rates=None if args.lr is None else (args.lr,),
        starts=tuple(args.starts) if args.starts else None,
    )  # fmt: skip


def settled(args: argparse.Namespace, out: Path) -> list[Run]:
    """All runs of the arguments; without backbones those of the folder, if it has any."""
    backbones = name_backbones(args.backbones)
    if backbones:
        protocol = protocol_of(args)
        agreed(protocol, backbones, out)
        planned = plan(protocol, backbones, out)
        todo = [] if args.show else [r for r in planned if r.experiment().done() is None]
        with CONSOLE.status("checking backbones and data"):  # a minute or two for all of COCO
            found = [*check_backbones(todo), *check_sets(todo)]
        for finding in found:
            say(f"warning: {finding}")
        settle(protocol, backbones, out)
        return planned
    if args.protocol or args.configs or (out / RUNS).exists():
        try:
            return plan(*read_settled(out), out)
        except ProtocolError:
            if not args.read:
                raise
    return []


def train_all(runs: Sequence[Run], args: argparse.Namespace, shown: Display) -> None:
    """Do what is missing."""
    tool = Path(__file__)
    todo = [run for run in runs if run.experiment().done() is None]
    count = {run.name: k for k, run in enumerate(todo, 1)}

    def ended(run: Run, status: int = 0) -> None:
        result = run.experiment().read()
        if result is None:
            log = run.folder / "worker.log"
            said = "is run elsewhere" if not status else f"its process ended by {status}, see {log}"
        else:
            said = result["failure"] or f"{result['score']:.2f}"
        say(f"{count[run.name]}/{len(todo)}  {run.name}: {said}")

    if args.workers > 1:
        shown.start(len(todo))
        done = []

        def on_end(run: Run, status: int) -> None:
            done.append(run)
            ended(run, status)
            shown.at(len(done), f"{len(done)}/{len(todo)}")

        commands = [command_of(run, tool, args.tracker) for run in todo]
        run_workers(todo, commands, args.workers, runs[0].protocol.budget.threads, on_end)
        return
    shown.start(len(todo))
    for run in todo:
        budget = run.protocol.budget

        def on_step(step: int, run: Run = run, steps: int = budget.steps) -> None:
            k = count[run.name]
            shown.at(k - 1 + min(step / steps, 1), f"{k}/{len(todo)}  {run.name}")

        run_experiment(run.experiment(args.tracker), on_step)
        ended(run)


class Costs:
    """What the models of all runs cost, in a file of results in the folder of the runs.

    Whatever speaks against measuring is said here, as the trainings that come first take long.
    """

    def __init__(self, args: argparse.Namespace):
        self.environment = describe_environment(args.device)
        self.settings = Settings(
            sizes=(tuple(args.cost_size),),
            measures=("inference", "memory", *(["energy"] if find_meter(args.device) else [])),
            rounds=args.rounds,
            device=args.device,
            threads=torch.get_num_threads(),
        )
        self.path = Path(args.out) / "cost.jsonl"
        if self.path.exists():
            self.file()

    def file(self) -> ResultFile:
        return ResultFile(self.path, self.environment, self.settings.fixed())

    def measure(self, runs: Sequence[Run], shown: Display) -> dict:
        """A benchmark of the whole models of all runs."""
        rows = list(dict.fromkeys(Row(run.set.recipe, run.backbone) for run in runs))
        Session(rows, self.settings, self.file(), shown).run()
        return make_report(read_results(self.path))


def do_one(args: argparse.Namespace) -> int:
    """``--run``: one run of a folder; 0 if it is done or run elsewhere, 2 if it failed."""
    out = Path(args.out)
    runs = {run.name: run for run in plan(*read_settled(out), out)}
    if args.run not in runs:
        raise ValueError(f"--run {args.run!r}: {out} plans {few(list(runs), 3)}")
    result = run_experiment(runs[args.run].experiment(args.tracker))
    said = "is run elsewhere" if result is None else result["failure"] or f"{result['score']:.2f}"
    say(f"{args.run}: {said}")
    return 2 if result and result["failure"] else 0


def make(
    args: argparse.Namespace, runs: list[Run], report: dict | None
) -> tuple[dict, dict | None]:
    """The board of the arguments, and the benchmark that its costs are from."""
    out = Path(args.out)
    work_dirs = dict.fromkeys(Path(path) for path in args.read)  # a training counts once
    results = [read_work_dir(path) for path in work_dirs]
    others = {Path(path).parent.name or path: read_board(path) for path in args.compare}
    costs = None if report or args.no_cost or args.show or not runs else Costs(args)
    with display(CONSOLE, say) as shown:
        if runs and not args.show:
            train_all(runs, args, shown)
        if costs:
            report = costs.measure(runs, shown)
    if args.show and not report and (out / "cost.jsonl").is_file():
        report = make_report(read_results(out / "cost.jsonl"))
    protocol, missing = None, []
    if runs:
        trained = read_runs(out / RUNS)
        there = set(map(run_key, trained))
        missing = [run.name for run in runs if run_key(run.about) not in there]
        results += trained
        protocol = read_settled(out)[0].plain()
    environment = describe_environment("cuda" if torch.cuda.is_available() else "cpu")
    return make_board(results, environment, protocol, report, others, missing), report


def hand_out(args: argparse.Namespace, runs: list[Run], out: Path) -> None:
    """``--plan`` and ``--submit``: let others do what is missing."""
    todo = [run for run in runs if run.experiment().done() is None]
    commands = [command_of(run, __file__, args.tracker) for run in todo]
    if args.submit:
        jobs = submit(commands, args.submit, out, dict(args.submit_options))
        say(f"{len(jobs)} jobs, {few([job.job_id for job in jobs])}; then: --out {out} --show")
    else:
        say(f"{write_plan(commands, out)}: {len(commands)} commands; then: --out {out} --show")


def note_command(argv: list[str] | None, out: Path) -> None:
    """Keep what was called, for readers of the results."""
    with (out / COMMANDS).open("a", encoding="utf-8") as file:
        words = ["python", "tools/leaderboard.py", *(sys.argv[1:] if argv is None else argv)]
        file.write(json.dumps(words) + "\n")


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    out = Path(args.out)
    CONSOLE.file = sys.stdout  # also while trainings are kept quiet
    try:
        check_count("--workers", args.workers)
        if args.tracker:
            check_tracker(args.tracker)
        if args.publish:
            check_target(Path(args.publish))
        if args.run:
            return do_one(args)
        report = make_report(read_results(args.cost)) if args.cost else None
        runs = settled(args, out)
        if not runs and not args.read:
            raise ValueError("Nothing to do: give backbones, for example poolformer_s12, or --read")
        out.mkdir(parents=True, exist_ok=True)
        note_command(argv, out)
        if args.tracker and runs:
            prepare_tracker(args.tracker, runs[0].protocol.name, out)
        if (args.plan or args.submit) and runs:
            hand_out(args, runs, out)
            return 0
        board, report = make(args, runs, report)
        write_board(board, out)
        parts = [board_section(board, "Leaderboard")]
        parts += [benchmark_section(report, "Cost")] if report else []
        write_html(out / "leaderboard.html", "Leaderboard", parts)
        plots = parts[0].plots
        save_plots(plots, out / "leaderboard")
        if args.publish:
            lines = (out / COMMANDS).read_text(encoding="utf-8").splitlines()
            publish(board, plots, [json.loads(line) for line in lines], out, Path(args.publish))
    except KeyboardInterrupt as stopped:
        say("stopped; the same command goes on from here")
        return 143 if isinstance(stopped, Terminated) else 130
    except (ValueError, OSError, yaml.YAMLError) as error:
        say(f"error: {error}")
        return 1
    for table in board_tables(board):
        CONSOLE.print(table)
    for note in notes_of_board(board):
        say(note)
    say(f"{out}/leaderboard.md, .csv, .json, .html and plots")
    results = [run.experiment().read() for run in runs]
    unfinished = any(r["failure"] if r else not args.show for r in results)
    return 2 if unfinished else 0


if __name__ == "__main__":
    with one_line_errors():
        raise SystemExit(main())
