"""Tries every model of timm as a backbone, without memory, and writes docs/timm_models.md.

survey.py [PATTERN ...] [--out results.jsonl] [--table docs/timm_models.md]

A model is inspected on PyTorch's meta device as TimmBackbone does before it builds one: which
strides it has, which image sizes it takes. What is done is kept in --out, and the same command goes
on; Ctrl-C leaves the page of those that are done. Half a second per model on an idle core.
"""

import argparse
import contextlib
import json
import warnings
from collections import Counter, defaultdict
from datetime import date
from pathlib import Path

import timm
from rich.progress import track
from timm.models import model_entrypoint

import mmplugins  # noqa: F401 - puts compat in force before anything of OpenMMLab runs
from mmplugins.backbones.timm_inspection import STRIDES, inspect_timm_model
from mmplugins.utils import write_whole

DEEPEST = STRIDES[-1]
NO_PYRAMID = ("lacks feature maps", "has feature maps of stride")


def try_model(name: str) -> dict:
    """How a model serves: with all four stages, or with those that it has."""
    result = dict(name=name, module=model_entrypoint(name).__module__.rpartition(".")[2])
    for stages in ((0, 1, 2, 3), (1, 2, 3), (2, 3)):
        try:
            found = inspect_timm_model(name, stages, dict(in_chans=3))
        except Exception as error:  # whatever timm's models say
            result.setdefault("refusal", " ".join(str(error).split()))
            if "lacks feature maps" not in str(error):
                result["refusal"] = " ".join(str(error).split())
                break
        else:
            result.pop("refusal", None)
            size = "x".join(map(str, found.fixed_size or ())) or found.size_divisor
            return result | dict(stages=stages, plain=found.plain, size=size)
    return result


def how(result: dict) -> str:
    """The kind of a result, a column of the table."""
    if "refusal" in result:
        missing = any(reason in result["refusal"] for reason in NO_PYRAMID)
        return "no pyramid" if missing else "refused"
    if isinstance(result["size"], str):
        return "one size"
    return "any size" if result["size"] == 1 else "multiples"


def table(results: list[dict], total: int) -> str:
    """The page of what has been tried out of so many models."""
    kinds = ("any size", "multiples", "one size", "refused", "no pyramid")
    by_module = defaultdict(list)
    for result in results:
        by_module[result["module"]].append(result)
    counted = Counter(map(how, results))
    some = f"of the {total} " if total > len(results) else ""
    pyramids = [result for result in results if how(result) != "no pyramid"]
    working = [result for result in pyramids if how(result) != "refused"]
    lines = [
        "# timm's models as backbones",
        "",
        f"{len(results)} {some}models of timm {timm.__version__}, tried on {date.today()} by",
        "`projects/timm_models/survey.py` without memory: strides, image sizes, one forward pass.",
        f"Of {len(pyramids)} that have a feature map of stride {DEEPEST}, or get a simple feature",
        "pyramid,",
        f"{len(working)} work ({100 * len(working) / max(1, len(pyramids)):.1f} %).",
        "",
        "*Multiples*: images are padded at the right and at the bottom, to multiples of the number",
        "in the last column. *One size*: the model's own, or the `img_size` that it is built with.",
        "*No pyramid*: no feature maps of strides that a pyramid has.",
        "",
        f"| file of timm | {' | '.join(kinds)} | without stage | multiples of |",
        f"| --- | {' | '.join('--:' for _ in kinds)} | --- | --- |",
    ]
    for module, rows in sorted(by_module.items()):
        counts = Counter(map(how, rows))
        lacking = {4 - len(row["stages"]) for row in rows if "stages" in row} - {0}
        without = ", ".join("0" if count == 1 else "0 and 1" for count in sorted(lacking))
        sizes = sorted({row["size"] for row in rows if how(row) == "multiples"})
        cells = [str(counts[kind] or "-") for kind in kinds]
        numbers = ", ".join(map(str, sizes)) or "-"
        lines.append(f"| {module} | {' | '.join(cells)} | {without or '-'} | {numbers} |")
    cells = [str(counted[kind]) for kind in kinds]
    lines.append(f"| **all** | {' | '.join(cells)} | | |")
    refused = [result for result in results if how(result) == "refused"]
    if refused:
        lines += ["", "## Refused, and why", ""]
        lines += [f"- `{result['name']}`: {result['refusal'][:300]}" for result in refused]
    return "\n".join(lines) + "\n"


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("patterns", nargs="*", default=["*"], help="of timm's names (all)")
    parser.add_argument("--out", type=Path, default=Path("work_dirs/timm_models.jsonl"))
    parser.add_argument("--table", type=Path, help="where to write the page")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> list[dict]:
    args = parse_args(argv)
    warnings.simplefilter("ignore")
    names = timm.list_models(args.patterns)
    done = {}
    if args.out.is_file():
        rows = map(json.loads, args.out.read_text(encoding="utf-8").splitlines())
        done = {row["name"]: row for row in rows}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with args.out.open("a", encoding="utf-8") as file, contextlib.suppress(KeyboardInterrupt):
        for name in track([name for name in names if name not in done], "models"):
            done[name] = try_model(name)
            print(json.dumps(done[name]), file=file, flush=True)
    results = [done[name] for name in names if name in done]
    if args.table:
        write_whole(args.table, table(results, len(names)))
    return results


if __name__ == "__main__":
    main()
