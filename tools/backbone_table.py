"""Writes the table of backbones into docs/backbones.md: parameters counted, the rest published."""

import argparse
import re
from pathlib import Path

import torch

from mmplugins.backbones.catalog import families
from mmplugins.utils import write_whole

PAGE = Path(__file__).parents[1] / "docs" / "backbones.md"
BEGIN, END = "<!-- backbones: begin -->", "<!-- backbones: end -->"
NOTE = (
    "Backbone parameters are counted by `tools/backbone_table.py`, without classifier and output "
    "norms, fixed random matrices included. Parameters of the whole classifier, MACs and accuracy "
    "at 224x224 (ImageNet-1K, top-1) are the papers'; ConvNeXt-XL was pretrained on ImageNet-22K."
)


def rows() -> list[str]:
    """One Markdown row per published variant."""
    lines = [
        "| name | backbone params, M | classifier params, M | MACs, G | top-1, % |",
        "| --- | --- | --- | --- | --- |",
    ]
    for family, cls in families().items():
        for arch, variant in cls.variants.items():
            with torch.device("meta"):
                backbone = cls(arch, out_norm=None)
            count = sum(p.numel() for p in backbone.parameters()) / 1e6
            published = (variant.params, variant.macs, variant.top1)
            cells = ["-" if value is None else str(value) for value in published]
            lines.append(f"| `{family}_{arch}` | {count:.2f} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether it is up to date")
    check = parser.parse_args().check
    text = PAGE.read_text(encoding="utf-8")
    block = "\n".join([BEGIN, NOTE, "", *rows(), END])
    new, found = re.subn(f"{BEGIN}.*?{END}", lambda _: block, text, flags=re.S)
    if found != 1:
        raise SystemExit(f"{PAGE}: expected one place for the table, {BEGIN} ... {END}")
    if check:
        raise SystemExit(0 if new == text else "docs/backbones.md: run tools/backbone_table.py")
    write_whole(PAGE, new)


if __name__ == "__main__":
    main()
