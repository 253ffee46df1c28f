"""What maps a backbone puts out, and whether a config's neck and heads are made for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS
from torch import Tensor, nn

from mmplugins.utils import did_you_mean, type_name

from .settings import SettingError

PROBE_SIDE = 128
"""Side of the image, in pixels, that shows what a backbone without ``out_strides`` puts out."""

PYRAMID_NECKS = ("FPN", "PAFPN", "FPN_CARAFE", "NASFPN")
"""Necks of mmdet and mmseg with ``start_level``, ``end_level`` and ``num_outs``."""


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

    def __str__(self) -> str:
        return f"channels {list(self.channels)} at strides {list(self.strides)}"


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
    out = backbone(torch.zeros(1, in_channels, PROBE_SIDE, PROBE_SIDE, device=device))
    maps = (out,) if isinstance(out, Tensor) else tuple(out)
    if any(not isinstance(x, Tensor) or x.ndim != 4 for x in maps):
        raise ValueError("it puts out something else than maps [N, C, H, W], which necks take")
    sides = [x.shape[-1] for x in maps]
    return Maps(tuple(x.shape[1] for x in maps), tuple(round(PROBE_SIDE / side) for side in sides))


def backbone_maps(
    config: Mapping[str, Any], scope: str | None, backbone: nn.Module | None = None
) -> Maps:
    """What a backbone puts out: by its own word if it has one, else by a trial run.

    Args:
        config: Config dict of any registered type.
        scope: ``default_scope`` of its config.
        backbone: What :func:`build_outline` made of it, if that has been done.

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
            return _trial_run(build_outline(config, scope, "cpu"), in_channels)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise UnknownMaps(
            f"{type(backbone).__name__} has no out_channels and out_strides, and a trial run with "
            f"an image of {PROBE_SIDE}x{PROBE_SIDE} failed ({error}): give the backbone these two "
            "attributes"
        ) from error


def used_levels(neck: Mapping[str, Any], count: int) -> slice:
    """Which of ``count`` maps an FPN looks at, by its ``start_level`` and ``end_level``."""
    end = neck.get("end_level", -1)
    return slice(neck.get("start_level", 0), count if end == -1 else end + 1)


def first_neck(part: Mapping[str, Any]) -> ConfigDict | None:
    """The neck that meets the backbone, if there is one; mmdet also takes a list of necks."""
    neck = part.get("neck")
    return neck[0] if isinstance(neck, list | tuple) and neck else neck or None


def heads_by_index(part: Mapping[str, Any]) -> Iterator[tuple[str, ConfigDict]]:
    """The heads of an mmseg model, nested ones included: those choose maps by ``in_index``."""
    for key in ("decode_head", "auxiliary_head"):
        heads = part.get(key) or []
        for i, head in enumerate([heads] if isinstance(heads, Mapping) else heads):
            name = key if isinstance(heads, Mapping) else f"{key}[{i}]"
            if "in_channels" in head or "in_index" in head:
                yield name, head
            for inner, value in head.items():
                if isinstance(value, Mapping) and "in_index" in value:
                    yield f"{name}.{inner}", value


def index_of(head: Mapping[str, Any]) -> int | list[int]:
    """Which maps a head of mmseg takes: the last one, or as many as it has channels for."""
    channels = head.get("in_channels")
    default = list(range(len(channels))) if isinstance(channels, list | tuple) else -1
    index = head.get("in_index", default)
    return list(index) if isinstance(index, list | tuple) else index


def at_index(values: Sequence[int], index: int | Sequence[int]) -> int | list[int]:
    """The values at one index, or at each of a list; an IndexError if there is no such map."""
    if isinstance(index, int):
        return values[index]
    return [values[i] for i in index]


def check_fit(cfg: Config) -> None:
    """Compare the maps of the backbone with what the neck and the heads of a config expect.

    Channels and number of maps are compared for every neck with a list of ``in_channels``, and for
    the heads of mmseg. Behind an FPN, strides are compared with those of anchors, RoI extractors
    and FPN heads, too. What cannot be told without running the model is not looked at. Nothing is
    read from disk but code.

    Args:
        cfg: Config of any task; each part of its model that has a backbone is looked at.

    Raises:
        SettingError: If something does not fit; the message shows both lists.
    """
    for path, part in parts_with_backbone(cfg.get("model") or {}).items():
        if "type" in part["backbone"]:
            check_part(part, path, cfg.get("default_scope"))


