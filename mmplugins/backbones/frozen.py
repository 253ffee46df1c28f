"""Any backbone without gradients and in eval mode, with an optional cache of its feature maps."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from safetensors.torch import load_file, save
from torch import Tensor

from mmplugins.utils import write_whole

GIB = 2**30


@MODELS.register_module()
class FrozenBackbone(BaseModule):
    """Runs any backbone in eval mode under ``no_grad``, also while the model around it trains.

    With a cache, a picture that comes again, pixel by pixel the same, is not computed again: its
    feature maps are read from the cache. Pictures then run one by one, so that the feature maps of
    a picture depend neither on the rest of the batch nor on the process that computed them first.
    Pipelines without random crops and colours gain from it; a random flip doubles what is kept.

    Args:
        backbone: Config dict of any registered backbone.
        cache: Folder for the feature maps; several processes may share it. Defaults to None, no
            cache.
        cache_gib: How much this module may write there, in GiB. Defaults to 20.
    """

    def __init__(
        self, backbone: Mapping[str, Any], cache: str | None = None, cache_gib: float = 20.0
    ):
        super().__init__()
        self.backbone = MODELS.build(backbone)
        self.backbone.requires_grad_(False)
        self.cache = Path(cache) if cache else None
        self.left = int(cache_gib * GIB)
        self._weights: str | None = None
        self.train(self.training)

    def __getattr__(self, name: str) -> Any:
        """What the backbone says about itself: ``out_channels``, ``out_strides`` and so on."""
        if name in ("out_channels", "out_strides", "feature_info", "out_indices"):
            return getattr(self.backbone, name)
        return super().__getattr__(name)

    def get_layer_depth(self, param_name: str, prefix: str = "backbone.") -> tuple[int, int]:
        """As the backbone's own."""
        return self.backbone.get_layer_depth(param_name, f"{prefix}backbone.")

    def get_stage_depth(self, param_name: str, prefix: str = "backbone.") -> tuple[int, int]:
        """As the backbone's own."""
        return self.backbone.get_stage_depth(param_name, f"{prefix}backbone.")

    def train(self, mode: bool = True) -> FrozenBackbone:
        """Set the mode of this module; the backbone stays in eval mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    @torch.no_grad()
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Feature maps of pictures ``[N, C, H, W]``, without gradients."""
        if self.cache is None:
            return tuple(self.backbone(x))
        by_picture = [self._cached(picture, self.cache) for picture in x.split(1)]
        return tuple(torch.cat(maps) for maps in zip(*by_picture, strict=True))

    def _cached(self, picture: Tensor, cache: Path) -> tuple[Tensor, ...]:
        if self._weights is None:
            self._weights = _digest(*self.backbone.state_dict().values())
        key = _digest(picture, str(torch.is_autocast_enabled(picture.device.type)))
        file = cache / self._weights / key[:2] / f"{key}.safetensors"
        if file.is_file():
            kept = load_file(file)
            return tuple(kept[str(i)].to(picture.device) for i in range(len(kept)))
        maps = tuple(self.backbone(picture))
        data = save({str(i): x.cpu().contiguous() for i, x in enumerate(maps)})
        if len(data) <= self.left:
            self.left -= len(data)
            write_whole(file, data)
        return maps


def _digest(*values: Tensor | str) -> str:
    """A hash of values; equal for equal bytes, shapes and dtypes."""
    found = hashlib.blake2b(digest_size=16)
    for value in values:
        if isinstance(value, Tensor):
            found.update(f"{tuple(value.shape)} {value.dtype}".encode())
            value = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
            found.update(value.data)
        else:
            found.update(value.encode())
    return found.hexdigest()
