"""The ablation of RIFormer's distillation on the shapes data: what each part of it is worth.

RIFormer-S12 alone; with its teacher's soft labels; with module imitation as well; and with the
teacher's weights to start from as well; beside PoolFormer-S12, the teacher. All start from random
weights and train for the same number of steps on the same pictures in the same order. Each run's
result is a file in --out: called again, the study does what is missing, and writes the table and
the plot anew. Another budget needs another --out.
"""

import argparse
import copy
import os
import platform
import statistics
from pathlib import Path

import torch
from matplotlib.figure import Figure
from mmengine.config import Config
from rich.console import Console
from rich.progress import track

import mmplugins  # noqa: F401 - puts compat in force before anything of OpenMMLab runs
from mmplugins.benchmark.budget import schedule, shapes_loaders, use_shapes, warm_up_steps
from mmplugins.benchmark.experiment import Experiment, run_experiment
from mmplugins.checkpoint import save_weights
from mmplugins.engine.config import settings
from mmplugins.utils import one_line_errors, write_whole
from mmplugins.visualization.figures import save_figure

CONFIGS = Path(__file__).parents[2] / "configs"
TEACHER = "PoolFormer-S12, the teacher"
ROWS = (TEACHER, "RIFormer-S12", "+ soft labels", "+ module imitation", "+ inheritance")
"""From the second on, each row has what the rows above it have."""

TASKS = {
    # name: recipe, term of the scores, task of a trial, title in the table
    "semantic-fpn": (
        "semantic_fpn/semantic-fpn_shapes.py",
        dict(pixel_scores=dict(weight=1.0, temperature=2.0)),
        "semantic",
        "Semantic FPN, mIoU",
    ),
    "retinanet": (
        "retinanet/retinanet_shapes.py",
        dict(anchor_scores=dict(weight=1.0)),
        "detection",
        "RetinaNet, box AP",
    ),
}
PAPER = (75.01, 72.31, 74.05, 75.13, 75.36)
"""ImageNet top-1 of the paper's ablation, S12 in a short schedule, in the order of the rows."""

console = Console(soft_wrap=True, highlight=False)


def run_config(task: str, row: str, seed: int, args: argparse.Namespace) -> Config:
    """The config of one run: the recipe, the budget, and for the later rows a Distiller."""
    recipe, scores, _, _ = TASKS[task]
    cfg = Config.fromfile(CONFIGS / recipe)
    for loader in shapes_loaders(cfg):
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.generate.update(num_train=args.train, num_val=args.val)
    use_shapes(cfg, args.out / "shapes", args.image_size)
    cfg.train_dataloader.update(
        batch_size=args.batch, sampler=dict(type="InfiniteSampler", shuffle=True)
    )
    cfg.train_dataloader.pop("batch_sampler", None)
    steps = args.iterations
    cfg.train_cfg = dict(type="IterBasedTrainLoop", max_iters=steps, val_interval=steps + 1)
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.lr is not None:
        cfg.optim_wrapper.optimizer.lr = args.lr
    cfg.param_scheduler = schedule(steps)
    cfg.log_processor.by_epoch = False
    # mmengine's own hooks without its checkpoints: a run takes a minute and leaves its result only.
    cfg.default_hooks = dict(checkpoint=None, logger=dict(type="LoggerHook", interval=20))
    cfg.randomness, cfg.log_level = dict(seed=seed), "ERROR"
    cfg.work_dir = str(args.out / "runs" / f"{task}_{seed}_{ROWS.index(row)}")
    if args.amp:
        settings.use_amp(cfg)

    if row == TEACHER:
        return cfg
    teacher, student = cfg.model, copy.deepcopy(cfg.model)
    student.backbone.type = "RIFormer"
    level = ROWS.index(row) - 1
    if not level:
        cfg.model = student
        return cfg
    terms = dict(scores)
    if level > 1:
        imitation = Config.fromfile(CONFIGS / "_base_/distillation.py").distillation
        terms |= {name: dict(term, warmup=warm_up_steps(steps)) for name, term in imitation.items()}
    cfg.model = dict(
        type="Distiller",
        student=student,
        teacher=teacher,
        teacher_checkpoint=str(teacher_file(task, seed, args)),
        terms=terms,
        inherit=level > 2,
    )
    return cfg


def teacher_file(task: str, seed: int, args: argparse.Namespace) -> Path:
    return args.out / f"{task}_{seed}_teacher.pth"


def experiment(task: str, row: str, seed: int, args: argparse.Namespace) -> Experiment:
    """A run: trained and tested once, the teacher's weights kept."""

    def keep(runner) -> None:
        if row == TEACHER:
            save_weights(
                runner.model.state_dict(), teacher_file(task, seed, args),
                payload="state_dict", overwrite=True,
            )  # fmt: skip

    return Experiment(
        args.out / "runs" / f"{task}_{seed}_{ROWS.index(row)}",
        dict(study="distillation", head=task, row=row, seed=seed, budget=budget(args)),
        lambda: run_config(task, row, seed, args),
        report="test",
        threads=torch.get_num_threads(),
        after=keep,
    )


