"""The outline of a config: the parts of its model with a backbone, and what maps that puts out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS
from torch import Tensor, nn

from mmplugins.utils import did_you_mean, listed

from .settings import SettingError, merge_options

PROBE_SIDE = 128
"""Side of the image, in pixels, that shows what a backbone without ``out_strides`` puts out."""


class UnknownMaps(SettingError):
    """A backbone that neither says nor shows what it puts out."""


@dataclass(frozen=True)
class Maps:
    """A pyramid of feature maps, finest first.

    Attributes:
        channels: Channels of each map.
        strides: Pixels of the image per position of each map.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]

    @classmethod
    def of(cls, outs: Any) -> Maps:
        """Those that a model makes of a picture of :data:`PROBE_SIDE` pixels.

        Raises:
            ValueError: If these are no maps.
        """
        maps = (outs,) if isinstance(outs, Tensor) else tuple(outs)
        if any(not isinstance(x, Tensor) or x.ndim != 4 for x in maps):
            raise ValueError("it puts out something else than maps [N, C, H, W], which necks take")
        strides = (round(PROBE_SIDE / x.shape[-1]) for x in maps)
        return cls(tuple(x.shape[1] for x in maps), tuple(strides))

    def __getitem__(self, levels: slice | Sequence[int]) -> Maps:
        """The maps of some levels."""
        if isinstance(levels, slice):
            return Maps(self.channels[levels], self.strides[levels])
        return Maps(*(tuple(some[k] for k in levels) for some in (self.channels, self.strides)))

    def __str__(self) -> str:
        return f"channels {list(self.channels)} at strides {list(self.strides)}"


@dataclass(frozen=True)
class Part:
    """A detector or segmentor in a config: a backbone, and the neck and heads that take its maps.

    Attributes:
        config: Its dict, with ``backbone``, ``neck`` and heads.
        maps: What the backbone puts out; None if that cannot be told.
    """

    config: Mapping[str, Any]
    maps: Maps | None


@dataclass(frozen=True)
class ComposedConfig:
    """A config and the outline of its model, handed on together so that none is built twice.

    Attributes:
        cfg: The config.
        parts: What in its model has a backbone, by dotted path: ``'model'``, ``'model.student'``.
    """

    cfg: Config
    parts: Mapping[str, Part]

    @classmethod
    def of(cls, cfg: Config, model: nn.Module | None = None) -> ComposedConfig:
        """A config with its outline.

        Args:
            cfg: Config of any task.
            model: What has been built of ``cfg.model``, so that its backbones need not be built to
                look at. Defaults to None.

        Raises:
            SettingError: As :func:`backbone_maps`, but for maps that cannot be told.
        """
        scope = cfg.get("default_scope")
        parts = {
            path: Part(part, _maps_of(part["backbone"], scope, _backbone_at(path, model)))
            for path, part in parts_with_backbone(cfg.get("model") or {}).items()
        }
        return cls(cfg, parts)

    def with_maps(self, path: str, maps: Maps) -> ComposedConfig:
        """The same config, with another backbone in one part."""
        return replace(self, parts={**self.parts, path: replace(self.parts[path], maps=maps)})

    def merged(self, options: dict[str, Any]) -> ComposedConfig:
        """The same config with ``options`` merged into it, see :func:`.settings.merge_options`.

        Only backbones that the options change are looked at anew.
        """
        before = {path: deepcopy(part.config["backbone"]) for path, part in self.parts.items()}
        merge_options(self.cfg, options)
        scope, parts = self.cfg.get("default_scope"), {}
        for path, part in parts_with_backbone(self.cfg.get("model") or {}).items():
            same = part["backbone"] == before.get(path)
            maps = self.parts[path].maps if same else _maps_of(part["backbone"], scope)
            parts[path] = Part(part, maps)
        return replace(self, parts=parts)


def _maps_of(
    backbone: Mapping[str, Any], scope: str | None, built: nn.Module | None = None
) -> Maps | None:
    try:
        return backbone_maps(backbone, scope, built) if "type" in backbone else None
    except UnknownMaps:
        return None


def _backbone_at(path: str, model: nn.Module | None) -> nn.Module | None:
    """The backbone of a part in a built model; None in a wrapper with other names for its parts."""
    for name in f"{path}.backbone".split(".")[1:]:
        model = getattr(model, name, None)
    return model


def parts_with_backbone(model: Mapping[str, Any], path: str = "model") -> dict[str, Any]:
    """The dicts of a model config that have a ``backbone``, by dotted path.

    That is the model itself or, for a wrapper, what it wraps.
    """
    if isinstance(model.get("backbone"), Mapping):
        return {path: model}
    found: dict[str, Any] = {}
    for key, value in model.items():
        if isinstance(value, Mapping):
            found |= parts_with_backbone(value, f"{path}.{key}")
    return found


