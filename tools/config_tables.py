"""Counts parameters and MACs of configs and backbones: into metafiles, and as tables into pages.

The tables are those of the READMEs below ``configs/``, and that of docs/backbones.md.
"""

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from rich.progress import track

import mmplugins  # noqa: F401 - registers the backbones
from mmplugins.backbones.catalog import families
from mmplugins.benchmark.complexity import count_macs, count_parameters
from mmplugins.utils import write_whole

ROOT = Path(__file__).parents[1]
CONFIGS_NOTE = (
    "Parameters and MACs are counted by `tools/config_tables.py` from the configs, MACs for one "
    "image by the convention of `mmplugins/benchmark/complexity.py`; printed figures follow in "
    "brackets. AP and mIoU are the published ones, not ours."
)
BACKBONES_NOTE = (
    "Backbone parameters are counted by `tools/config_tables.py`, without classifier and output "
    "norms, fixed random matrices included. Parameters of the whole classifier, MACs and accuracy "
    "at 224x224 (ImageNet-1K, top-1) are the papers'; ConvNeXt-XL was pretrained on ImageNet-22K."
)
METRICS = {"box AP": "box AP", "mask AP": "mask AP", "mIoU": "mIoU", "mIoU(ms+flip)": "ms mIoU"}
"""Metrics of the metafiles and their columns in the tables."""


def metafiles() -> list[Path]:
    """All metafiles, one per family."""
    return sorted(ROOT.glob("configs/*/metafile.yml"))


def read_models(metafile: Path) -> list[dict[str, Any]]:
    """The entries of a metafile, one per config."""
    return yaml.safe_load(metafile.read_text(encoding="utf-8"))["Models"]


def build(cfg: Config) -> BaseModel:
    """The model of a config, without weights and, but for mmdet's PVT, without memory."""
    backbone = cfg.model.backbone.type.rpartition(".")[2]
    device = "cpu" if backbone == "PyramidVisionTransformer" else "meta"  # it reads values back
    with MODELS.switch_scope_and_registry(cfg.default_scope) as models, torch.device(device):
        return models.build(cfg.model)


def count(model: dict[str, Any]) -> tuple[int, float]:
    """Parameters, and MACs in billions at the entry's image size, of the entry of a metafile."""
    width, height = map(int, model["Metadata"]["Image Size"].split("x"))
    built = build(Config.fromfile(ROOT / model["Config"]))
    return count_parameters(built).total, round(count_macs(built, (height, width)).total / 1e9, 2)


def with_counts(metafile: Path) -> str:
    """The text of a metafile with all counts made anew."""
    text = metafile.read_text(encoding="utf-8")
    for model in track(read_models(metafile), metafile.parent.name):
        parameters, macs = count(model)
        start = text.index(f"Config: {model['Config']}\n")
        head, entry = text[:start], text[start:]
        entry = re.sub(r"(Parameters: )\d+", rf"\g<1>{parameters}", entry, count=1)
        text = head + re.sub(r"(MACs \(G\): )[\d.]+", rf"\g<1>{macs}", entry, count=1)
    return text


def table(metafile: Path) -> str:
    """The block of a family's README: one row per config, by the metafile."""
    models = read_models(metafile)
    results = [published(model) for model in models]
    columns = [name for name in METRICS if any(name in row for row in results)]
    lines = [["config", "params, M", "MACs, G", "image", *(METRICS[name] for name in columns)]]
    for model, result in zip(models, results, strict=True):
        data, printed = model["Metadata"], model["Metadata"].get("Printed", {})
        file = Path(model["Config"])
        lines.append(
            [
                f"[{file.stem}]({file.name})",
                beside(f"{data['Parameters'] / 1e6:.2f}", printed.get("Parameters (M)")),
                beside(f"{data['MACs (G)']:.1f}", printed.get("MACs (G)")),
                data["Image Size"],
                *(f"{result[name]:.1f}" if name in result else "-" for name in columns),
            ]
        )
    return block("configs", CONFIGS_NOTE, lines)


def block(name: str, note: str, lines: list[list[str]]) -> str:
    """A note and a table between marks; the first line is the heading."""
    heading, *rows = (f"| {' | '.join(cells)} |" for cells in lines)
    line = f"| {' | '.join('---' for _ in lines[0])} |"
    begin, end = (f"<!-- {name}: {mark} -->" for mark in ("begin", "end"))
    return "\n".join([begin, note, "", heading, line, *rows, end])


def with_block(page: Path, new: str) -> str:
    """The text of a page with a block made anew."""
    begin, *_, end = new.splitlines()
    text, found = re.subn(f"{begin}.*?{end}", lambda _: new, page.read_text("utf-8"), flags=re.S)
    if found != 1:
        raise SystemExit(f"{page}: expected one place for the table, {begin} ... {end}")
    return text


def backbones() -> str:
    """The block of docs/backbones.md: one row per published variant."""
    lines = [["name", "backbone params, M", "classifier params, M", "MACs, G", "top-1, %"]]
    for family, cls in families().items():
        for arch, variant in cls.variants.items():
            with torch.device("meta"):
                counted = count_parameters(cls(arch, out_norm=None)).total / 1e6
            printed = (variant.params, variant.macs, variant.top1)
            cells = ["-" if value is None else str(value) for value in printed]
            lines.append([f"`{family}_{arch}`", f"{counted:.2f}", *cells])
    return block("backbones", BACKBONES_NOTE, lines)


def published(model: dict[str, Any]) -> dict[str, float]:
    """All metrics of an entry."""
    return {k: v for result in model.get("Results", []) for k, v in result["Metrics"].items()}


def beside(counted: str, printed: float | None) -> str:
    return counted if printed is None else f"{counted} ({printed})"


def files() -> dict[Path, Callable[[], str]]:
    """What is written, and what makes its text; a metafile before the README that reads it."""
    found: dict[Path, Callable[[], str]] = {}
    for metafile in metafiles():
        readme = metafile.with_name("README.md")
        found[metafile] = lambda metafile=metafile: with_counts(metafile)
        found[readme] = lambda metafile=metafile, readme=readme: with_block(readme, table(metafile))
    page = ROOT / "docs/backbones.md"
    return found | {page: lambda: with_block(page, backbones())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether all is up to date")
    check = parser.parse_args().check
    stale = []
    for file, make in files().items():
        text = make()
        if text != file.read_text(encoding="utf-8"):
            stale.append(str(file.relative_to(ROOT)))
            if not check:
                write_whole(file, text)
    if check and stale:
        raise SystemExit(f"{', '.join(stale)}: run tools/config_tables.py")


if __name__ == "__main__":
    main()
