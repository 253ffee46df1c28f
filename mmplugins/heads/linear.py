"""Batch norm and one 1x1 convolution: how much of a segmentation lies in the features already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmcv.cnn import build_norm_layer
from mmengine.registry import MODELS
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor


@MODELS.register_module()
class LinearHead(BaseDecodeHead):
    """A linear classifier of each position: batch norm, then one linear layer.

    Frozen features are probed with it (DINOv2, arXiv 2304.07193, section 7.4).

    Args:
        in_channels: Channels of the feature map that it takes, or a list for several. Several are
            resized bilinearly to the size of the first and concatenated.
        in_index: Number of that feature map, or of each of them. Defaults to the last one, or to
            as many as ``in_channels`` lists, from the first.
        dropout_ratio: Dropout after the norm. Defaults to 0.
        **kwargs: As mmseg's ``BaseDecodeHead`` takes them: ``num_classes``, ``norm_cfg``, ...
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        in_index: int | Sequence[int] | None = None,
        dropout_ratio: float = 0.0,
        **kwargs: Any,
    ):
        maps: int | list[int] = -1
        several, channels = None, in_channels
        if not isinstance(in_channels, int):
            several, channels = list(in_channels), sum(in_channels)
            maps = list(range(len(several)))
        super().__init__(
            in_channels=several or channels,
            channels=channels,
            in_index=maps if in_index is None else in_index,
            input_transform="resize_concat" if several else None,
            dropout_ratio=dropout_ratio,
            **kwargs,
        )
        self.norm = build_norm_layer(self.norm_cfg or dict(type="BN"), channels)[1]

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Logits ``[N, classes, H, W]`` at the size of the first feature map that it takes."""
        return self.cls_seg(self.norm(self._transform_inputs(inputs)))