def learning_parts(model: Mapping[str, Any]) -> dict[str, Any]:
    """As :func:`parts_with_backbone`, without the teacher of a distillation."""
    parts = parts_with_backbone(model)
    return {path: part for path, part in parts.items() if not path.endswith(".teacher")}


def first_neck(part: Mapping[str, Any]) -> ConfigDict | None:
    """The neck that meets the backbone, if there is one; mmdet also takes a list of necks."""
    neck = part.get("neck")
    return neck[0] if isinstance(neck, list | tuple) and neck else neck or None


def heads_by_index(part: Mapping[str, Any]) -> Iterator[tuple[str, ConfigDict]]:
    """The heads of an mmseg model, nested ones included: those choose maps by ``in_index``."""
    for key in ("decode_head", "auxiliary_head"):
        heads = part.get(key)
        for i, head in enumerate(listed(heads)):
            name = key if isinstance(heads, Mapping) else f"{key}[{i}]"
            if "in_channels" in head or "in_index" in head:
                yield name, head
            for inner, value in head.items():
                if isinstance(value, Mapping) and "in_index" in value:
                    yield f"{name}.{inner}", value


def build_outline(
    backbone: Mapping[str, Any], scope: str | None, device: str = "meta"
) -> nn.Module:
    """Build a backbone to look at: on the meta device where it can be, without its weights.

    Args:
        backbone: Config dict of any registered type.
        scope: ``default_scope`` of its config.
        device: ``'cpu'`` for one that can be run as well. Defaults to ``'meta'``.

    Raises:
        SettingError: If the type is not registered or refuses its arguments.
    """
    # Weights are read by init_weights, which nothing calls here, and by timm if pretrained is set.
    config = {k: v for k, v in backbone.items() if k not in ("init_cfg", "pretrained")}
    with MODELS.switch_scope_and_registry(scope) as models, torch.random.fork_rng(devices=[]):
        if isinstance(config.get("type"), str) and models.get(config["type"]) is None:
            known = {*MODELS.module_dict, *models.module_dict}
            hint = did_you_mean(config["type"], known, count=3)
            raise SettingError(
                f"backbone type {config['type']!r} is not registered in the scope "
                f"{scope or 'mmengine'!r}: name the module that registers it in custom_imports."
                f"{hint}"
            )
        try:
            try:
                with torch.device(device):
                    return models.build(config)
            except (NotImplementedError, RuntimeError):  # some read values while they are built
                return models.build(config)
        except (AssertionError, KeyError, TypeError, ValueError) as error:
            raise SettingError(f"backbone: {error.args[0] if error.args else error}") from error


@torch.no_grad()
def _trial_run(backbone: nn.Module, in_channels: int) -> Maps:
    device = next((p.device for p in backbone.parameters()), torch.device("cpu"))
    backbone.eval()  # which some backbones of mmdet answer with None
    return Maps.of(backbone(torch.zeros(1, in_channels, PROBE_SIDE, PROBE_SIDE, device=device)))


def backbone_maps(
    config: Mapping[str, Any], scope: str | None, backbone: nn.Module | None = None
) -> Maps:
    """What a backbone puts out: by its own word if it has one, else by a trial run.

    Args:
        config: Config dict of any registered type.
        scope: ``default_scope`` of its config.
        backbone: What has been built of it, on the meta device or another one; it is brought into
            eval mode. Defaults to None, which builds an outline.

    Raises:
        SettingError: As :func:`build_outline`.
        UnknownMaps: If the trial run fails.
    """
    backbone = backbone or build_outline(config, scope)
    channels = getattr(backbone, "out_channels", None)
    strides = getattr(backbone, "out_strides", None)
    if isinstance(channels, Sequence) and isinstance(strides, Sequence):
        return Maps(tuple(channels), tuple(strides))
    in_channels = config.get("in_channels", 3)
    try:
        try:
            return _trial_run(backbone, in_channels)
        except (NotImplementedError, RuntimeError):  # an operator without a meta form
            if not any(p.is_meta for p in backbone.parameters()):
                raise
            return _trial_run(build_outline(config, scope, "cpu"), in_channels)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise UnknownMaps(
            f"{type(backbone).__name__} has no out_channels and out_strides, and a trial run with "
            f"an image of {PROBE_SIDE}x{PROBE_SIDE} failed ({error}): give the backbone these two "
            "attributes"
        ) from error
