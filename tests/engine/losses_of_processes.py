"""How far losses move when one batch is dealt out to two processes, for heads of mmdet.

``python tests/engine/losses_of_processes.py`` prints the table of docs/resume.md. Each head
computes the losses of four pictures with 1, 2, 5 and 12 objects, once in one process, and once in
two of two pictures each, whose mean is what DDP trains on. Norms and dropout are in eval mode and
the pictures are noise: only what a head divides by differs, and what it draws by chance.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from mmdet.models.dense_heads import anchor_head
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmdet.utils import register_all_modules
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData
from torch import distributed, multiprocessing, nn

import mmplugins
from mmplugins.compat.patches.patch import replaced
from mmplugins.engine import load_config

HEADS = dict(
    RetinaNet="retinanet/retinanet_r50_fpn_1x_coco.py",
    SSD="ssd/ssd300_coco.py",
    FCOS="fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py",
    ATSS="atss/atss_r50_fpn_1x_coco.py",
    GFL="gfl/gfl_r50_fpn_1x_coco.py",
    RTMDet="rtmdet/rtmdet_tiny_8xb32-300e_coco.py",
    DETR="detr/detr_r50_8xb2-150e_coco.py",
    FSAF="fsaf/fsaf_r50_fpn_1x_coco.py",
    FoveaBox="foveabox/fovea_r50_fpn_4xb4-1x_coco.py",
    RepPoints="reppoints/reppoints-moment_r50_fpn_1x_coco.py",
    FasterRCNN="faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py",
    MaskRCNN="mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py",
    CascadeRCNN="cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py",
)
OBJECTS, SIDE = (1, 2, 5, 12), 128
SIDES = dict(SSD=300)  # which takes no other


@lru_cache(1)
def model_of(name: str, seed: int) -> nn.Module:
    """A detector of mmdet's config, a ResNet-18 in the place of its ResNet-50, no weights."""
    register_all_modules(init_default_scope=False)
    spec = load_config(f"mmdet::{HEADS[name]}").model
    backbone = spec.backbone
    backbone.pop("init_cfg", None)
    if backbone.type == "ResNet":
        backbone.depth = 18
        backbone.pop("dcn", None)
        _quarter(spec.neck)
    torch.manual_seed(seed)
    with DefaultScope.overwrite_default_scope("mmdet"):
        model = MODELS.build(ConfigDict(spec))
        model.init_weights()
    model.train()
    for layer in model.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm | nn.Dropout):
            layer.eval()
    return model


def _quarter(neck: dict[str, Any]) -> None:
    channels = neck.in_channels
    neck.in_channels = [n // 4 for n in channels] if isinstance(channels, list) else channels // 4


def batch_of(seed: int, side: int, masked: bool) -> tuple[torch.Tensor, list[DetDataSample]]:
    """Four pictures of noise with boxes, and masks if wanted."""
    draw = torch.Generator().manual_seed(seed)
    images = torch.randn(len(OBJECTS), 3, side, side, generator=draw)
    samples = []
    for count in OBJECTS:
        size = 12 + 50 * torch.rand(count, 2, generator=draw)
        corner = torch.rand(count, 2, generator=draw) * (side - size)
        boxes = torch.cat([corner, corner + size], 1)
        masks = torch.zeros(count, side, side, dtype=torch.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
            mask[y1:y2, x1:x2] = 1
        labels = torch.randint(0, 80, (count,), generator=draw)
        shape = (side, side)
        sample = DetDataSample(
            metainfo=dict(
                img_shape=shape,
                ori_shape=shape,
                pad_shape=shape,
                batch_input_shape=shape,
                scale_factor=(1.0, 1.0),
            )
        )
        sample.gt_instances = InstanceData(bboxes=boxes, labels=labels)
        if masked:
            sample.gt_instances.masks = BitmapMasks(masks.numpy(), *shape)
        sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=labels[:0])
        samples.append(sample)
    return images, samples


def loss_of(name: str, seed: int, rank: int = 0, processes: int = 1, chance: int = 0) -> float:
    """The sum of all losses of one process's share of a batch.

    Args:
        name: Of :data:`HEADS`.
        seed: Of weights and pictures.
        rank: Of the process.
        processes: Their number.
        chance: Seed of what the head draws itself.
    """
    model = model_of(name, seed)
    images, samples = batch_of(seed, SIDES.get(name, SIDE), "Mask" in name)
    share = len(OBJECTS) // processes
    mine = slice(rank * share, (rank + 1) * share)
    torch.manual_seed(1000 + chance + rank)
    with DefaultScope.overwrite_default_scope("mmdet"), torch.no_grad():
        losses = model.loss(images[mine], samples[mine])
    return float(model.parse_losses(losses)[0])


def _process(rank: int, folder: str, names: Sequence[str], seeds: Sequence[int]) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    found: dict[str, list[float]] = {}
    for name in names:
        found[name] = [loss_of(name, seed, rank, 2) for seed in seeds]
    original = anchor_head.AnchorHead.get_targets.__wrapped__
    with replaced(anchor_head.AnchorHead, "get_targets", original):
        found["RetinaNet of mmdet"] = [loss_of("RetinaNet", seed, rank, 2) for seed in seeds]
    (Path(folder) / f"{rank}.json").write_text(json.dumps(found))
    distributed.barrier()
    distributed.destroy_process_group()


def differences(names: Sequence[str], seeds: Sequence[int]) -> dict[str, tuple[float, float]]:
    """By head, in percent of the loss: mean difference of two processes from one, and by chance.

    The latter is the difference of two runs of one process that draw other samples.
    """
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(_process, (folder, list(names), list(seeds)), nprocs=2)
        ranks = [json.loads((Path(folder) / f"{rank}.json").read_text()) for rank in (0, 1)]
    rows = {}
    for name in ranks[0]:
        head = name.removesuffix(" of mmdet")
        pairs = [(loss_of(head, seed), loss_of(head, seed, chance=500)) for seed in seeds]
        one, other = torch.tensor(pairs).T
        two = torch.tensor([ranks[0][name], ranks[1][name]]).mean(0)
        rows[name] = tuple(float(100 * ((loss - one).abs() / one).mean()) for loss in (two, other))
    return rows


def main() -> None:
    torch.set_num_threads(1)
    seeds = range(3)
    rows = differences(list(HEADS), seeds)
    print(f"mmplugins {mmplugins.__version__}, {date.today()}, {len(seeds)} draws\n")
    print("| head | two processes differ by | by chance alone |\n| --- | ---: | ---: |")
    for name, (two, chance) in rows.items():
        print(f"| {name} | {two:.2g} % | {chance:.2g} % |")


if __name__ == "__main__":
    main()
