"""The contract of every backbone of the suite: an image in, a pyramid of feature maps out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from mmengine.model import BaseModule, PretrainedInit
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from .deploy_state import MARK, become_deployed, is_deployed, refuse_deployed, renewed
from .key_layouts import KeyLayout, to_native
from .layers import LayerSpec, build_norm
from .variants import Variant

MIN_IMAGE_SIDE = 32
"""Smallest height and width of an image, in pixels: one position at stride 32."""


class PyramidBackbone(BaseModule):
    """Base of all backbones: a stem, four stages, and an optional norm on each output.

    ``forward`` takes images ``[N, in_channels, H, W]``, H and W of at least 32 and otherwise free,
    and returns one feature map ``[N, out_channels[k], H / out_strides[k], W / out_strides[k]]`` for
    each requested stage (sides are rounded as the convolutions of the family round them).

    A subclass hands over its stem and, for each stage, a function that builds it. Stages above the
    last requested one are never built, so that distributed training meets no unused parameter.

    Args:
        stem: Module from image to the input of stage 0.
        stages: One builder per stage. A stage is a module with ``blocks``, an iterable module.
        depths: Blocks in each stage, those not built included.
        dims: Channels that each stage puts out.
        strides: Pixels of the image per position, by stage. Defaults to (4, 8, 16, 32).
        out_indices: Stages to put out, in ascending order, counted from 0; negatives count from
            the end. Defaults to all four.
        out_norm: Norm on each output, by name or dict, or None for the bare stage output; or a list
            with one for each of the four stages, also those that are not put out.
        frozen_stages: -1 freezes nothing, 0 the stem, k the stem and the first k stages.
            Frozen parts also stay in eval mode. Defaults to -1.
        with_cp: Recompute blocks in the backward pass to save memory. Defaults to False.
        output_stride: Largest stride, 8, 16 or 32, for heads that want finer feature maps. Above it
            the downsampling takes every position, and the convolutions in the blocks are dilated in
            turn, with the weights as they are. Pooling, attention and size-tied mixing see the
            finer feature map as it is. Defaults to 32.
        init_cfg: OpenMMLab initialisation, for example
            ``dict(type='Pretrained', checkpoint='...')``. Defaults to None.

    Attributes:
        out_channels: Channels of each output.
        out_strides: Stride of each output.
        feature_info: For each output ``dict(num_chs, reduction, module)``, as in timm.

    Raises:
        ValueError: For ``out_indices`` that are empty, out of range, repeated or not ascending,
            for ``frozen_stages`` outside -1..4, and for another ``output_stride``.
    """

    variants: Mapping[str, Variant] = {}
    """Published variants by ``arch``."""

    layouts: tuple[KeyLayout, ...] = ()
    """Foreign key layouts that ``load_state_dict`` understands, beside the native one."""

    def __init__(
        self,
        stem: nn.Module,
        stages: Sequence[Callable[[], nn.Module]],
        depths: Sequence[int],
        dims: Sequence[int],
        *,
        strides: Sequence[int] = (4, 8, 16, 32),
        out_indices: Sequence[int] = (0, 1, 2, 3),
        out_norm: LayerSpec | Sequence[LayerSpec] = None,
        frozen_stages: int = -1,
        with_cp: bool = False,
        output_stride: int = 32,
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(_report_pretrained(init_cfg))
        self.out_indices = resolve_out_indices(out_indices, strides)
        if not -1 <= frozen_stages <= len(strides):
            raise ValueError(
                f"frozen_stages={frozen_stages}: expected -1 (nothing), 0 (the stem) or up to "
                f"{len(strides)} (the stem and that many stages)"
            )
        check_output_stride(output_stride)
        dilations = [max(stride // output_stride, 1) for stride in strides]
        strides = [min(stride, output_stride) for stride in strides]
        self.depths = tuple(depths)
        self.frozen_stages = frozen_stages
        self.with_cp = with_cp
        self.out_channels = tuple(dims[i] for i in self.out_indices)
        self.out_strides = tuple(strides[i] for i in self.out_indices)
        self.feature_info = [
            dict(num_chs=dims[i], reduction=strides[i], module=f"stages.{i}")
            for i in self.out_indices
        ]

        self.stem = stem
        self.stages = nn.ModuleList(build() for build in stages[: self.out_indices[-1] + 1])
        for stage, dilation in zip(self.stages, dilations, strict=False):
            if dilation > 1:
                _keep_resolution(stage, dilation)
        # Computed here, not in forward: for changing sizes torch 2.4 makes symbols of integers, and
        # compiles `i in out_indices` wrongly.
        self._put_out = tuple(i in self.out_indices for i in range(len(self.stages)))
        out_norms = per_stage(out_norm, "out_norm", len(strides))
        self.out_norms = nn.ModuleDict(
            {str(i): build_norm(out_norms[i], dims[i]) for i in self.out_indices}
            if any(spec is not None for spec in out_norms)
            else {}
        )
        self._freeze()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the pyramid of ``x [N, C, H, W]``; see the class for the shapes.

        Raises:
            ValueError: If ``x`` is not such a batch or a side is below 32 pixels.
        """
        if x.ndim != 4 or x.shape[-2] < MIN_IMAGE_SIDE or x.shape[-1] < MIN_IMAGE_SIDE:
            raise ValueError(
                f"Input of shape {tuple(x.shape)}: expected [N, C, H, W] with H and W of at least "
                f"{MIN_IMAGE_SIDE} pixels; resize or pad the images"
            )
        maps = self.forward_stages(x)
        if self.out_norms:
            maps = [norm(x) for norm, x in zip(self.out_norms.values(), maps, strict=True)]
        return tuple(maps)

    def forward_stages(self, x: Tensor) -> list[Tensor]:
        """Compute the feature maps of the requested stages, before any output norm."""
        x = self.stem(x)
        maps = []
        for stage, put_out in zip(self.stages, self._put_out, strict=True):
            x = self.forward_stage(stage, x)
            if put_out:
                maps.append(x)
        return maps

    def forward_stage(self, stage: nn.Module, x: Tensor) -> Tensor:
        """Run one stage, recomputing its blocks in the backward pass if ``with_cp``."""
        if not (self.with_cp and torch.is_grad_enabled()):
            return stage(x)
        for name, part in stage.named_children():
            for block in part if name == "blocks" else [part]:
                x = checkpoint(
                    block,
                    x,
                    use_reentrant=False,
                    context_fn=lambda block=block: (nullcontext(), _no_batch_norm_update(block)),
                )
        return x

    def train(self, mode: bool = True) -> PyramidBackbone:
        """Set training mode, in which frozen parts stay in eval mode; returns self."""
        super().train(mode)
        for part in self._frozen_parts():
            part.eval()
        return self

    def switch_to_deploy(self) -> PyramidBackbone:
        """Fold, in place, every part that has an exact shorter form at inference.

        Each submodule with a ``switch_to_deploy`` of its own is asked to fold in place or to return
        the module that takes its place. Outputs stay the same up to rounding. State dicts of both
        forms load into the deployed model. Calling it again changes nothing.

        Returns:
            self.

        Raises:
            RuntimeError: In training mode, where the shorter form would be another model.
        """
        become_deployed(self, type(self)._fold)
        return self

    def get_layer_depth(self, param_name: str, prefix: str = "") -> tuple[int, int]:
        """Depth of a parameter for layer-wise learning-rate decay.

        This is ConvNeXt's published rule for dense tasks, for any depths. Three blocks of stage 2
        are one layer; each other stage is one layer. A downsampling belongs to the layer of its
        own stage, in stage 2 to the first of its layers.

        Args:
            param_name: Name of a parameter, as in ``named_parameters()`` of the whole model.
            prefix: What stands before the backbone's own names, for example ``'backbone.'``.

        Returns:
            The layer's depth, 0 for the stem, and the number of layers, the last of which holds
            everything outside stem and stages.
        """
        groups = -(-self.depths[2] // 3)
        last = 3 + groups
        name = param_name.removeprefix(prefix)
        if name.startswith("stem."):
            return 0, last + 2
        match = re.match(r"stages\.(\d+)\.(\w+)(?:\.(\d+))?", name)
        if not param_name.startswith(prefix) or match is None:
            return last + 1, last + 2
        stage, part, block = int(match[1]), match[2], int(match[3] or 0)
        if stage == 3:
            return last, last + 2
        depth = stage + 1
        if stage == 2 and part == "blocks":
            depth += block // 3
        return depth, last + 2

    def get_stage_depth(self, param_name: str, prefix: str = "") -> tuple[int, int]:
        """Depth of a parameter for stage-wise learning-rate decay.

        This is ConvNeXt's published rule for segmentation. The stem and all downsamplings have
        depth 0, the blocks of stage i depth i + 1. Everything else has the last depth of
        :meth:`get_layer_depth`.

        Args:
            param_name: Name of a parameter, as in ``named_parameters()`` of the whole model.
            prefix: What stands before the backbone's own names, for example ``'backbone.'``.

        Returns:
            The depth, 0 for the stem, and the number of layers, as :meth:`get_layer_depth` has it.
        """
        depth, count = self.get_layer_depth(param_name, prefix)
        match = re.match(r"stages\.(\d+)\.(\w+)", param_name.removeprefix(prefix))
        if depth == count - 1 or match is None:
            return depth, count
        return (0 if match[2] == "downsample" else int(match[1]) + 1), count

    def convert_state_dict(self, state_dict: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Bring a state dict of this family, in any known layout, to the names of this model.

        Returns:
            A new dict, or ``state_dict`` itself if there is nothing to change.
        """
        if MARK in state_dict:
            return renewed(state_dict, self)
        shapes = {key: value.shape for key, value in self.state_dict().items()}
        return to_native(state_dict, self.layouts, self.depths, shapes)

    def stage_of_tensor(self, name: str) -> int | None:
        """The stage of a tensor whose name does not tell it, -1 for the stem, None if unknown."""
        return None

    def foreign_names(self, keys: Iterable[str]) -> str:
        """What to call the names of a state dict that is in no known layout, for messages."""
        return "foreign"

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Convert what stands below ``prefix``, then load; any loader comes through here."""
        if not is_deployed(self):
            refuse_deployed(state_dict, prefix, type(self).__name__)
            self._convert_below(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _convert_below(self, state_dict: dict[str, Any], prefix: str) -> None:
        own = {k[len(prefix) :]: v for k, v in state_dict.items() if k.startswith(prefix)}
        renamed = self.convert_state_dict(own)
        if renamed is not own:
            for key in own:
                del state_dict[prefix + key]
            state_dict.update({prefix + key: value for key, value in renamed.items()})

    def _fold(self) -> None:
        fold_children(self)

    def _frozen_parts(self) -> list[nn.Module]:
        if self.frozen_stages < 0:
            return []
        return [self.stem, *self.stages[: self.frozen_stages]]

    def _freeze(self) -> None:
        for part in self._frozen_parts():
            part.eval()
            part.requires_grad_(False)


def fold_children(module: nn.Module) -> None:
    """Call ``switch_to_deploy`` of every module below ``module`` that has it."""
    for name, child in list(module.named_children()):
        if hasattr(child, "switch_to_deploy"):
            child = child.switch_to_deploy() or child
            setattr(module, name, child)
        fold_children(child)


def check_output_stride(output_stride: int) -> None:
    """Raise a ValueError for a largest stride that is none of 8, 16 and 32."""
    if output_stride not in (8, 16, 32):
        raise ValueError(f"output_stride={output_stride!r}: expected 8, 16 or 32")


def resolve_out_indices(out_indices: Sequence[int] | int, strides: Sequence[int]) -> tuple:
    """Turn stage numbers, negatives allowed, into ascending numbers from 0.

    Raises:
        ValueError: If there are none, or one is out of range, repeated or out of order.
    """
    given = (out_indices,) if isinstance(out_indices, int) else tuple(out_indices)
    count = len(strides)
    offer = ", ".join(f"{i} (stride {stride})" for i, stride in enumerate(strides))
    if not given or any(not isinstance(i, int) or not -count <= i < count for i in given):
        raise ValueError(
            f"out_indices={out_indices!r}: expected one or more stages out of {offer}, "
            f"or {-count} to -1 counted from the end"
        )
    resolved = tuple(i % count for i in given)
    if list(resolved) != sorted(set(resolved)):
        raise ValueError(
            f"out_indices={out_indices!r}: stages must ascend and not repeat, as necks expect the "
            f"finest feature map first; use {tuple(sorted(set(resolved)))}"
        )
    return resolved


def per_stage(value: Any, name: str, count: int = 4) -> list:
    """A list with one value per stage, from such a list or from one value for all stages.

    Args:
        value: What the argument was given.
        name: The argument, for the message.
        count: Number of stages. Defaults to 4.

    Raises:
        ValueError: If the list has another length.
    """
    if not isinstance(value, list | tuple):
        return [value] * count
    if len(value) != count:
        raise ValueError(
            f"{name}={value!r}: expected one value, or a list of one per stage ({count})"
        )
    return list(value)


def _report_pretrained(init_cfg: Any) -> Any:
    """Replace mmengine's class for pretrained weights by its name.

    Under that name our own class is registered, which reports how the weights fit.
    """
    if isinstance(init_cfg, list | tuple):
        return [_report_pretrained(one) for one in init_cfg]
    if init_cfg and init_cfg.get("type") is PretrainedInit:
        return dict(init_cfg, type="Pretrained")
    return init_cfg


def _keep_resolution(stage: nn.Module, dilation: int) -> None:
    """Take the stride from a stage, and dilate its convolutions, so that they see as far still."""
    stage.downsample.keep_resolution(max(dilation // 2, 1))
    for layer in stage.blocks.modules():
        if isinstance(layer, nn.Conv2d) and max(layer.kernel_size) > 1:
            layer.dilation = (dilation, dilation)
            layer.padding = tuple(dilation * side for side in layer.padding)


@contextmanager
def _no_batch_norm_update(block: nn.Module):
    """Keep batch norms from counting a batch twice when a block is recomputed.

    They still track, with momentum 0: recomputing must save the same tensors for the backward pass
    as the first computation did.
    """
    norms = [m for m in block.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    kept = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm, _, count in kept:
        norm.momentum, norm.num_batches_tracked = 0.0, count.clone()
    try:
        yield
    finally:
        for norm, momentum, count in kept:
            norm.momentum, norm.num_batches_tracked = momentum, count
