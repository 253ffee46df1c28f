"""Parameters and multiply-accumulates (MACs), of a backbone or of a whole detector or segmentor.

What counts as a MAC here: one multiplication of a convolution, transposed or not, of a linear
layer, of a matrix product (einsum too) or of attention (both of its products, fused kernels too,
no discount for masks), by the formulas of :mod:`torch.utils.flop_counter`, whose FLOPs are twice
as many. Biases, norms, activations, scales, softmax, interpolation and RoIAlign are not MACs.
Pooling multiplies nothing: its operations, one per entry of each window, are counted apart, as
``pooling``. This is the convention of fvcore, hence of the MetaFormer papers' tables. mmcv's
counter, behind the tables of mmdet, mmseg, PVT and ConvNeXt's dense models, adds biases, batch
norms and ReLU, which is below 1 % there.

Of a model that proposes regions, as mmdet's ``get_flops.py`` did for these tables: the proposal
head over all levels, the box heads on 1000 regions and the mask heads on 100, at all stages of a
cascade. Of a segmentor: without the auxiliary head, which inference does not run.

Nothing is computed: shapes alone run through the model, so a large model at a large size takes
seconds and no memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry, sdpa_flop_count

BOX_REGIONS, MASK_REGIONS = 1000, 100
"""Regions per image that box heads and mask heads are counted with."""

PARTS = ("backbone", "neck", "head")
"""Parts of a model. A backbone alone is all backbone; what follows the neck is head."""

_ROI_HEADS = ("StandardRoIHead", "CascadeRoIHead", "DynamicRoIHead")


class ComplexityError(ValueError):
    """A model whose MACs cannot be counted; the message says why."""


@dataclass(frozen=True)
class Parameters:
    """Numbers of parameters; one that several parts share counts once, in the first.

    Attributes:
        total: All, fixed ones included, without buffers.
        trainable: Those with ``requires_grad``.
        by_part: All, by part of :data:`PARTS`; parts without any are left out.
    """

    total: int
    trainable: int
    by_part: dict[str, int]


@dataclass(frozen=True)
class Macs:
    """Multiply-accumulates of one forward pass, by the convention of this module.

    Attributes:
        total: Of convolutions, matrix products and attention.
        by_part: The same, by part of :data:`PARTS`; parts without any are left out.
        pooling: Operations of pooling, one per entry of each window; not in ``total``.
        size: Height and width of the image in pixels.
        batch: Images in the pass.
    """

    total: int
    by_part: dict[str, int]
    pooling: int
    size: tuple[int, int]
    batch: int = 1


def part_of(name: str, whole: bool = True) -> str:
    """The part of :data:`PARTS` that a parameter or module belongs to.

    Args:
        name: Its dotted name in the model.
        whole: Whether the model is a detector or segmentor and not a mere backbone.
    """
    first = name.partition(".")[0]
    return "backbone" if not whole else first if first in PARTS else "head"


def is_whole(model: nn.Module) -> bool:
    """Whether a model is a detector or segmentor of OpenMMLab's form and not a mere backbone."""
    return isinstance(getattr(model, "backbone", None), nn.Module)


def count_parameters(model: nn.Module) -> Parameters:
    """Count the parameters of a backbone, detector or segmentor."""
    by_part: Counter[str] = Counter()
    trainable = 0
    for name, parameter in model.named_parameters():
        by_part[part_of(name, is_whole(model))] += parameter.numel()
        trainable += parameter.numel() * parameter.requires_grad
    return Parameters(by_part.total(), trainable, dict(by_part))


def count_macs(model: nn.Module, size: Sequence[int], batch: int = 1, in_channels: int = 3) -> Macs:
    """Count the MACs of one forward pass at inference.

    The model is used where it is, also on the meta device; its data are neither read nor changed.

    Args:
        model: A module that takes images, or a detector or segmentor of OpenMMLab.
        size: Height and width of the images, in pixels.
        batch: Images in the pass. Defaults to 1.
        in_channels: Channels of the images. Defaults to 3.

    Raises:
        ComplexityError: If the model does not take such images, or its heads are called in a way
            that this module does not know.
    """
    height, width = size
    first = next(model.parameters(), torch.empty(0))
    shapes_only = nullcontext() if first.is_meta else FakeTensorMode(allow_non_fake_inputs=True)
    training = [module for module in model.modules() if module.training]
    model.eval()
    counter = _PartCounter(model)
    try:
        with shapes_only, torch.no_grad(), counter:
            shape = (batch, in_channels, height, width)
            _forward(model, torch.empty(shape, device=first.device, dtype=first.dtype))
    except ComplexityError:
        raise
    except Exception as error:
        raise ComplexityError(
            f"{type(model).__name__} cannot be run on {batch} x {in_channels} x {height} x "
            f"{width} to count its MACs: {type(error).__name__}: {error}"
        ) from error
    finally:
        for module in training:
            module.training = True
    return counter.macs((height, width), batch)


