"""Whether the neck and the heads of a config are made for what its backbone puts out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS

from mmplugins.utils import type_name

from .constructors import class_of
from .outline import ComposedConfig, Maps, first_neck, heads_by_index
from .settings import SettingError

PYRAMID_NECKS = ("FPN", "PAFPN", "FPN_CARAFE", "NASFPN")
"""Necks of mmdet and mmseg with ``start_level``, ``end_level`` and ``num_outs``."""

MOST_LEVELS = 32
"""Levels of a neck; the stride doubles with each, and no image has 2**32 pixels on a side."""

JOINT_NECK = "JPU"
"""mmseg's neck of FastFCN: levels as above, and all but the last map are put out as they came."""


def used_levels(neck: Mapping[str, Any], count: int) -> slice:
    """Which of ``count`` maps an FPN looks at, by its ``start_level`` and ``end_level``."""
    end = neck.get("end_level", -1)
    if end == -1:
        end = count
    elif type_name(neck) != JOINT_NECK:  # whose last level is not among those used
        end += 1
    return slice(neck.get("start_level", 0), end)


def index_of(head: Mapping[str, Any]) -> int | list[int]:
    """Which maps a head of mmseg takes: the last one, or as many as it has channels for.

    Raises:
        SettingError: If ``in_index`` is something else than numbers.
    """
    channels = head.get("in_channels")
    default = list(range(len(channels))) if isinstance(channels, list | tuple) else -1
    index = head.get("in_index", default)
    index = list(index) if isinstance(index, list | tuple) else index
    if not all(isinstance(i, int) for i in (index if isinstance(index, list) else [index])):
        raise SettingError(
            f"{type_name(head)} has in_index={index!r}: expected the number of a map, or a list of "
            "numbers"
        )
    return index


def at_index(values: Sequence[int], index: int | Sequence[int]) -> int | list[int]:
    """The values at one index, or at each of a list; an IndexError if there is no such map."""
    if isinstance(index, int):
        return values[index]
    return [values[i] for i in index]


def check_fit(cfg: Config | ComposedConfig) -> None:
    """Compare the maps of the backbone with what the neck and the heads of a config expect.

    Channels and number of maps are compared for every neck with a list of ``in_channels``, and for
    the heads of mmseg. Behind an FPN, strides are compared with those of anchors, RoI extractors
    and FPN heads, too. What cannot be told without running the model, and classes of the user's
    own, are not looked at. Nothing is read from disk but code.

    Args:
        cfg: Config of any task, or one with its outline, which then is not made anew; each part of
            its model that has a backbone is looked at.

    Raises:
        SettingError: If something does not fit; the message shows both lists.
    """
    composed = cfg if isinstance(cfg, ComposedConfig) else ComposedConfig.of(cfg)
    for path, part in composed.parts.items():
        if part.maps is not None:
            _check_part(part.config, part.maps, path, composed.cfg.get("default_scope"))


def _check_part(part: Mapping[str, Any], maps: Maps, path: str, scope: str | None) -> None:
    neck, giver = first_neck(part), f"{path}.backbone={type_name(part['backbone'])}"
    if neck is not None:
        if _is_own(neck, scope):
            return
        _check_neck(neck, maps, f"{path}.neck={type_name(neck)}", giver)
        if type_name(neck) not in PYRAMID_NECKS or neck is not part["neck"]:
            return
        maps, giver = _neck_maps(neck, maps, f"{path}.neck"), f"{path}.neck={type_name(neck)}"
        _check_detection_heads(part, maps, path, giver, scope)
    for name, head in heads_by_index(part):
        if not _is_own(head, scope):
            _check_head(head, maps, f"{path}.{name}={type_name(head)}", giver)


def _is_own(part: Mapping[str, Any], scope: str | None) -> bool:
    """Whether a part is of the user's own class, whose ``in_channels`` may mean anything."""
    module = getattr(class_of(MODELS, part, scope), "__module__", "mmdet")
    return module.partition(".")[0] not in ("mmdet", "mmseg", "mmplugins")


def _check_neck(neck: Mapping[str, Any], maps: Maps, taker: str, giver: str) -> None:
    expected = neck.get("in_channels")
    if isinstance(expected, list | tuple):
        fits = list(maps.channels) == list(expected)
        if type_name(neck) not in PYRAMID_NECKS:
            # YOLOv3's counts backwards, RFP's skips the image, CLRNet's leaves out the last map.
            ends = maps.channels[-len(expected) :], maps.channels[: len(expected)]
            fits = sorted(expected) in map(sorted, ends)
    else:
        fits = expected is None or expected in maps.channels
    if not fits:
        raise SettingError(
            f"{taker} expects in_channels={_plain(expected)}, but {giver} puts out {maps}: set "
            f"in_channels={list(maps.channels)}, or let --backbone or compose() set it"
        )


def _neck_maps(neck: Mapping[str, Any], maps: Maps, path: str) -> Maps:
    """What an FPN puts out: its levels, then further ones of twice the stride each."""
    strides = list(maps[used_levels(neck, len(maps.strides))].strides)
    count = neck.get("num_outs", len(strides))
    if type(count) is not int or count > MOST_LEVELS:
        raise SettingError(
            f"{path}: num_outs={count!r}: expected a whole number of at most {MOST_LEVELS}"
        )
    if not strides or count < len(strides):
        raise SettingError(
            f"{path}: num_outs={count}, start_level={neck.get('start_level', 0)} and "
            f"end_level={neck.get('end_level', -1)} do not fit the backbone's {maps}: at least one "
            "level must be used, and all that are used must be put out"
        )
    while len(strides) < count:
        strides.append(2 * strides[-1])
    channels: Any = neck.get("out_channels")
    return Maps((channels,) * count, tuple(strides))


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


def _check_detection_heads(
    part: Mapping[str, Any], maps: Maps, path: str, giver: str, scope: str | None
) -> None:
    """The heads of mmdet behind an FPN: channels, and strides of anchors and RoI extractors."""

    def refuse(place: str, expected: Any, found: Any) -> None:
        raise SettingError(
            f"{path}.{place} is {_plain(expected)}, but {giver} puts out {maps}: expected {found}"
        )

    for name in ("rpn_head", "bbox_head"):
        head = part.get(name)
        if not isinstance(head, Mapping) or _is_own(head, scope):
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
