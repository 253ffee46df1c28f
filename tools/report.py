"""Puts results of tools/benchmark.py and tools/leaderboard.py into one HTML file, and plots.

report.py benchmark_results.jsonl
report.py benchmark_results.jsonl leaderboard/leaderboard.json --out report.html --plots plots/cost
"""

import argparse
import json
from pathlib import Path

import mmplugins  # noqa: F401 - puts compat in force before anything of OpenMMLab runs
from mmplugins.benchmark import make_report, read_results
from mmplugins.benchmark.board_plots import board_section
from mmplugins.benchmark.html_report import Section, benchmark_section, write_html
from mmplugins.benchmark.leaderboard import read_board
from mmplugins.benchmark.plots import save_plots
from mmplugins.console import Console
from mmplugins.utils import one_line_errors

CONSOLE = Console(soft_wrap=True, markup=False, highlight=False)


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("results", nargs="+", metavar="RESULTS", help=".jsonl of a benchmark, leaderboard.json")
    add("--out", default="report.html", help="the report; default: %(default)s")
    add("--title", default="Benchmark", help="its heading; default: %(default)s")
    add("--plots", metavar="STEM", help="also write each plot as STEM_<name>.png and .svg")
    return parser.parse_args(argv)


def read(path: str, alone: bool) -> Section:
    """A file of results as a section."""
    name = Path(path).stem.replace("_", " ")
    if Path(path).suffix == ".json":
        return board_section(read_board(path), "Leaderboard" if alone else name)
    report = make_report(read_results(path))
    return benchmark_section(report, "Cost" if alone else name)


def check_names(results: list[str]) -> None:
    """Refuse files of one name, whose plots would have one name, too."""
    stems = [Path(path).stem for path in results]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise ValueError(
            f"--plots: two files are called {twice[0]!r}, and so would be their plots: rename one, "
            "or give them one at a time"
        )


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        if args.plots:
            check_names(args.results)
        found = [read(path, len(args.results) == 1) for path in args.results]
        write_html(args.out, args.title, found)
        if args.plots:
            for path, section in zip(args.results, found, strict=True):
                stem = args.plots if len(found) == 1 else f"{args.plots}_{Path(path).stem}"
                for file in save_plots(section.plots, stem):
                    CONSOLE.print(str(file))
    except (ValueError, OSError, json.JSONDecodeError) as error:
        CONSOLE.print(f"error: {error}")
        return 1
    CONSOLE.print(args.out)
    return 0


if __name__ == "__main__":
    with one_line_errors():
        raise SystemExit(main())
