"""One recipe, any backbone: exchange the backbone of a config, and all that depends on it."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log
from mmengine.registry import MODELS
from torch import nn

from mmplugins.backbones.catalog import families
from mmplugins.backbones.pyramid import resolve_out_indices
from mmplugins.utils import listed, type_name, write_whole

from .backbone_choice import parse_backbone, pretrained, published_weights, short_name
from .constructors import accepted_arguments, class_of
from .fitting import JOINT_NECK, PYRAMID_NECKS, at_index, check_fit, index_of, used_levels
from .joints import (
    NECKS_THAT_LEAVE_MAPS,
    connect_heads_around,
    connect_ssd,
    connect_without_neck,
    leave_out_idle_maps,
    pyramids_have,
    refuse_what_cannot_serve,
    takes_last_map,
    takes_without_neck,
)
from .outline import (
    ComposedConfig,
    Maps,
    backbone_maps,
    build_outline,
    first_neck,
    heads_by_index,
    learning_parts,
)
from .settings import SettingError, import_this_package, load_config

STRIDES = (4, 8, 16, 32)

RECIPE_SETTINGS = ("in_channels", "drop_path_rate", "with_cp")
"""Settings of a backbone that belong to data and schedule and stay when the type changes."""

OFFICIAL_LAYER_DECAY = (
    "LearningRateDecayOptimizerConstructor",
    "LayerDecayOptimizerConstructor",
)
"""Constructors of mmdet and mmseg that know a few class names only."""


def compose(cfg: Config | str | os.PathLike, backbone: str | Mapping[str, Any]) -> Config:
    """Exchange the backbone of a config.

    Neck, heads, number of levels and what else depends on the backbone follow by themselves:

    - The new backbone puts out the strides that the recipe uses. Levels below ``start_level`` of
      an FPN, which nothing looks at, are no longer asked for, and ``start_level`` becomes 0: the
      same neck, with the same weights.
    - ``in_channels`` of the neck, or of mmseg's heads where there is no neck, are set.
    - A recipe with pretrained weights gets the published ones of the new backbone (a warning says
      where there are none); a recipe from random weights stays one. An ``init_cfg`` in the dict
      goes first.
    - Of the old backbone's settings, those of data and schedule stay (``in_channels``,
      ``drop_path_rate``, ``with_cp``; also ``layer_scale`` where the new one has layer scales). If
      the type stays the same, so do all its settings but variant and weights.
    - What belongs to a family is the new family's: output norms, activations, frozen stages.
    - The layer-decay constructors of mmdet and mmseg, which know ConvNeXt only, become ours.
    - ``custom_imports`` names this package, so that OpenMMLab's own tools can run the result.

    Args:
        cfg: A config of mmdet or mmseg with one backbone, also inside of a wrapper; of a
            distillation, the student's is exchanged and its teacher stays. It may leave the
            backbone's type and all ``in_channels`` open. Stays as it is. Or the path of its file.
        backbone: A name of ``list_backbones()``, ``'timm/<model>'``, a config dict of any
            registered type, or such a dict as text, see :func:`parse_backbone`.

    Returns:
        A new config.

    Raises:
        SettingError: If there is no such file, the name, type or arguments are wrong, or the
            backbone's maps do not fit the recipe; the message then shows the channels and strides
            of both.
    """
    return _exchange(cfg, backbone).cfg


def load_composed(
    path: str | os.PathLike, backbone: str | None, options: dict[str, Any] | None = None
) -> Config:
    """Read a config, exchange its backbone if one is given, and merge ``options`` into the result.

    The work dir of a composed config, unless the file sets one, bears the backbone's name.

    Args:
        path: A config file.
        backbone: As in :func:`compose`, or None for the config's own.
        options: Dotted names to values, as from ``--cfg-options``.

    Raises:
        SettingError: As in :func:`compose` and for a missing file.
    """
    if backbone is None:
        return load_config(path, options)
    composed = _exchange(load_config(path), backbone)
    composed.cfg.setdefault("work_dir", f"work_dirs/{Path(path).stem}_{short_name(backbone)}")
    if options:
        composed = composed.merged(options)
        check_fit(composed)
    return composed.cfg


def _exchange(cfg: Config | str | os.PathLike, backbone: str | Mapping[str, Any]) -> ComposedConfig:
    """:func:`compose`, with the outline of what comes out."""
    given = parse_backbone(backbone) if isinstance(backbone, str) else copy.deepcopy(dict(backbone))
    new = load_config(cfg) if isinstance(cfg, str | os.PathLike) else copy.deepcopy(cfg)
    if not isinstance(new, Config):
        raise SettingError(
            f"config is a {type(cfg).__name__}: expected an mmengine Config or the path of its file"
        )
    scope = new.get("default_scope")
    path, part = _the_part(new)
    old, neck = part["backbone"], first_neck(part)
    refuse_what_cannot_serve(part)
    leave_out_idle_maps(part)
    without = neck is None and takes_without_neck(part)
    if neck is None and not without and not any(heads_by_index(part)):
        raise SettingError(
            f"model {part.get('type')!r} has neither a neck nor heads with in_channels and "
            "in_index, so nothing tells where the channels of another backbone belong: write the "
            "backbone into the config by hand"
        )
    composed = ComposedConfig.of(new)
    wanted = composed.parts[path].maps or _recipe_maps(old, scope)
    pyramid = neck is not None and type_name(neck) in (*PYRAMID_NECKS, JOINT_NECK)
    used = wanted
    if neck is not None and pyramid:
        levels = used_levels(neck, len(wanted.strides))
        used = wanted[levels]
    elif takes_last_map(part):
        used = wanted = wanted[-1:]

    config, maps = _fit_levels(given, old, used, scope, pyramid)
    if "init_cfg" not in given:
        config.pop("init_cfg", None)
        if _is_pretrained(part) and (weights := published_weights(config)):
            config["init_cfg"] = dict(type="Pretrained", checkpoint=weights)
    part["backbone"] = ConfigDict(config)
    if "pretrained" in part:
        part["pretrained"] = None
    if without:
        connect_without_neck(part, maps)
    elif neck is not None and type_name(neck) == "SSDNeck":
        connect_ssd(part, neck, maps)
    else:
        _connect(part, neck, maps, wanted)
    own_stages = "out_indices" not in given and type_name(config).lower() in families()
    if neck is None and not without and own_stages:
        maps = _ask_for_what_heads_take(part, maps)
    if neck is not None and pyramid:
        unused = len(maps.strides) - len(used.strides)
        if unused or "start_level" in neck:
            neck["start_level"] = unused
        neck.pop("end_level", None)
        if type_name(neck) == JOINT_NECK:
            connect_heads_around(part, neck, maps)
    if neck is not None and type_name(neck) in NECKS_THAT_LEAVE_MAPS:
        new["find_unused_parameters"] = True
    _use_own_layer_decay(new)
    import_this_package(new)
    composed = composed.with_maps(path, maps)
    check_fit(composed)
    return composed


def write_config(cfg: Config, path: str | os.PathLike) -> Path:
    """Write a config with nothing left to inherit.

    Raises:
        SettingError: If the file exists already, or its name does not end in ``.py``.
        WriteError: If it cannot be written.
    """
    path = Path(path)
    if path.suffix != ".py":
        raise SettingError(f"config file {str(path)!r}: expected a name that ends in .py")
    if path.exists():
        raise SettingError(
            f"config file {str(path)!r} exists, and nothing is overwritten: give another name, or "
            "remove it"
        )
    return write_whole(path, cfg.pretty_text)


def _the_part(cfg: Config) -> tuple[str, ConfigDict]:
    """Path and dict of the part whose backbone is exchanged: of a distillation, the student."""
    parts = learning_parts(cfg.get("model") or {})
    if len(parts) != 1:
        found = f"backbones at {', '.join(parts)}" if parts else "no backbone"
        raise SettingError(
            f"the model of this config has {found}: expected exactly one; write the backbone into "
            "the config by hand"
        )
    return next(iter(parts.items()))


def _recipe_maps(old: Mapping[str, Any], scope: str | None) -> Maps:
    """The maps of the recipe's own backbone; channels are 0 where its type is left open."""
    if "type" in old:
        return backbone_maps(old, scope)
    stages = resolve_out_indices(old.get("out_indices", (0, 1, 2, 3)), STRIDES)
    return Maps((0,) * len(stages), tuple(STRIDES[i] for i in stages))


