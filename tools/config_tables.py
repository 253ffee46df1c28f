"""Counts parameters and MACs of all configs: into the metafiles, and as tables into the READMEs."""

import argparse
import re
from pathlib import Path
from typing import Any

import torch
import yaml
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from rich.progress import track

import mmplugins  # noqa: F401 - registers the backbones
from mmplugins.benchmark.complexity import count_macs, count_parameters
from mmplugins.utils import write_whole

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- configs: begin -->", "<!-- configs: end -->"
NOTE = (
    "Parameters and MACs are counted by `tools/config_tables.py` from the configs, MACs for one "
    "image by the convention of `mmplugins/benchmark/complexity.py`; printed figures follow in "
    "brackets. AP and mIoU are the published ones, not ours."
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
    head = ["config", "params, M", "MACs, G", "image", *(METRICS[name] for name in columns)]
    lines = [head, ["---"] * len(head)]
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
    rows = (f"| {' | '.join(cells)} |" for cells in lines)
    return "\n".join([BEGIN, NOTE, "", *rows, END])


def published(model: dict[str, Any]) -> dict[str, float]:
    """All metrics of an entry."""
    return {k: v for result in model.get("Results", []) for k, v in result["Metrics"].items()}


def beside(counted: str, printed: float | None) -> str:
    return counted if printed is None else f"{counted} ({printed})"


def with_table(metafile: Path) -> str:
    """The text of a family's README with its table made anew."""
    readme = metafile.with_name("README.md")
    block, text = table(metafile), readme.read_text(encoding="utf-8")
    new, found = re.subn(f"{BEGIN}.*?{END}", lambda _: block, text, flags=re.S)
    if found != 1:
        raise SystemExit(f"{readme}: expected one place for the table, {BEGIN} ... {END}")
    return new


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether all is up to date")
    check = parser.parse_args().check
    stale = []
    for metafile in metafiles():
        readme = metafile.with_name("README.md")
        for file, make in ((metafile, with_counts), (readme, with_table)):
            text = make(metafile)
            if text != file.read_text(encoding="utf-8"):
                stale.append(str(file.relative_to(ROOT)))
                if not check:
                    write_whole(file, text)
    if check and stale:
        raise SystemExit(f"{', '.join(stale)}: run tools/config_tables.py")


if __name__ == "__main__":
    main()
