"""Which heads of the stock configs take a backbone of this package: composed, trained, run.

Each recipe is composed with a thin PoolFormer, built from random weights, and gets one batch of
random pictures: losses, their gradients, predictions. Writes docs/heads.md.

    python projects/heads/table.py [--out docs/heads.md] [--only ssd ...]

With --only, the other rows of the page stay as they are.
"""

from __future__ import annotations

import argparse
import datetime
import logging
import platform
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from recipes import DETECTION, SEGMENTATION

from mmplugins.engine import SettingError, compose
from mmplugins.engine.config.outline import backbone_maps
from mmplugins.engine.config.settings import load_config
from mmplugins.utils import write_whole

THIN = "dict(type='PoolFormer', arch=dict(depths=(1, 1, 1, 1), dims=(8, 16, 24, 32)))"
SIDE = 128
"""Side of the random pictures, in pixels: four positions of the coarsest map of a backbone."""


def detection_batch(cfg: Config) -> dict:
    side = 300 if "ssd300" in cfg.filename else SIDE
    side = 320 if cfg.model.type == "DINO" else side  # 900 queries want as many positions
    panoptic = "semantic_head" in cfg.model or "panoptic_head" in cfg.model
    panoptic = panoptic or "semantic_head" in (cfg.model.get("roi_head") or {})
    batch = demo_mm_inputs(
        2,
        image_shapes=[(3, side, side)] * 2,
        num_items=[2, 3],
        num_classes=10,
        with_mask=panoptic or "'with_mask': True" in str(cfg.train_dataloader.to_dict()),
        with_semantic=panoptic,
    )
    for sample in batch["data_samples"]:
        if panoptic:
            sample.gt_sem_seg.sem_seg = sample.gt_sem_seg.sem_seg.long()
    return batch


def segmentation_batch(cfg: Config) -> dict:
    meta = dict(img_shape=(SIDE, SIDE), ori_shape=(SIDE, SIDE), pad_shape=(SIDE, SIDE))
    meta |= dict(padding_size=[0, 0, 0, 0], flip=False, scale_factor=(1.0, 1.0))
    samples = [
        SegDataSample(
            gt_sem_seg=PixelData(data=torch.randint(2, (1, SIDE, SIDE))), metainfo=dict(meta)
        )
        for _ in range(2)
    ]
    pictures = [torch.randint(256, (3, SIDE, SIDE), dtype=torch.uint8) for _ in range(2)]
    return dict(inputs=pictures, data_samples=samples)


def plain_preprocessor(cfg: Config) -> None:
    """Without what changes the batch's size: crops of the recipe are far larger."""
    given = cfg.model.get("data_preprocessor") or {}
    given.pop("batch_augments", None)
    if cfg.get("default_scope") == "mmseg":
        cfg.model.data_preprocessor = dict(
            type="SegDataPreProcessor", size=(SIDE, SIDE), seg_pad_val=255
        )


def without_weights(part: Any) -> None:
    """Leave out pretrained weights, which would be fetched; other initialisation stays."""
    if isinstance(part, dict):
        part.pop("pretrained", None)
        if "Pretrained" in str(part.get("init_cfg") or {}):
            part["init_cfg"] = None
    for value in part.values() if isinstance(part, dict) else part:
        if isinstance(value, dict | list | tuple):
            without_weights(value)


def run(recipe: str, scope: str) -> tuple[str, str]:
    """What became of a recipe: a word, and what there is to say about it."""
    try:
        cfg = compose(recipe, THIN)
    except SettingError as error:
        return "refused", str(error)
    if found := try_steps(cfg, scope):
        if try_steps(load_config(recipe), scope) == found:
            return "as with its own backbone", found
        return "**fails**", found
    strides = ", ".join(map(str, backbone_maps(cfg.model.backbone, scope).strides))
    note = "; find_unused_parameters" if cfg.get("find_unused_parameters") else ""
    return "runs", f"feature maps of stride {strides}{note}"


def try_steps(cfg: Config, scope: str) -> str | None:
    """Build, losses, gradients, predictions: what went wrong, if something did."""
    init_default_scope(scope)
    plain_preprocessor(cfg)
    without_weights(cfg.model)
    torch.manual_seed(0)
    step = "build"
    try:
        model = MODELS.build(cfg.model)
        model.init_weights()
        MessageHub.get_current_instance().update_info("epoch", 0)  # which TOOD asks for
        step = "loss"
        make = detection_batch if scope == "mmdet" else segmentation_batch
        data = model.data_preprocessor(make(cfg), True)
        total, _ = model.parse_losses(model.train()(**data, mode="loss"))
        step = "gradients"
        total.backward()
        silent = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
        silent = [name for name in silent if name.startswith(("backbone.", "neck."))]
        if silent and not cfg.get("find_unused_parameters"):
            raise ValueError(f"none for {len(silent)} parameters, such as {silent[0]}")
        step = "prediction"
        with torch.no_grad():
            data = model.data_preprocessor(make(cfg), False)
            found = model.eval()(**data, mode="predict")
        if len(found) != 2:
            raise ValueError(f"{len(found)} for 2 pictures")
    except Exception as error:  # whatever a head of somebody else raises belongs in the table
        reason = " ".join(str(error).split())[:150]
        return f"{step}: {type(error).__name__}: {reason}"
    return None


def page(rows: dict[str, tuple[str, str]], machine: str) -> str:
    """The document, as Markdown."""
    count = sum(word == "runs" for word, _ in rows.values())
    lines = [
        "# Heads",
        "",
        "One stock config for each kind of head was composed with a thin PoolFormer "
        "(`--backbone`), built from random weights, and given a batch of random pictures: losses, "
        f"gradients for every parameter of backbone and neck, predictions. {count} of {len(rows)} "
        "run. Others are refused while the config is composed, fail with their own backbone as "
        "well, or **fail** here. Configs that are not listed were not run.",
        "",
        f"Made by `python projects/heads/table.py` on {machine}, {datetime.date.today()}.",
        "",
        "| Config | Result | |",
        "| --- | --- | --- |",
    ]
    for recipe, (word, text) in rows.items():
        text = text.replace("|", "\\|").replace("[", "\\[")
        lines.append(f"| `{recipe}` | {word} | {text} |")
    return "\n".join(lines) + "\n"


def rows_of(page: Path) -> dict[str, tuple[str, str]]:
    """The rows of a page as it stands, to go on with."""
    found = re.findall(r"^\| `(.+?)` \| (.+?) \| (.*) \|$", page.read_text(), re.MULTILINE)
    return {recipe: (word, re.sub(r"\\([|[])", r"\1", text)) for recipe, word, text in found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/heads.md"))
    parser.add_argument("--only", nargs="+", help="parts of names: renew these rows alone")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    known = rows_of(args.out) if args.only else {}
    rows = {}
    for scope, recipes in (("mmdet", DETECTION), ("mmseg", SEGMENTATION)):
        for name in recipes:
            recipe = f"{scope}::{name}"
            if recipe in known and not any(word in recipe for word in args.only):
                rows[recipe] = known[recipe]
                continue
            rows[recipe] = run(recipe, scope)
            print(recipe, *rows[recipe], sep=" | ", flush=True)
    write_whole(args.out, page(rows, f"{platform.machine()}, torch {torch.__version__}"))


if __name__ == "__main__":
    main()
