"""Prints the table of kernels in docs/speed.md: one pass of each backbone beside timm's.

table.py [poolformer_s12 convnext_tiny]
"""

import argparse
import copy

import timm
import torch

import mmplugins
from mmplugins.benchmark.gpu_check.settings import FAMILIES
from mmplugins.benchmark.kernels import inference_kernels, training_kernels


def line(name: str) -> str:
    """Row of a backbone, counted in bfloat16 at 64x64, without stochastic depth."""
    ours = mmplugins.build_backbone(name, out_norm=None).to(torch.bfloat16).eval()
    theirs = timm.create_model(name, features_only=True).to(torch.bfloat16).eval()
    deployed = copy.deepcopy(ours).switch_to_deploy()
    images = torch.randn(2, 3, 64, 64, dtype=torch.bfloat16)
    infer = [inference_kernels(model, images).total() for model in (theirs, ours, deployed)]
    train = [training_kernels(model, images).total() for model in (theirs, ours)]
    cells = [name, *infer, f"{infer[2] / infer[0]:.2f}", *train]
    return " | ".join(["", *map(str, cells), ""]).strip()


def main() -> None:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", default=FAMILIES)
    args = parser.parse_args()
    print("| backbone | timm | trained form | deployed | deployed / timm |", end="")
    print(" training: timm | ours |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name in args.names:
        print(line(name))


if __name__ == "__main__":
    main()
