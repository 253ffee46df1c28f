"""From nothing to a trained and tested detector: RetinaNet with PoolFormer-S12 on shapes.

Makes the shapes data, trains from random weights, tests on held-out pictures, shows what came of
it, and predicts with the model as an ONNX file. An earlier demo is renamed, not overwritten.
"""

import argparse
from pathlib import Path

import torch
from mmengine.config import DictAction

import mmplugins  # noqa: F401 - puts compat in force before anything of OpenMMLab runs
from mmplugins.checks import DataError, check_data, failures, preflight
from mmplugins.console import Console
from mmplugins.deployment.errors import ExportError
from mmplugins.deployment.exporting import lacking
from mmplugins.engine import SettingError, test, train, work_dir
from mmplugins.engine.config import arguments, settings
from mmplugins.inference import find_inputs, load_model, stream
from mmplugins.inference.exporting import export_verified, pictures_of
from mmplugins.inference.writing import Writer
from mmplugins.utils import one_line_errors
from mmplugins.visualization import metrics_table, prediction_sheet, training_curves

CONFIG = Path(__file__).parents[1] / "configs/poolformer/retinanet_poolformer-s12_fpn_shapes.py"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default=CONFIG, help="another detector on shapes")
    parser.add_argument("--work-dir", default="work_dirs/demo", help="where all results go")
    parser.add_argument("--pictures", type=int, default=8, help="pictures on the sheet")
    parser.add_argument(
        "--cfg-options", nargs="+", action=DictAction, metavar="NAME=VALUE", help="config changes"
    )
    arguments.add_compiler(parser)
    args = parser.parse_args()
    if args.pictures < 1:
        parser.error(f"--pictures {args.pictures}: expected 1 or more")
    console = Console(soft_wrap=True, markup=False, highlight=False)
    folder = Path(args.work_dir)

    cfg = settings.load_config(args.config, args.cfg_options)
    cfg.work_dir = str(folder)
    if args.compile:
        settings.use_compiler(cfg, args.memory_budget)
    if torch.cuda.is_available() or getattr(torch.cpu, "_is_avx512_bf16_supported", bool)():
        settings.use_amp(cfg)  # only where the processor computes in half precision itself
    if failed := failures(preflight(cfg, data=False)):
        raise SettingError("; ".join(f"{one.name}: {one.message}" for one in failed))
    check_data(cfg)  # makes the data
    if aside := work_dir.move_aside(folder):
        console.print(f"The earlier demo is now in {aside}")
    console.rule(f"Training {Path(args.config).stem}")
    train(cfg)

    console.rule("Testing on held-out pictures")
    cfg.load_from = str(work_dir.last_checkpoint(folder))
    runner, metrics = test(cfg)
    console.print(metrics_table(metrics))
    dataset = runner.test_dataloader.dataset
    sheet = prediction_sheet(runner.model, dataset, folder / "predictions.png", args.pictures)
    curves = training_curves(folder, folder / "curves.png")
    for what, path in (("checkpoint", cfg.load_from), ("predictions", sheet), ("curves", curves)):
        console.print(f"{what:>11}: {path}")

    console.rule("Predicting with the exported model")
    if lack := lacking():
        console.print(f"Passed over: {lack}")
        return
    model = load_model(cfg.load_from, device="cpu")
    exported = folder / "model.onnx"
    pictures = pictures_of(model, args.pictures)
    found = export_verified(model, exported, pictures=pictures[:2])
    console.print(f"Largest differences from PyTorch: {found}")
    model = load_model(exported)
    writer = Writer(model, folder / "exported")
    for one, pixels in stream(model, find_inputs(pictures), score_thr=0.3):
        writer.add(one, pixels)
    for what, path in (("model", exported), *(("predictions", path) for path in writer.close())):
        console.print(f"{what:>11}: {path}")


if __name__ == "__main__":
    with one_line_errors(DataError, ExportError, SettingError):
        main()
