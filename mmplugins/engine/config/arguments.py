"""Arguments that several tools have: which config, with what changes, in how many processes."""

from __future__ import annotations

from argparse import ArgumentParser

from mmengine.config import DictAction


def add_config(parser: ArgumentParser, backbone_required: bool = False) -> None:
    """Add ``config``, ``--backbone`` and ``--cfg-options``, what :func:`.load_composed` takes."""
    parser.add_argument("config", help="config file, of this project, mmdet or mmseg")
    parser.add_argument(
        "--backbone",
        metavar="NAME_OR_DICT",
        required=backbone_required,
        help="another backbone: caformer_s18, timm/resnet50, \"dict(type='ResNet', depth=18)\"",
    )
    parser.add_argument(
        "--cfg-options", nargs="+", action=DictAction, metavar="NAME=VALUE", help="config changes"
    )


def add_launcher(parser: ArgumentParser) -> None:
    """Add ``--launcher``, and ``--local-rank``, which launchers set."""
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    parser.add_argument(
        "--local_rank", "--local-rank", type=int, default=0, help="set by launchers"
    )
