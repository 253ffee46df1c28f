"""Compares the size policies of sparse MLP, random mixing and spatial FC on pictures it draws.

Small networks learn at 64 pixels to segment shapes, then meet pictures of 1.5, 2 and 4 times that
side (pictures of COCO are about 4 times those of ImageNet): 'zoom' shows the same scene larger,
'field' shows more scene at the same scale. Reported per policy: agreement of the features of a
zoomed picture with those of the picture itself, before and after training; mean IoU without further
training; mean IoU after a short training at twice the size.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from mmplugins.backbones import MetaFormer, sMLPNet
from mmplugins.backbones.pyramid import PyramidBackbone
from mmplugins.utils import write_whole

NATIVE = 64
CLASSES = 5  # background, disc, square, triangle, cross
DEPTHS, DIMS = (1, 1, 2, 1), (16, 32, 64, 96)
POLICIES = ("window", "resample")
FACTORS = (1.5, 2, 4)


def draw(count: int, rng: torch.Generator, zoom: float = 1, field: float = 1):
    """Draw scenes: pictures [count, 3, S, S], labels at stride 4 [count, S/4, S/4].

    One random state gives the same scenes at every zoom.
    """

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, 1, 1, generator=rng)

    shapes = round(3 * field**2)
    extent = NATIVE * field
    side = round(extent * zoom)
    coarse = torch.randn(count, 3, round(8 * field), round(8 * field), generator=rng)
    image = 0.3 * F.interpolate(coarse, (side, side), mode="bicubic")
    label = torch.zeros(count, side, side, dtype=torch.long)
    axis = (torch.arange(side) + 0.5) / zoom
    for _ in range(shapes):
        x = axis - uniform(0, extent, count)
        y = axis[:, None] - uniform(0, extent, count)
        angle, radius = uniform(-0.3, 0.3, count), uniform(7, 16, count)
        u, v = x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()
        box = torch.maximum(u.abs(), v.abs())
        kinds = torch.stack(
            [
                u.square() + v.square() < radius.square(),
                box < 0.85 * radius,
                (v > -radius / 2) & (v / 2 + u.abs() * 0.866 < radius / 2),
                (box < radius) & (torch.minimum(u.abs(), v.abs()) < radius / 3),
            ]
        )
        kind = torch.randint(4, (count,), generator=rng)
        mask = kinds[kind, torch.arange(count)]
        colour = 1.5 * torch.randn(count, 3, 1, 1, generator=rng)
        image = torch.where(mask[:, None], colour, image)
        label = torch.where(mask, kind[:, None, None] + 1, label)
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(count))
    return image + 0.1 * noise, label[:, 2::4, 2::4]


class Segmentor(nn.Module):
    """A backbone and the smallest head that sees all its stages."""

    def __init__(self, backbone: PyramidBackbone):
        super().__init__()
        self.backbone = backbone
        self.laterals = nn.ModuleList(nn.Conv2d(dim, 48, 1) for dim in backbone.out_channels)
        self.classify = nn.Conv2d(48, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        maps = [conv(f) for conv, f in zip(self.laterals, self.backbone(x), strict=True)]
        size = maps[0].shape[-2:]
        return self.classify(F.relu(sum(F.interpolate(m, size, mode="bilinear") for m in maps)))


def build(family: str, policy: str) -> Segmentor:
    """A small network whose weights fit pictures of NATIVE pixels."""
    if family == "sMLPNet":
        arch = dict(depths=DEPTHS, dims=DIMS)
        return Segmentor(sMLPNet(arch, policy=policy, image_size=NATIVE))
    mixers = [dict(type=family, side=NATIVE // s, policy=policy) for s in (16, 32)]
    mixers = ["Pooling", "Pooling", *mixers]
    return Segmentor(MetaFormer(DEPTHS, DIMS, mixers, out_norm="LN"))


def copy_of(model: Segmentor, family: str, policy: str) -> Segmentor:
    other = build(family, policy)
    other.load_state_dict(model.state_dict())
    return other


def train(model: Segmentor, steps: int, seed: int, lr: float, batch: int, larger: bool) -> None:
    """AdamW with a cosine schedule; ``larger`` trains on both kinds of 2x pictures in turn."""
    rng = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    model.train()
    for step in range(steps):
        size = dict(zoom=2) if larger and step % 2 else dict(field=2) if larger else {}
        image, label = draw(batch, rng, **size)
        loss = F.cross_entropy(model(image), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


@torch.no_grad()
def mean_iou(model: Segmentor, pictures: int, **size: float) -> float:
    """Mean IoU in percent over pictures that no training has drawn."""
    rng = torch.Generator().manual_seed(10_000)
    confusion = torch.zeros(CLASSES, CLASSES)
    model.eval()
    for _ in range(pictures // 16):
        image, label = draw(16, rng, **size)
        pair = label * CLASSES + model(image).argmax(1)
        confusion += torch.bincount(pair.flatten(), minlength=CLASSES**2).view(CLASSES, CLASSES)
    hits = confusion.diag()
    return (100 * hits / (confusion.sum(0) + confusion.sum(1) - hits)).mean().item()


@torch.no_grad()
def agreement(model: Segmentor, zoom: float) -> float:
    """Cosine between features of pictures and of the same zoomed, shrunk back; mean of stages."""
    model.eval()
    native, _ = draw(16, torch.Generator().manual_seed(10_000))
    larger, _ = draw(16, torch.Generator().manual_seed(10_000), zoom=zoom)
    cosines = []
    for a, b in zip(model.backbone(native), model.backbone(larger), strict=True):
        b = F.interpolate(b, a.shape[-2:], mode="bilinear", antialias=True)
        cosines.append(F.cosine_similarity(a, b, dim=1).mean().item())
    return statistics.mean(cosines)


def study(family: str, seed: int, args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """All figures of one network and seed, by policy."""
    torch.manual_seed(seed)
    trained = build(family, POLICIES[0])
    figures = {policy: {} for policy in POLICIES}
    for policy in POLICIES:
        for zoom in FACTORS:
            model = copy_of(trained, family, policy)
            figures[policy][f"cosine, random, zoom {zoom}"] = agreement(model, zoom)
    train(trained, args.steps, seed, 3e-3, 16, larger=False)
    for policy in POLICIES:
        model, row = copy_of(trained, family, policy), figures[policy]
        row["mIoU 1x"] = mean_iou(model, args.pictures)
        for factor in FACTORS:
            row[f"cosine, trained, zoom {factor}"] = agreement(model, factor)
            row[f"mIoU zoom {factor}"] = mean_iou(model, args.pictures, zoom=factor)
            row[f"mIoU field {factor}"] = mean_iou(model, args.pictures, field=factor)
        train(model, args.tune_steps, seed + 500, 1e-3, 4, larger=True)
        row["mIoU zoom 2, tuned"] = mean_iou(model, args.pictures, zoom=2)
        row["mIoU field 2, tuned"] = mean_iou(model, args.pictures, field=2)
    return figures


def spread(values: list[float]) -> str:
    """Mean and standard deviation over seeds."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.3f} ± {deviation:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=600, help="training steps at 64 pixels")
    parser.add_argument("--tune-steps", type=int, default=150, help="training steps at twice that")
    parser.add_argument("--pictures", type=int, default=64, help="pictures per test")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("size_policy_study.json"))
    args = parser.parse_args()
    if args.out.exists():
        parser.error(f"--out {args.out} exists: name another file, or move this one away first")

    results = {}
    for family in ("sMLPNet", "RandomMixing", "SpatialFC"):
        runs = [study(family, seed, args) for seed in range(args.seeds)]
        columns = ("figure", *POLICIES, "resample - window")
        table = Table(*columns, title=f"{family}, {args.seeds} seeds, mean ± deviation")
        results[family] = {policy: {} for policy in POLICIES}
        for figure in runs[0][POLICIES[0]]:
            window, resample = ([run[policy][figure] for run in runs] for policy in POLICIES)
            results[family]["window"][figure] = window
            results[family]["resample"][figure] = resample
            gain = [b - a for a, b in zip(window, resample, strict=True)]
            table.add_row(figure, spread(window), spread(resample), spread(gain))
        Console().print(table)

    report = dict(
        date=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        machine=f"{platform.machine()}, {os.cpu_count()} CPU cores, {platform.system()}",
        torch=torch.__version__,
        settings={key: str(value) for key, value in vars(args).items()},
        results=results,
    )
    write_whole(args.out, json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
