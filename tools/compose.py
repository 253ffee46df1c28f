"""Prints or writes a config with another backbone, whole, as mmdet's or mmseg's tools take it."""

import argparse

from mmengine.config import DictAction
from rich.console import Console

from mmplugins.engine import SettingError, load_composed
from mmplugins.engine.composing import write_config

console = Console(soft_wrap=True, markup=False, highlight=False)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="config file, of this project, mmdet or mmseg")
    parser.add_argument(
        "--backbone",
        metavar="NAME_OR_DICT",
        required=True,
        help="caformer_s18, timm/resnet50, \"dict(type='ResNet', depth=18)\"",
    )
    parser.add_argument("--out", metavar="FILE.py", help="write it here instead of printing it")
    parser.add_argument(
        "--cfg-options", nargs="+", action=DictAction, metavar="NAME=VALUE", help="config changes"
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cfg = load_composed(args.config, args.backbone, args.cfg_options)
    if args.out:
        console.print(f"Config with {args.backbone} written to {write_config(cfg, args.out)}")
    else:
        console.print(cfg.pretty_text)


if __name__ == "__main__":
    try:
        main()
    except SettingError as error:
        raise SystemExit(f"error: {error}") from None
