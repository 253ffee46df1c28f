"""Makes the embedded shapes data set. Configs make it by themselves on first use."""

import argparse

from mmplugins.datasets import ShapesSpec, make_shapes
from mmplugins.utils import one_line_errors


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("root", nargs="?", default="data/shapes", help="folder to make")
    parser.add_argument("--image-size", type=int, default=ShapesSpec.image_size, help="pixels")
    parser.add_argument("--num-train", type=int, default=ShapesSpec.num_train, help="pictures")
    parser.add_argument("--num-val", type=int, default=ShapesSpec.num_val, help="pictures")
    parser.add_argument("--seed", type=int, default=ShapesSpec.seed)
    print(make_shapes(**vars(parser.parse_args())))


if __name__ == "__main__":
    with one_line_errors(OSError, ValueError):
        main()