def budget(args: argparse.Namespace) -> dict:
    """What all runs of a study have in common."""
    names = ("iterations", "batch", "image_size", "train", "val", "lr", "amp")
    return {name: getattr(args, name) for name in names}


def do_run(task: str, row: str, seed: int, args: argparse.Namespace) -> float:
    """Train and test once, and keep the result; returns the score.

    Raises:
        RuntimeError: If it failed.
    """
    result = run_experiment(experiment(task, row, seed, args))
    if result is None or result["failure"]:
        raise RuntimeError(
            f"{task}, {row}, seed {seed}: {result['failure'] if result else 'is run elsewhere'}"
        )
    return result["score"]


def read_results(args: argparse.Namespace) -> dict[tuple[str, str], list[float]]:
    """Values of all seeds by task and row.

    Raises:
        ValueError: If a result is there from another budget.
    """
    values: dict[tuple[str, str], list[float]] = {}
    for task in args.tasks:
        for row in ROWS:
            for seed in range(args.seeds):
                if result := experiment(task, row, seed, args).done():
                    values.setdefault((task, row), []).append(result["score"])
    return values


def spread(values: list[float]) -> str:
    """Mean, and standard deviation over the seeds."""
    if len(values) < 2:
        return f"{values[0]:.1f}" if values else "-"
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"


def table(values: dict[tuple[str, str], list[float]], args: argparse.Namespace) -> str:
    """The study in Markdown."""
    titles = [TASKS[task][3] for task in args.tasks]
    lines = [
        f"| | {' | '.join(f'{title} | seeds' for title in titles)} | paper, ImageNet top-1 |",
        "| --- |" + " ---: | --- |" * len(titles) + " ---: |",
    ]
    for row, published in zip(ROWS, PAPER, strict=True):
        cells = []
        for task in args.tasks:
            found = values.get((task, row), [])
            cells += [spread(found), ", ".join(f"{value:.1f}" for value in found) or "-"]
        lines.append(f"| {row} | {' | '.join(cells)} | {published} |")
    rate = f"learning rate {args.lr}" if args.lr is not None else "the recipes' learning rates"
    lines += [
        "",
        f"Mean ± standard deviation over {args.seeds} seeds. {args.iterations} steps of "
        f"{args.batch} pictures of {args.image_size} pixels from random weights, "
        f"{args.train} pictures to learn from, {args.val} to test on, "
        f"{'bfloat16' if args.amp else 'float32'}, {rate}. "
        f"torch {torch.__version__}, {platform.machine()}, {os.cpu_count()} CPU cores. "
        "The teacher has the budget of a student; what it learnt is not counted as the student's.",
    ]
    return "\n".join(lines) + "\n"


def plot(values: dict[tuple[str, str], list[float]], args: argparse.Namespace) -> None:
    """One panel per task: the mean as a line, every seed as a dot, the teacher dashed."""
    figure = Figure(figsize=(5.5 * len(args.tasks), 4))
    panels = figure.subplots(1, len(args.tasks), squeeze=False)[0]
    for panel, task in zip(panels, args.tasks, strict=True):
        shown = [(row, values[task, row]) for row in ROWS[1:] if (task, row) in values]
        for i, (_, found) in enumerate(shown):
            panel.scatter([i] * len(found), found, s=18, color="tab:blue", alpha=0.6)
        panel.plot([statistics.mean(found) for _, found in shown], color="tab:blue")
        if teacher := values.get((task, TEACHER)):
            panel.axhline(statistics.mean(teacher), color="gray", linestyle="--", label=TEACHER)
            panel.legend(loc="best")
        panel.set_xticks(range(len(shown)), [row for row, _ in shown], rotation=15)
        panel.set_ylabel(TASKS[task][3])
    figure.tight_layout()
    save_figure(figure, args.out / "study.png", dpi=120)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=Path("work_dirs/distillation_study"))
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0, 1 ...")
    parser.add_argument("--iterations", type=int, default=500, help="training steps of a run")
    parser.add_argument("--batch", type=int, default=8, help="pictures of a step")
    parser.add_argument("--image-size", type=int, default=128, help="pixels")
    parser.add_argument("--train", type=int, default=1200, help="pictures to learn from")
    parser.add_argument("--val", type=int, default=240, help="pictures to test on")
    parser.add_argument("--lr", type=float, help="learning rate of AdamW, else the recipes' own")
    parser.add_argument("--amp", action="store_true", help="bfloat16 on a CPU")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    runs = [(t, seed, row) for seed in range(args.seeds) for t in args.tasks for row in ROWS]
    read_results(args)  # refuses results of another budget before anything is done
    todo = [run for run in runs if not experiment(run[0], run[2], run[1], args).done()]
    console.print(f"{len(runs)} runs, {len(runs) - len(todo)} of them done before")
    for task, seed, row in track(todo, "runs", console=console):
        console.print(f"{task}, seed {seed}, {row}: {do_run(task, row, seed, args):.1f}")
    values = read_results(args)
    write_whole(args.out / "study.md", table(values, args))
    plot(values, args)
    console.print(table(values, args), markup=False)
    console.print(f"Table and plot are in {args.out}", markup=False)


if __name__ == "__main__":
    with one_line_errors(RuntimeError, ValueError):
        main()
