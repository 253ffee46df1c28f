"""Whether two forms of a model compute the same: what its parts put out before any selection."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor, nn

DENSE_HEADS = ("bbox_head", "rpn_head", "decode_head", "auxiliary_head")


@torch.no_grad()
def raw_outputs(model: nn.Module, image: Tensor) -> list[Tensor]:
    """All maps and scores of a model, before anything is sorted, selected or rounded.

    The maps of the neck, what each dense head makes of them, and what the heads on regions make of
    two regions: the middle of the image and the whole of it. Nothing in them jumps when a number
    changes in its last digit, as boxes do.

    Args:
        model: Detector, segmentor, or any module that takes images only.
        image: Normalised images ``[N, 3, H, W]``.
    """
    if not hasattr(model, "extract_feat"):
        return list(_tensors(model(image)))
    maps = model.extract_feat(image)
    outputs = [maps]
    for name in DENSE_HEADS:
        head = getattr(model, name, None)
        heads = head if isinstance(head, nn.ModuleList) else [head]
        outputs += [head(maps) for head in heads if head is not None]
    if getattr(model, "roi_head", None) is not None:
        outputs.append(_on_regions(model.roi_head, maps, image))
    return list(_tensors(outputs))


def largest_difference(outputs: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Largest difference of two lists of outputs, each relative to its largest expected value.

    Raises:
        ValueError: If the lists differ in length or shapes, or a value is not finite.
    """
    shapes = [tuple(x.shape) for x in outputs], [tuple(x.shape) for x in expected]
    if shapes[0] != shapes[1]:
        raise ValueError(f"Outputs of shapes {shapes[0]}, expected {shapes[1]}")
    largest = 0.0
    for x, e in zip(outputs, expected, strict=True):
        if not (x.isfinite().all() and e.isfinite().all()):
            raise ValueError("Outputs that are not finite: check the weights")
        scale = e.abs().max().clamp_min(torch.finfo(e.dtype).tiny)
        largest = max(largest, ((x - e).abs().max() / scale).item())
    return largest


def _on_regions(roi_head: nn.Module, maps: Sequence[Tensor], image: Tensor) -> list[Any]:
    n, _, height, width = image.shape
    size = image.new_tensor([width, height, width, height])
    boxes = torch.stack([size * size.new_tensor([0.25, 0.25, 0.75, 0.75]), size * 1.0])
    boxes[1, :2] = 0
    regions = torch.cat([torch.cat([boxes.new_full((2, 1), i), boxes], 1) for i in range(n)])
    outputs = []
    for stage in range(getattr(roi_head, "num_stages", 1)):
        given = (stage,) if hasattr(roi_head, "num_stages") else ()
        for part in ("bbox", "mask"):
            if getattr(roi_head, f"with_{part}"):
                forward = getattr(roi_head, f"_{part}_forward")
                outputs.append(forward(*given, maps, regions))
    return outputs


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, InstanceData | Mapping):
        for _, item in value.items():
            yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
