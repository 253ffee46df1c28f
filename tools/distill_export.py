"""Writes the plain, folded student of a distillation, with the config that loads it."""

import argparse

import mmplugins  # noqa: F401 - puts compat in force before anything of OpenMMLab runs
from mmplugins.console import Console
from mmplugins.distillation import export_student
from mmplugins.utils import one_line_errors

console = Console(soft_wrap=True, markup=False, highlight=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="config of the distillation")
    parser.add_argument("checkpoint", help="checkpoint of the distillation")
    parser.add_argument("out", help="weights to write, .pth; the config goes beside them as .py")
    parser.add_argument(
        "--keep-mixers",
        action="store_true",
        help="leave the student in the form that trains on, its affine mixers not folded",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace existing files")
    args = parser.parse_args()
    weights, config = export_student(
        args.config,
        args.checkpoint,
        args.out,
        fold_mixers=not args.keep_mixers,
        overwrite=args.overwrite,
    )
    console.print(f"{weights}: the plain student\n{config}: its config, for example\n")
    console.print(f"  python tools/test.py {config} {weights}")


if __name__ == "__main__":
    with one_line_errors(ValueError, OSError):
        main()
