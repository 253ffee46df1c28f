"""Checks a config, its data and its model before training; exit status 1 if training would fail."""

import argparse

from mmplugins.checks import failures, preflight, summary, table_of
from mmplugins.console import Console
from mmplugins.engine import SettingError, load_composed
from mmplugins.engine.config import arguments, settings
from mmplugins.utils import one_line_errors

console = Console(soft_wrap=False, markup=False, highlight=False)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    arguments.add_config(parser)
    parser.add_argument("--work-dir", help="where training will go (work_dirs/<config name>)")
    parser.add_argument(
        "--full", action="store_true", help="decode every picture and map, not a sample of 32"
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
    with one_line_errors(SettingError):
        raise SystemExit(main())