def _fit_levels(
    given: Mapping[str, Any], old: Mapping[str, Any], used: Maps, scope: str | None, skips: bool
) -> tuple[dict[str, Any], Maps]:
    """The config of the new backbone, put out at the strides that the recipe uses, and its maps.

    Finer maps before those are no harm if the neck ``skips`` them.
    """
    strides = list(used.strides)
    candidates: list[dict[str, Any]] = [{}]
    if "out_indices" not in given and strides == sorted(set(strides) & set(STRIDES)):
        candidates.insert(0, dict(out_indices=tuple(STRIDES.index(s) for s in strides)))
    stages = old.get("out_indices", range(len(STRIDES)))
    stages = (stages,) if isinstance(stages, int) else tuple(stages)
    counted = all(i in range(len(STRIDES)) for i in stages)  # others count layers
    if counted and not {"output_stride", "out_indices"} & given.keys():  # dilated: 4, 8, 8, 8
        for stride in (8, 16):
            own_strides = [min(STRIDES[i], stride) for i in stages]
            if strides == own_strides != [STRIDES[i] for i in stages]:
                some = dict(out_indices=stages) if len(stages) < len(STRIDES) else {}
                candidates.insert(0, dict(output_stride=stride, **some))
    tried = []
    for levels in candidates:
        if not all(_takes(given, name, scope) for name in levels):
            continue
        config, outline = _carry_over(given, old, levels, scope)
        maps = backbone_maps(config, scope, outline)
        found = list(maps.strides)
        if found == strides or (skips and found[-len(strides) :] == strides):
            return config, maps
        tried.append(maps)
    own = f", those of its own {type_name(old)} with channels {list(used.channels)}"
    remedy = "choose a backbone with such maps, or out_indices that give them"
    if not pyramids_have(strides):
        remedy = (
            "a pyramid, whose maps shrink from stage to stage, has none such; a plain transformer "
            "has, or a network with a decoder or branches of its own. Take a recipe whose neck or "
            "heads look at a pyramid, such as Semantic FPN, UPerNet or FCN"
        )
    raise SettingError(
        f"backbone {short_name(given)} puts out {tried[0]}, but the recipe is made for feature "
        f"maps of strides {strides}{own if 'type' in old else ''}: {remedy}"
    )