def _forward(model: nn.Module, images: Tensor) -> None:
    """All that runs once per image at inference, without post-processing."""
    if not is_whole(model):
        model(images)
    elif isinstance(getattr(model, "roi_head", None), nn.Module):
        maps = model.extract_feat(images)
        if getattr(model, "rpn_head", None) is not None:
            model.rpn_head(maps)
        _roi_heads(model.roi_head, images)
    else:
        side = tuple(images.shape[-2:])
        info = dict(img_shape=side, batch_input_shape=side, pad_shape=side, ori_shape=side)
        model(images, [BaseDataElement(metainfo=info) for _ in images], mode="tensor")


def _roi_heads(roi_head: nn.Module, images: Tensor) -> None:
    """Box and mask heads, on maps of regions as RoIAlign would make them.

    The regions themselves would depend on the weights, and RoIAlign has no MACs.
    """
    kind = type(roi_head).__name__
    if kind not in _ROI_HEADS:
        raise ComplexityError(
            f"roi_head of type {kind}: its heads are called in a way of its own, and MACs are "
            f"known for {', '.join(_ROI_HEADS)} only"
        )
    for what, regions in (("bbox", BOX_REGIONS), ("mask", MASK_REGIONS)):
        if not getattr(roi_head, f"with_{what}"):
            continue
        extractors = _listed(getattr(roi_head, f"{what}_roi_extractor"))
        heads = _listed(getattr(roi_head, f"{what}_head"))
        for extractor, head in zip(extractors, heads, strict=True):
            side = extractor.roi_layers[0].output_size
            x = images.new_empty(len(images) * regions, extractor.out_channels, *side)
            head(roi_head.shared_head(x) if roi_head.with_shared_head else x)


def _listed(module: nn.Module) -> list[nn.Module]:
    return list(module) if isinstance(module, nn.ModuleList) else [module]


class _PartCounter:
    """Counts what runs while it is entered, and how much of it in the backbone and in the neck."""

    def __init__(self, model: nn.Module):
        self.mode = FlopCounterMode(display=False, custom_mapping=_POOLING | _MISSING)
        self.by_part: Counter[str] = Counter()
        self.modules = [("backbone", model)]
        if is_whole(model):
            named = ((name, getattr(model, name, None)) for name in ("backbone", "neck"))
            self.modules = [(name, part) for name, part in named if isinstance(part, nn.Module)]
        self.handles: list[Any] = []

    def __enter__(self) -> _PartCounter:
        for part, module in self.modules:
            self.handles += [
                module.register_forward_pre_hook(lambda *_, part=part: self._add(part, -1)),
                module.register_forward_hook(lambda *_, part=part: self._add(part, 1)),
            ]
        self.mode.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.mode.__exit__(*error)
        for handle in self.handles:
            handle.remove()

    def macs(self, size: tuple[int, int], batch: int) -> Macs:
        """What was counted."""
        total, pooling = self._so_far()
        self.by_part["head"] = total - self.by_part.total()
        return Macs(total, {k: n for k, n in self.by_part.items() if n}, pooling, size, batch)

    def _add(self, part: str, sign: int) -> None:
        self.by_part[part] += sign * self._so_far()[0]

    def _so_far(self) -> tuple[int, int]:
        counts = self.mode.get_flop_counts().get("Global", {})
        pooling = sum(n for op, n in counts.items() if op in _POOLING)
        return (sum(counts.values()) - pooling) // 2, pooling


def _window(place: int) -> Callable[..., int]:
    """Formula of a pooling whose window is the argument of that number."""

    def operations(x: Sequence[int], *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
        kernel = args[place - 1]
        kernel = kernel if len(kernel) > 1 else list(kernel) * 2
        out = out_shape[0] if isinstance(out_shape[0], tuple | list | torch.Size) else out_shape
        return prod(out) * prod(kernel)

    return operations


def _adaptive(x: Sequence[int], *args: Any, **kwargs: Any) -> int:
    """Windows that tile the map: each position enters about once."""
    return prod(x)


_aten = torch.ops.aten
_POOLING = {
    _aten.avg_pool2d: _window(1),
    _aten.max_pool2d_with_indices: _window(1),
    _aten.adaptive_avg_pool2d: _adaptive,
    _aten._adaptive_avg_pool2d: _adaptive,
    _aten.adaptive_max_pool2d: _adaptive,
}


def _attention(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:
    return sdpa_flop_count(query, key, value)


# What PyTorch's counter does not know: torch 2.4 attention on the CPU.
_MISSING = {
    operator: _attention
    for operator in [_aten._scaled_dot_product_flash_attention_for_cpu]
    if operator not in flop_registry
}
