"""How whole detectors and segmentors run in a benchmark, on made-up pictures.

At inference: the network itself, and what it needs on its way (proposals with their NMS, RoIAlign),
on the numbers of regions that MACs are counted with. What follows, final NMS, pasting of masks,
enlarging of label maps, is left out: its cost depends on what is found, and an untrained head
finds nothing or everything.

In training: all losses, with made-up annotations.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .complexity import MASK_REGIONS

OBJECTS = 10
"""Made-up objects per picture in training."""


def run_network(model: nn.Module, images: Tensor) -> object:
    """One inference pass of a detector or segmentor over ``images [N, C, H, W]``."""
    samples = make_samples(model, images)
    roi_head = getattr(model, "roi_head", None)
    if not isinstance(roi_head, nn.Module):
        return model(images, samples, mode="tensor")
    maps = model.extract_feat(images)
    found = model.rpn_head.predict(maps, samples, rescale=False)
    if not isinstance(roi_head.bbox_head, nn.ModuleList):
        return roi_head.forward(maps, found, samples)
    from mmdet.structures.bbox import bbox2roi

    regions = bbox2roi([each.bboxes for each in found])
    # All pictures' regions go through every stage; the cascade's own forward would run its mask
    # heads on all of them, prediction on the few that are kept.
    boxes = roi_head._refine_roi(
        maps, regions, [s.metainfo for s in samples], tuple(len(each.bboxes) for each in found)
    )
    if not roi_head.with_mask:
        return boxes
    regions = regions[: MASK_REGIONS * len(images)]
    return boxes, [
        roi_head._mask_forward(stage, maps, regions) for stage in range(roi_head.num_stages)
    ]


def training_loss(model: nn.Module, images: Tensor) -> Tensor:
    """The loss of a detector or segmentor on ``images [N, C, H, W]`` with made-up annotations."""
    losses = model(images, make_samples(model, images, annotated=True), mode="loss")
    return model.parse_losses(losses)[0]


def make_samples(model: nn.Module, images: Tensor, annotated: bool = False) -> list:
    """One data sample per image, as data pipelines would make them; the same at each call."""
    side = tuple(images.shape[-2:])
    info = dict(
        img_shape=side,
        ori_shape=side,
        pad_shape=side,
        batch_input_shape=side,
        scale_factor=(1.0, 1.0),
    )
    detector = hasattr(model, "rpn_head") or hasattr(model, "bbox_head")
    make = _boxes if detector else _label_map
    random = torch.Generator().manual_seed(0)
    return [make(model, side, info, annotated, random, images.device) for _ in images]


def _boxes(model, side, info, annotated, random, device):
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    sample = DetDataSample(metainfo=info)
    if annotated:
        height, width = side
        limit = torch.tensor([width, height])
        low = torch.rand(OBJECTS, 2, generator=random) * 0.7 * limit
        size = (0.05 + 0.25 * torch.rand(OBJECTS, 2, generator=random)) * limit
        boxes = torch.cat([low, low + size], 1)
        sample.gt_instances = InstanceData(
            bboxes=boxes.to(device),
            labels=torch.zeros(OBJECTS, dtype=torch.long, device=device),
        )
        if getattr(model, "with_mask", False):
            masks = torch.zeros(OBJECTS, height, width, dtype=torch.uint8)
            for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
                mask[y1:y2, x1:x2] = 1
            sample.gt_instances.masks = BitmapMasks(masks.numpy(), height, width)
    return sample


def _label_map(model, side, info, annotated, random, device):
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    sample = SegDataSample(metainfo=info)
    if annotated:
        labels = torch.randint(model.decode_head.num_classes, (1, *side), generator=random)
        sample.gt_sem_seg = PixelData(data=labels.to(device))
    return sample