def check_part(part: Mapping[str, Any], path: str, scope: str | None) -> None:
    """:func:`check_fit` for one dict with ``backbone``, ``neck`` and heads, found at ``path``."""
    try:
        maps = backbone_maps(part["backbone"], scope)
    except UnknownMaps:
        return
    giver = f"{path}.backbone={type_name(part['backbone'])}"
    neck = first_neck(part)
    if neck is not None:
        _check_neck(neck, maps, f"{path}.neck={type_name(neck)}", giver)
        if type_name(neck) not in PYRAMID_NECKS or neck is not part["neck"]:
            return
        maps, giver = _neck_maps(neck, maps, f"{path}.neck"), f"{path}.neck={type_name(neck)}"
        _check_detection_heads(part, maps, path, giver)
    for name, head in heads_by_index(part):
        _check_head(head, maps, f"{path}.{name}={type_name(head)}", giver)


def _check_neck(neck: Mapping[str, Any], maps: Maps, taker: str, giver: str) -> None:
    expected = neck.get("in_channels")
    if isinstance(expected, list | tuple):
        fits = list(maps.channels) == list(expected)
        if type_name(neck) not in PYRAMID_NECKS:  # YOLOv3's counts backwards, RFP's skips the image
            fits = sorted(maps.channels[-len(expected) :]) == sorted(expected)
    else:
        fits = expected is None or expected in maps.channels
    if not fits:
        raise SettingError(
            f"{taker} expects in_channels={_plain(expected)}, but {giver} puts out {maps}: set "
            f"in_channels={list(maps.channels)}, or let --backbone or compose() set it"
        )


def _neck_maps(neck: Mapping[str, Any], maps: Maps, path: str) -> Maps:
    """What an FPN puts out: its levels, then further ones of twice the stride each."""
    strides = list(maps.strides[used_levels(neck, len(maps.strides))])
    count = neck.get("num_outs", len(strides))
    if not strides or count < len(strides):
        raise SettingError(
            f"{path}: num_outs={count}, start_level={neck.get('start_level', 0)} and "
            f"end_level={neck.get('end_level', -1)} do not fit the backbone's {maps}: at least one "
            "level must be used, and all that are used must be put out"
        )
    while len(strides) < count:
        strides.append(2 * strides[-1])
    return Maps((neck.get("out_channels"),) * count, tuple(strides))


def _check_head(head: Mapping[str, Any], maps: Maps, taker: str, giver: str) -> None:
    """A head of mmseg: its maps by ``in_index``, their channels, their strides if it names them."""
    index, expected = index_of(head), head.get("in_channels")
    try:
        found = at_index(maps.channels, index)
        strides = at_index(maps.strides, index)
    except IndexError:
        raise SettingError(
            f"{taker} takes the maps in_index={index}, but {giver} puts out "
            f"{len(maps.channels)} maps, {maps}: set in_index to maps that there are"
        ) from None
    if _plain(expected) != found:
        raise SettingError(
            f"{taker} expects in_channels={_plain(expected)} for in_index={index}, but "
            f"{giver} puts out {maps}: set in_channels={found}"
        )
    if "feature_strides" in head and _plain(head["feature_strides"]) != strides:
        raise SettingError(
            f"{taker} expects feature_strides={_plain(head['feature_strides'])}, but {giver} puts "
            f"out {maps}: set feature_strides={strides}"
        )


def _check_detection_heads(part: Mapping[str, Any], maps: Maps, path: str, giver: str) -> None:
    """The heads of mmdet behind an FPN: channels, and strides of anchors and RoI extractors."""

    def refuse(place: str, expected: Any, found: Any) -> None:
        raise SettingError(
            f"{path}.{place} is {_plain(expected)}, but {giver} puts out {maps}: expected {found}"
        )

    for name in ("rpn_head", "bbox_head"):
        head = part.get(name)
        if not isinstance(head, Mapping):
            continue
        if head.get("in_channels", maps.channels[0]) != maps.channels[0]:
            refuse(f"{name}.in_channels", head["in_channels"], maps.channels[0])
        strides = head.get("anchor_generator", {}).get("strides")
        per_axis = any(not isinstance(stride, int) for stride in strides or [])
        if strides and not per_axis and _plain(strides) != list(maps.strides):
            refuse(f"{name}.anchor_generator.strides", strides, list(maps.strides))
    for name in ("bbox_roi_extractor", "mask_roi_extractor"):
        extractor = (part.get("roi_head") or {}).get(name)
        if isinstance(extractor, Mapping):
            strides = extractor.get("featmap_strides", [])
            if _plain(strides) != list(maps.strides[: len(strides)]):
                refuse(f"roi_head.{name}.featmap_strides", strides, list(maps.strides))
            if extractor.get("out_channels", maps.channels[0]) != maps.channels[0]:
                refuse(f"roi_head.{name}.out_channels", extractor["out_channels"], maps.channels[0])


def _plain(values: Any) -> Any:
    return list(values) if isinstance(values, list | tuple) else values
