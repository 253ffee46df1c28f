"""Checks a config, its data and its model before training; exit status 1 if training would fail."""

import argparse

from mmengine.config import DictAction
from rich.console import Console

import mmplugins  # noqa: F401 - puts compat in force before anything of OpenMMLab runs
from mmplugins.engine import SettingError, load_composed, settings
from mmplugins.engine.preflight import failures, preflight, summary, table_of

console = Console(soft_wrap=False, markup=False, highlight=False)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="config file")
    parser.add_argument(
        "--backbone",
        metavar="NAME_OR_DICT",
        help="another backbone: caformer_s18, timm/resnet50, \"dict(type='ResNet', depth=18)\"",
    )
    parser.add_argument("--work-dir", help="where training will go (work_dirs/<config name>)")
    parser.add_argument(
        "--full", action="store_true", help="decode every picture and map, not a sample of 32"
    )
    parser.add_argument(
        "--cfg-options", nargs="+", action=DictAction, metavar="NAME=VALUE", help="config changes"
    )
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    cfg = load_composed(args.config, args.backbone, args.cfg_options)
    settings.set_work_dir(cfg, args.work_dir, args.config)
    results = preflight(cfg, full=args.full)
    console.print(table_of(results))
    console.print(summary(results))
    return 1 if failures(results) else 0


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except SettingError as error:
        raise SystemExit(f"error: {error}") from None
