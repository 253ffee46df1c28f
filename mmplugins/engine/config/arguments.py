"""Arguments that several tools have: which config, with what changes, in how many processes."""

from __future__ import annotations

from argparse import ArgumentError, ArgumentParser
from typing import Any

from mmengine.config import DictAction

from mmplugins.checkpoint.config_text import literal


class OptionsAction(DictAction):
    """mmengine's ``--cfg-options``, which also takes dicts.

    A value with ``dict(`` or ``{`` in it is read as Python has it, texts in quotes:
    ``"custom_hooks=[dict(type='EMAHook')]"``. All others are mmengine's: ``sides=[1,2]``.
    """

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        """Read ``NAME=VALUE`` each."""
        for value in values:
            if "=" not in value:
                raise ArgumentError(self, f"{value!r}: expected NAME=VALUE")
        super().__call__(parser, namespace, values, option_string)

    def _parse_iterable(self, val: str) -> Any:
        if "dict(" not in val and "{" not in val:
            return DictAction._parse_iterable(val)
        try:
            return literal(val)
        except (SyntaxError, TypeError, ValueError):
            raise ArgumentError(
                self,
                f"{val!r} cannot be read: expected Python, with texts in quotes and all of it in "
                "quotes for the shell, \"custom_hooks=[dict(type='EMAHook')]\"",
            ) from None


def add_config(parser: ArgumentParser, backbone_required: bool = False) -> None:
    """Add ``config``, ``--backbone`` and ``--cfg-options``, what :func:`.load_composed` takes."""
    parser.add_argument(
        "config", help="config file, or one of a package by its name, such as mmdet::retinanet/..."
    )
    parser.add_argument(
        "--backbone",
        metavar="NAME_OR_DICT",
        required=backbone_required,
        help="another backbone: caformer_s18, timm/resnet50, \"dict(type='ResNet', depth=18)\"",
    )
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=OptionsAction,
        metavar="NAME=VALUE",
        help="config changes: sides=[1,2] \"custom_hooks=[dict(type='EMAHook')]\"",
    )


def add_compiler(parser: ArgumentParser) -> None:
    """Add ``--compile`` and ``--memory-budget``, what :func:`.settings.use_compiler` takes."""
    parser.add_argument(
        "--compile",
        action="store_true",
        help="compile the blocks of the backbone, see docs/speed.md",
    )
    parser.add_argument(
        "--memory-budget",
        type=float,
        default=0.5,
        metavar="SHARE",
        help="with --compile: share of memory for the backward pass, 0 to 1 (%(default)s)",
    )


def add_launcher(parser: ArgumentParser) -> None:
    """Add ``--launcher``, and ``--local-rank``, which launchers set."""
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    parser.add_argument(
        "--local_rank", "--local-rank", type=int, default=0, help="set by launchers"
    )