def _carry_over(
    given: Mapping[str, Any], old: Mapping[str, Any], levels: dict[str, Any], scope: str | None
) -> tuple[dict[str, Any], nn.Module]:
    """Settings of the old backbone under those given; and the backbone, built to be looked at."""
    if old.get("type") == given["type"]:
        variant = ("arch", "model_name", "depth", "init_cfg", "pretrained", "out_indices")
        kept = {k: v for k, v in old.items() if k not in variant}
    else:
        kept = {k: old[k] for k in RECIPE_SETTINGS if k in old and _takes(given, k, scope)}
    config = {**kept, **levels, **given}
    try:
        outline = build_outline(config, scope)
    except SettingError:
        if not kept.keys() - given.keys():
            raise
        outline = build_outline({**levels, **given}, scope)  # raises if that was not the reason
        print_log(
            f"backbone {short_name(given)} does not take these settings of the recipe, and goes "
            f"without: {kept}",
            logger="current",
            level=logging.WARNING,
        )
        return {**levels, **given}, outline
    scaled = any(".layer_scale" in name for name, _ in outline.named_parameters())
    if scaled and "layer_scale" in old:
        config.setdefault("layer_scale", old["layer_scale"])
    return config, outline


def _takes(backbone: Mapping[str, Any], argument: str, scope: str | None) -> bool:
    """Whether the class of a backbone has an argument of that name, its own or a base's."""
    return argument in accepted_arguments(class_of(MODELS, backbone, scope))


def _is_pretrained(part: Mapping[str, Any]) -> bool:
    """Whether the recipe's own backbone starts from pretrained weights."""
    old = part["backbone"]
    return bool(pretrained(old) or part.get("pretrained") or old.get("pretrained"))


def _connect(part: ConfigDict, neck: ConfigDict | None, maps: Maps, own: Maps) -> None:
    """Write the backbone's channels where its ``own`` ones stand in the recipe."""
    if neck is None:
        for name, head in heads_by_index(part):
            index = index_of(head)
            try:
                head["in_channels"] = at_index(maps.channels, index)
            except IndexError:
                raise SettingError(
                    f"model.{name} takes the maps in_index={index}, but the backbone puts out "
                    f"{maps}"
                ) from None
    elif isinstance(neck.get("in_channels", []), list | tuple):
        expected = neck.get("in_channels", [])
        order = -1 if list(expected) == list(own.channels)[::-1] else 1
        neck["in_channels"] = type(expected)(maps.channels[::order])  # JPU wants a tuple
    elif len(maps.channels) == 1:
        neck["in_channels"] = maps.channels[0]
    else:
        raise SettingError(
            f"neck {neck.get('type')!r} takes one number of channels, in_channels="
            f"{neck['in_channels']}, and the backbone puts out {maps}: write the backbone into the "
            "config by hand"
        )


def _ask_for_what_heads_take(part: ConfigDict, maps: Maps) -> Maps:
    """Leave out maps that no head looks at: their norms would get no gradient; returns the rest."""
    heads, count = [head for _, head in heads_by_index(part)], len(maps.strides)
    taken: set[int] = set()
    for head in heads:
        index = index_of(head)
        taken |= {i % count for i in listed(index)}
        if "c1_in_channels" in head:  # DeepLabV3+ also looks at the first
            taken.add(0)
            head["c1_in_channels"] = maps.channels[0]
    stages = resolve_out_indices(part["backbone"].get("out_indices", (0, 1, 2, 3)), STRIDES)
    if len(taken) == count or count != len(stages):
        return maps
    new = {old: k for k, old in enumerate(sorted(taken))}
    part["backbone"]["out_indices"] = tuple(stages[old] for old in new)
    for head in heads:
        index = index_of(head)
        if isinstance(index, int):
            head["in_index"] = new[index % count]
        else:
            head["in_index"] = [new[i % count] for i in index]
    return maps[sorted(taken)]


def _use_own_layer_decay(cfg: Config) -> None:
    wrapper = ConfigDict() if cfg.get("optim_wrapper") is None else cfg.optim_wrapper
    if type_name({"type": wrapper.get("constructor")}) in OFFICIAL_LAYER_DECAY:
        settings = wrapper.paramwise_cfg
        rate = settings.get("decay_rate", settings.get("layer_decay_rate"))
        kind = settings.get("decay_type", "layer_wise")
        wrapper.constructor = "LayerDecayOptimWrapperConstructor"
        wrapper.paramwise_cfg = dict(decay_rate=rate, decay_type=kind)
