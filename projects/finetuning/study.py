"""Trains the same recipe from pretrained and from random weights, some stages frozen or none.

study.py detection --data data/bccd --backbone timm/efficientnet_lite0 --weights lite0.pth
study.py segmentation --data data/camvid --backbone timm/mobilenetv2_100 --weights mobilenet.pth
study.py starts --data data/camvid

The first two compare arms with and without weights; the third compares starts from random weights.
Same budget for all, three seeds each; what is done is kept, and the same command goes on.
"""

import argparse
import dataclasses
import functools
import importlib.util
import json
import statistics
from pathlib import Path

from mmengine.config import Config
from rich.console import Console

import mmplugins  # noqa: F401 - puts compat in force before anything of OpenMMLab runs
from mmplugins.benchmark.budget import Budget, schedule, use_budget
from mmplugins.benchmark.environment import describe_environment
from mmplugins.benchmark.experiment import Experiment, run_experiment
from mmplugins.engine import compose, load_config
from mmplugins.engine.config import settings
from mmplugins.utils import write_whole

HERE = Path(__file__).parent
CONSOLE = Console(highlight=False, soft_wrap=True)
BASELINE = dict(type="PoolFormer", arch="s12")
MMPRETRAIN = dict(type="mmpretrain.PoolFormer", arch="s12", out_indices=(0, 2, 4, 6))
LAYER_DECAY = dict(
    constructor="LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(decay_rate=0.8, decay_type="layer_wise"),
)


def arms_of_weights(name: str, weights: str) -> dict[str, tuple[dict, dict]]:
    """Backbone and further changes of the config, by the name of the arm."""
    model = dict(type="TimmBackbone", model_name=name.removeprefix("timm/"))
    start = dict(init_cfg=dict(type="Pretrained", checkpoint=weights))
    # The recipes say what a backbone is given in BGR: read as it is, red and blue change places.
    swapped = {"model.data_preprocessor.bgr_to_rgb": False}
    return {
        "random": (model, {}),
        "pretrained": (model | start, {}),
        "pretrained, stem frozen": (model | start | dict(frozen_stages=0), {}),
        "pretrained, stage 0 frozen": (model | start | dict(frozen_stages=1), {}),
        "pretrained, all frozen": (model | start | dict(frozen_stages=4), {}),
        "random, all frozen": (model | dict(frozen_stages=4), {}),
        "pretrained, layer decay 0.8": (model | start, {"optim_wrapper": LAYER_DECAY}),
        "pretrained, all frozen, red and blue swapped": (
            model | start | dict(frozen_stages=4),
            swapped,
        ),
    }


