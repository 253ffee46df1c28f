"""Folds a trained detector or segmentor into its fast form, checks it, and writes its weights."""

import argparse
from pathlib import Path

import torch
from mmengine.registry import MODELS, init_default_scope

import mmplugins  # noqa: F401 - puts compat in force before anything of OpenMMLab runs
from mmplugins.checkpoint import CheckpointError, load_source, save_weights
from mmplugins.checkpoint.fitting import match_model
from mmplugins.checkpoint.payload import dataset_names
from mmplugins.checkpoint.writing import check_target
from mmplugins.console import Console
from mmplugins.deployment import largest_difference, raw_outputs, reparameterize
from mmplugins.engine import SettingError, load_composed
from mmplugins.engine.config import arguments
from mmplugins.utils import one_line_errors

LIMIT = 1e-4
"""Largest relative difference between the forms; float32 gives about 1e-6."""

console = Console(soft_wrap=True, markup=False, highlight=False)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    arguments.add_config(parser)
    parser.add_argument("checkpoint", help="checkpoint file or address, in trained form")
    parser.add_argument("--out", help=".safetensors or .pth (CHECKPOINT_deploy.safetensors)")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    parser.add_argument(
        "--size", type=int, nargs=2, default=(224, 320), help="image to compare on, height width"
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    source = Path(args.checkpoint)
    out = check_target(
        args.out or source.with_name(f"{source.stem}_deploy.safetensors"), args.overwrite
    )
    cfg = load_composed(args.config, args.backbone, args.cfg_options)
    if "backbone" not in cfg.model:
        raise SettingError(
            f"model.type={cfg.model.get('type')!r} in {args.config} has no backbone of its own: "
            "expected a detector or segmentor; of a distillation, write the student first "
            "(tools/distill_export.py) and give its config"
        )
    init_default_scope(cfg.get("default_scope", "mmengine"))
    cfg.model.backbone.pop("init_cfg", None)  # all weights come from the checkpoint
    model = MODELS.build(cfg.model).eval()
    content = load_source(args.checkpoint)
    report, fitted = match_model(model, content, args.checkpoint)
    if problems := report.problems(whole=True):
        raise CheckpointError(f"{args.checkpoint} does not fit: {'; '.join(problems)}")
    model.load_state_dict(fitted, strict=False)  # counters of steps may be absent

    image = torch.randn(1, 3, *args.size, generator=torch.Generator().manual_seed(0))
    expected = raw_outputs(model, image)
    before = sum(p.numel() for p in model.parameters())
    reparameterize(model)
    difference = largest_difference(raw_outputs(model, image), expected)
    if difference > LIMIT:
        raise ValueError(
            f"The folded model differs by {difference:.1e} on a random image of {args.size} "
            f"(limit {LIMIT:.0e}); nothing was written"
        )
    after = sum(p.numel() for p in model.parameters())
    meta: dict = dict(cfg=cfg.pretty_text)
    if names := dataset_names(content, args.checkpoint):
        meta["dataset_meta"] = names
    save_weights(model.state_dict(), out, payload="state_dict", meta=meta, overwrite=args.overwrite)
    console.print(f"{before:,} parameters became {after:,}; outputs differ by {difference:.1e}")
    console.print(
        f"Wrote {out}, its config inside: tools/predict.py {out} PICTURES. tools/test.py, "
        "init_detector, init_model and the inferencers take it as any checkpoint; by hand:\n"
        "    model = mmplugins.deployment.reparameterize(model.eval())  # built from the config\n"
        "    model.load_state_dict(state_dict)"
    )


if __name__ == "__main__":
    with one_line_errors(CheckpointError, OSError, RuntimeError, SettingError, ValueError):
        main()
