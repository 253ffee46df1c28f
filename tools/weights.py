"""Lists, fetches, inspects and converts weights. A source is a file, a URL, timm:// or metaformer://.

weights.py list caformer                  published weights, where they are, which are here
weights.py get metaformer://caformer_s18  fetch into the cache and print the path
weights.py show FILE --backbone NAME      what a file holds, and how it would fit a backbone
weights.py convert FILE OUT --to timm     the same weights in another layout or file format
"""

import argparse
import sys
from urllib.parse import urlsplit

from rich.box import SIMPLE_HEAD
from rich.table import Table

from mmplugins.checkpoint import (
    CheckpointError,
    check_tensors,
    check_weights,
    convert,
    find_weights,
    identify,
    load_source,
    published,
    resolve,
    save_weights,
)
from mmplugins.checkpoint.converting import TARGETS
from mmplugins.checkpoint.identity import skeleton
from mmplugins.checkpoint.sources import kept_file
from mmplugins.checkpoint.writing import check_target
from mmplugins.console import Console
from mmplugins.utils import few, one_line_errors

CONSOLE = Console(width=None if sys.stdout.isatty() else 110, markup=False)


def list_published(args: argparse.Namespace) -> int:
    """Print the published weights whose name holds the pattern."""
    rows = [row for name, row in published().items() if args.pattern in name]
    if not rows:
        raise ValueError(f"No published weights with {args.pattern!r} in their name")
    table = Table("metaformer://", "trained on", "licence", "hosts", "here", box=SIMPLE_HEAD)
    table.columns[0].no_wrap = table.columns[3].no_wrap = True
    for row in rows:
        hosts = [
            urlsplit(source.url).hostname + (" *" if source.sha256 else "")
            for source in row.sources
        ]
        here = any(kept_file(source) for source in row.sources)
        licence = row.license.partition(",")[0]
        table.add_row(row.name, row.data, licence, "\n".join(hosts), "yes" if here else "")
    table.caption = "* the file is checked against the SHA-256 digits that this host publishes"
    CONSOLE.print(table)
    return 0


def get(args: argparse.Namespace) -> int:
    """Fetch sources and print their paths."""
    for source in args.sources:
        path = resolve(source)
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist")
        print(path)
    return 0


def show(args: argparse.Namespace) -> int:
    """Print what a source holds, and how it fits a backbone."""
    weights = find_weights(load_source(args.source, args.allow_unsafe), args.source)
    check_tensors(weights.tensors, args.source)
    tensors = weights.tensors.values()
    dtypes = ", ".join(sorted({str(value.dtype).removeprefix("torch.") for value in tensors}))
    CONSOLE.print(
        f"{args.source}: {len(tensors)} tensors, "
        f"{sum(value.numel() for value in tensors):,} numbers, {dtypes}"
        + (f", in {weights.payload!r}" if weights.payload else ""),
        soft_wrap=True,
        highlight=False,
    )
    identity = identify(weights.tensors)
    if identity is None:
        CONSOLE.print("no backbone of the suite; see --backbone timm/NAME for timm's")
    else:
        names = " or ".join((identity.backbone, *identity.same_as))
        CONSOLE.print(
            f"{'holds' if identity.exact else 'resembles'} {names} "
            f"({identity.agreeing} of {identity.tensors} tensors), {identity.layout} layout"
            + (f", below {identity.prefix!r}" if identity.prefix else ""),
            soft_wrap=True,
            highlight=False,
        )
    name = args.backbone or (identity and identity.backbone)
    if not name:
        return 0
    report = check_weights(skeleton(name), args.source, allow_unsafe=args.allow_unsafe)
    CONSOLE.print(report.table())
    for line in report.notes() + report.problems():
        CONSOLE.print(line, soft_wrap=True, highlight=False, markup=False)
    return 0 if report.ok else 1


def convert_file(args: argparse.Namespace) -> int:
    """Write the weights of a source in another layout."""
    out = check_target(args.out, args.overwrite)
    weights = find_weights(load_source(args.source, args.allow_unsafe), args.source)
    check_tensors(weights.tensors, args.source)
    conversion = convert(weights, args.to)
    names = " or ".join((conversion.identity.backbone, *conversion.identity.same_as))
    save_weights(
        conversion.tensors,
        out,
        payload=conversion.layout.payload if conversion.layout else "",
        metadata=dict(backbone=conversion.identity.backbone, layout=args.to)
        | (dict(license=conversion.license) if conversion.license else {}),
        overwrite=args.overwrite,
    )
    CONSOLE.print(
        f"{out}: {names}, {conversion.identity.layout} -> {args.to}, "
        f"{len(conversion.tensors)} tensors",
        soft_wrap=True,
        highlight=False,
    )
    if conversion.license:
        CONSOLE.print(f"licence: {conversion.license}", soft_wrap=True, highlight=False)
    if conversion.left_out:
        CONSOLE.print(
            f"left out, as {args.to} has no place for them: {few(conversion.left_out, 8)}",
            soft_wrap=True,
            highlight=False,
        )
    return 0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="list|get|show|convert")

    one = commands.add_parser("list", help="published weights")
    one.add_argument("pattern", nargs="?", default="", help="part of a name")
    one.set_defaults(run=list_published)

    one = commands.add_parser("get", help="fetch into the cache")
    one.add_argument("sources", nargs="+", metavar="SOURCE")
    one.set_defaults(run=get)

    unsafe = argparse.ArgumentParser(add_help=False)
    unsafe.add_argument(
        "--allow-unsafe",
        action="store_true",
        help="run the code in the file if it has any; only for files of people you trust",
    )
    one = commands.add_parser("show", help="what a file holds", parents=[unsafe])
    one.add_argument("source", metavar="SOURCE")
    one.add_argument("--backbone", metavar="NAME", help="check against this backbone")
    one.set_defaults(run=show)

    one = commands.add_parser("convert", help="change the layout", parents=[unsafe])
    one.add_argument("source", metavar="SOURCE")
    one.add_argument("out", help=".safetensors or .pth")
    one.add_argument("--to", choices=TARGETS, default="mmplugins", help="default: %(default)s")
    one.add_argument("--overwrite", action="store_true", help="replace an existing file")
    one.set_defaults(run=convert_file)

    args = parser.parse_args(argv)
    try:
        return args.run(args)
    except BrokenPipeError:  # nobody reads on: not the file's doing
        raise
    except (CheckpointError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    with one_line_errors():
        raise SystemExit(main())