def arms_of_starts(steps: int) -> dict[str, tuple[dict, dict]]:
    """Random starts of PoolFormer-S12, and of a ResNet beside it; without mmpretrain, not its."""

    def timm(name: str) -> dict:
        return dict(type="TimmBackbone", model_name=name)

    theirs = {}
    if importlib.util.find_spec("mmpretrain"):
        import mmpretrain.models  # noqa: F401 - registers them

        theirs["PoolFormer-S12 of mmpretrain"] = MMPRETRAIN, {}
    return theirs | {
        "ResNet-18": (timm("resnet18"), {}),
        "PoolFormer-S12": (BASELINE, {}),
        "PoolFormer-S12 of timm": (timm("poolformer_s12"), {}),
        "layer scale 0.1": (BASELINE | dict(layer_scale=0.1), {}),
        "layer scale 1": (BASELINE | dict(layer_scale=1.0), {}),
        "layer scale 1, lr 3e-4": (
            BASELINE | dict(layer_scale=1.0),
            {"optim_wrapper.optimizer.lr": 3e-4},
        ),
        "layer scale 1, lr 3e-3": (
            BASELINE | dict(layer_scale=1.0),
            {"optim_wrapper.optimizer.lr": 3e-3},
        ),
        "lr 3e-3": (BASELINE, {"optim_wrapper.optimizer.lr": 3e-3}),
        "warm-up of a third": (BASELINE, {"param_scheduler": schedule(steps, warm_up=steps // 3)}),
        "layer scale 1, no output norm": (BASELINE | dict(layer_scale=1.0, out_norm=None), {}),
        "layer scale 1, batch norm": (BASELINE | dict(layer_scale=1.0, norm1="BN"), {}),
        "ConvNeXt-T": (dict(type="ConvNeXt", arch="tiny"), {}),
        "ConvNeXt-T, layer scale 1": (dict(type="ConvNeXt", arch="tiny", layer_scale=1.0), {}),
    }


def options(recipe: str, data: Path) -> dict:
    """Where the data are, as changes of a recipe."""
    found = {f"{split}_dataloader.dataset.data_root": str(data) for split in ("train", "val")}
    if recipe == "detection":
        found["val_evaluator.ann_file"] = str(data / "annotations/instances_val.json")
    return found


def config_of(
    recipe: str, backbone: dict, changes: dict, budget: Budget, folder: Path, seed: int
) -> Config:
    """The config of one training."""
    cfg = compose(load_config(HERE / f"{recipe}.py"), repr(backbone))
    use_budget(cfg, budget, None, folder, seed)
    settings.merge_options(cfg, {**budget.options, **changes})
    return cfg


def summary(results: list[dict]) -> str:
    """Mean and standard deviation of each arm, as a table in markdown."""
    lines = ["| arm | mean | deviation | seeds | scores |", "| --- | --: | --: | --: | --- |"]
    for arm in dict.fromkeys(result["label"] for result in results):
        scores = [r["score"] for r in results if r["label"] == arm and r["score"] is not None]
        if not scores:
            lines.append(f"| {arm} | failed | | | |")
            continue
        spread = f"{statistics.stdev(scores):.2f}" if len(scores) > 1 else "-"
        shown = ", ".join(f"{score:.2f}" for score in scores)
        lines.append(
            f"| {arm} | {statistics.mean(scores):.2f} | {spread} | {len(scores)} | {shown} |"
        )
    return "\n".join(lines) + "\n"


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["detection", "segmentation", "starts"])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--backbone", default="timm/efficientnet_lite0", help="%(default)s")
    parser.add_argument("--weights", help="a file with its weights; not for starts")
    parser.add_argument("--steps", type=int, default=150, help="of each training (%(default)s)")
    parser.add_argument("--batch", type=int, default=8, help="pictures per step (%(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="of each arm (%(default)s)")
    parser.add_argument("--arms", nargs="+", help="some of the arms only")
    parser.add_argument("--out", type=Path, help="work_dirs/finetuning/WHAT")
    args = parser.parse_args(argv)
    if args.what != "starts" and not args.weights:
        parser.error(f"{args.what} needs --weights FILE")
    args.out = args.out or Path("work_dirs/finetuning") / args.what
    return args


def main(argv: list[str] | None = None) -> list[dict]:
    args = parse_args(argv)
    starts = args.what == "starts"
    recipe = "segmentation" if starts else args.what
    arms = arms_of_starts(args.steps) if starts else arms_of_weights(args.backbone, args.weights)
    if unknown := set(args.arms or ()) - set(arms):
        raise SystemExit(f"error: no arm {', '.join(unknown)}: expected some of {list(arms)}")
    budget = Budget(steps=args.steps, batch=args.batch, options=options(recipe, args.data))
    results = []
    for seed in range(args.seeds):
        for arm in args.arms or arms:
            backbone, changes = arms[arm]
            folder = args.out / arm.replace(", ", "-").replace(" ", "_") / f"seed{seed}"
            about = dict(label=arm, seed=seed, backbone=repr(backbone), changes=changes)
            about |= dict(recipe=recipe, budget=dataclasses.asdict(budget))
            config = functools.partial(
                config_of, recipe, backbone, changes, budget, folder=folder, seed=seed
            )
            result = run_experiment(Experiment(folder, about, config))
            if result is None:
                CONSOLE.print(f"{args.what}, {arm}, seed {seed}: another process runs it")
                continue
            results.append(result)
            said = result["failure"] or f"{result['score']:.2f}"
            CONSOLE.print(f"{args.what}, {arm}, seed {seed}: {said} ({result['seconds']} s)")
            write_whole(args.out / "results.md", summary(results))
    noted = dict(
        environment=describe_environment("cpu"),
        budget={key: str(value) for key, value in vars(args).items()},
        results=results,
    )
    write_whole(args.out / "results.json", json.dumps(noted, indent=1, default=str) + "\n")
    CONSOLE.print(summary(results), markup=False)
    return results


if __name__ == "__main__":
    main()
