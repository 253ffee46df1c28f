"""Time of one pass and of one training step, ours beside timm's, rows interleaved."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmplugins.backbones import build_backbone
from mmplugins.backbones.few_large_maps import group_norm1
from mmplugins.engine.compiling import compile_blocks

from ..stopwatch import Stopwatch, undisturbed

FAMILIES = (
    "poolformer_s12", "poolformerv2_s12", "convformer_s18", "caformer_s18", "convnext_tiny",
)  # fmt: skip
EAGER = ("ours", "ours, channels-last", "folded", "folded, channels-last", "timm",
         "timm, channels-last")  # fmt: skip
COMPILED = ("ours compiled", "folded compiled", "folded graphed", "timm compiled")


def build_row(name: str, row: str, device: torch.device, train: bool = False) -> nn.Module:
    """A row of the tables: ``'folded, channels-last'`` of ``'poolformer_s12'``, for example.

    Weights are float32 in training, where autocast runs, and bfloat16 at inference.
    """
    theirs = row.startswith("timm")
    model = timm.create_model(name, features_only=True) if theirs else build_backbone(
        name, out_norm=None
    )  # fmt: skip
    model = model.train(train).to(device, torch.float32 if train else torch.bfloat16)
    if row.startswith("folded"):
        model.switch_to_deploy()
    if row.endswith("channels-last") or "compiled" in row:
        model.to(memory_format=torch.channels_last)
    if row == "timm compiled":
        return torch.compile(model)
    if "compiled" in row:
        compile_blocks(model)
    if "graphed" in row:
        compile_blocks(model, mode="reduce-overhead")
    return model


def inference(
    name: str, rows: tuple[str, ...], size: tuple[int, int], batch: int, device: torch.device,
    rounds: int,
) -> dict[str, float]:  # fmt: skip
    """Milliseconds of one pass of each row, medians."""
    runs: dict[str, Callable] = {}
    for row in rows:
        model = build_row(name, row, device)
        x = torch.randn(batch, 3, *size, device=device, dtype=torch.bfloat16)
        if row.endswith("channels-last") or "compiled" in row:
            x = x.contiguous(memory_format=torch.channels_last)
        runs[row] = lambda model=model, x=x: model(x)
    with torch.no_grad():
        return interleaved(runs, device, rounds)


def training(
    name: str, rows: tuple[str, ...], size: tuple[int, int], batch: int, device: torch.device,
    rounds: int,
) -> dict[str, dict[str, float]]:  # fmt: skip
    """Milliseconds of a step (bf16 autocast, AdamW), and peak MiB on a GPU, of each row."""
    steps, peaks = {}, {}
    for row in rows:
        model = build_row(name, row, device, train=True)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
        x = torch.randn(batch, 3, *size, device=device)
        if row.endswith("channels-last") or "compiled" in row:
            x = x.contiguous(memory_format=torch.channels_last)

        def step(model: nn.Module = model, optimizer=optimizer, x: Tensor = x) -> None:
            optimizer.zero_grad()
            with torch.autocast(device.type, torch.bfloat16):
                maps = model(x)
            sum(m.float().mean() for m in maps).backward()
            optimizer.step()

        steps[row] = step
        step()
        if device.type == "cuda":
            step()
            optimizer.zero_grad()
            torch.cuda.synchronize()
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            step()
            torch.cuda.synchronize()
            peaks[row] = (torch.cuda.max_memory_allocated() - before) / 2**20
    times = interleaved(steps, device, rounds)
    return {
        row: dict(ms=ms) | ({"MiB": peaks[row]} if row in peaks else {})
        for row, ms in times.items()
    }


def group_norms(device: torch.device, rounds: int, scale: int = 1) -> Iterator[dict]:
    """``F.group_norm`` with one group beside the reduction of ``few_large_maps``."""
    for batch, shape in ((1, (64, 128, 128)), (8, (64, 128, 128)), (2, (64, 200, 320))):
        size = [side // scale for side in shape[1:]]
        x = torch.randn(batch, shape[0], *size, device=device, dtype=torch.bfloat16)
        w = torch.ones(shape[0], device=device, dtype=torch.bfloat16)
        runs = dict(
            formula=lambda x=x, w=w: F.group_norm(x, 1, w, w, 1e-5),
            reduction=lambda x=x, w=w: group_norm1(x, w, w, 1e-5),
        )
        with torch.no_grad():
            yield dict(map="x".join(map(str, x.shape)), **interleaved(runs, device, rounds))


def interleaved(
    runs: Mapping[str, Callable[..., object]], device: torch.device, rounds: int
) -> dict[str, float]:
    """Median milliseconds of each, one of each in every round, after two that do not count."""
    watch = Stopwatch(device)
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(2):
        for run in runs.values():
            run()
    for _ in range(rounds):
        for name, run in runs.items():
            with undisturbed():
                watch.start()
                run()
                watch.lap("run")
                taken[name].append(watch.stop()["run"] * 1000)
    return {name: statistics.median(times) for name, times in taken.items()}
