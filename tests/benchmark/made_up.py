"""A file of results as a benchmark would write it, for plots and reports; and a small backbone."""

from __future__ import annotations

import json
from pathlib import Path

TINY = dict(depths=(1, 1, 1, 1), dims=(32, 32, 64, 64))
"""Of any family of ours, for what depends on the kinds of blocks alone."""

SIZES = (256, 512, 768)
ROWS = {
    # row: family, milliseconds at 512x512, exponent
    "poolformer_s12": ("poolformer", 40.0, 1.0),
    "poolformer_s12:deploy": ("poolformer", 36.0, 1.0),
    "poolformer_s24": ("poolformer", 79.0, 1.0),
    "caformer_s18": ("caformer", 85.0, 1.25),
    "timm/resnet50": ("resnet", 70.0, 0.95),
}
LOST = "a <lost> row"


def write_results(path: Path) -> Path:
    """Write five rows at three sizes, exact power laws with 1 % more in each of 7 rounds."""
    environment = dict(processor="A <Processor>", gpu=None, threads=2, packages={"torch": "9.9"},
                 date="2026-01-02 03:04:05")  # fmt: skip
    lines = [
        dict(kind="head", schema=2, environment=environment, settings=dict(rounds=7, device="cpu"))
    ]
    for row, (family, base, exponent) in ROWS.items():
        name, _, options = row.partition(":")
        lines.append(
            dict(
                kind="row", row=row, name=name, backbone="", family=family, dtype="float32",
                options=[options] if options else [], whole=False,
                parameters=dict(total=int(base * 3e5), trainable=1, by_part={}),
            )
        )  # fmt: skip
        for side in SIZES:
            about, factor = dict(row=row, size=[side, side], batch=1), (side / 512) ** 2
            macs = dict(total=base * 1e8 * factor, by_part={}, pooling=0)
            lines.append(dict(kind="macs", what="macs", **about, **macs))
            for what, bytes_ in (("inference", 2e6), ("training", 14e6)):
                if not (options and what == "training"):
                    memory = dict(peak=int(base * bytes_ * factor), saved=0, method="live tensors")
                    lines.append(dict(kind="memory", what=what, **about, **memory))
            for r in range(7):
                s = base / 1000 * factor**exponent * (1 + 0.01 * r)
                stages = {"stem": 0.1 * s, "stage 1": 0.5 * s, "stage 2": 0.4 * s}
                for what, seconds in (("inference", {"inference": s}), ("stages", stages)):
                    lines.append(dict(kind="sample", what=what, **about, round=r, seconds=seconds))
    lines.append(
        dict(kind="failure", row=LOST, what="row", size=[0, 0], batch=0, reason="<b>gone</b>")
    )
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path
