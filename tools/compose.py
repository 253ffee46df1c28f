"""Prints or writes a config with another backbone, whole, as mmdet's or mmseg's tools take it."""

import argparse

from mmplugins.console import Console
from mmplugins.engine import SettingError, load_composed
from mmplugins.engine.config import arguments
from mmplugins.engine.config.composing import write_config
from mmplugins.utils import WriteError, one_line_errors

console = Console(soft_wrap=True, markup=False, highlight=False)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    arguments.add_config(parser, backbone_required=True)
    parser.add_argument("--out", metavar="FILE.py", help="write it here instead of printing it")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cfg = load_composed(args.config, args.backbone, args.cfg_options)
    if args.out:
        console.print(f"Config with {args.backbone} written to {write_config(cfg, args.out)}")
    else:
        console.print(cfg.pretty_text)


if __name__ == "__main__":
    with one_line_errors(SettingError, WriteError):
        main()
