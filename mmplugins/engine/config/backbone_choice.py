"""Which backbone: from the text on a command line to its config dict, name and weights."""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Mapping
from typing import Any

import yaml
from mmengine.logging import print_log

from mmplugins.backbones.catalog import backbone_config, families
from mmplugins.checkpoint.config_text import literal
from mmplugins.checkpoint.sources import timm_sources
from mmplugins.checkpoint.zoo import published
from mmplugins.utils import listed, type_name

from .settings import SettingError

OPENMMLAB_WEIGHTS = {
    "ResNet": "torchvision://resnet{depth}",
    "ResNetV1c": "open-mmlab://resnet{depth}_v1c",
}
"""ImageNet weights of mmdet's and mmseg's own backbones, in the schemes of their configs."""


def parse_backbone(text: str) -> dict[str, Any]:
    """The config dict that a text stands for; nothing in the text is run.

    Args:
        text: A name (``caformer_s18``, ``timm/resnet50``), or a dict as a config has it
            (``dict(type='PoolFormer', arch='s24')``), as a Python literal, as JSON or as YAML
            (``{type: PoolFormer, arch: s24}``).

    Raises:
        SettingError: If it is none of these, or a dict without a type.
    """
    text = text.strip()
    if not text.startswith(("{", "dict(")):
        try:
            return backbone_config(text)
        except ValueError as error:
            raise SettingError(str(error)) from None
    try:
        config = literal(text)
    except (SyntaxError, TypeError, ValueError):
        try:
            config = yaml.safe_load(text)
        except yaml.YAMLError:
            config = None
    kind = config.get("type") if isinstance(config, dict) else None
    if not isinstance(kind, str) or not re.fullmatch(r"[\w.]+", kind):
        raise SettingError(
            f"backbone {text!r}: expected a dict of plain values with a type, such as "
            "\"dict(type='PoolFormer', arch='s24')\" or '{\"type\": \"PoolFormer\"}'"
        )
    return config


def short_name(backbone: str | Mapping[str, Any]) -> str:
    """A name for files: ``caformer_s18``, ``timm-resnet50``, ``resnet-18`` for a dict."""
    if isinstance(backbone, str):
        if not backbone.strip().startswith(("{", "dict(")):
            return backbone.strip().replace("/", "-")
        backbone = parse_backbone(backbone)
    parts = [type_name(backbone).lower()]
    parts += [backbone[key] for key in ("arch", "model_name", "depth") if key in backbone]
    words = [str(part) for part in parts if isinstance(part, str | int)]
    return re.sub(r"[^\w.-]+", "-", "-".join(words))


def pretrained(part: Any) -> str:
    """The checkpoint that a part of a model is initialised from, or ``''``."""
    if not isinstance(part, Mapping):
        return ""
    for init in listed(part.get("init_cfg")):
        if isinstance(init, Mapping) and "Pretrained" in type_name(init):
            return str(init.get("checkpoint") or "")
    return ""


def published_weights(backbone: Mapping[str, Any]) -> str | None:
    """The published weights of a backbone's variant, as a checkpoint source.

    Returns:
        As :func:`weights_or_reason`; None is also a warning.
    """
    weights, reason = weights_or_reason(backbone)
    if weights is None:
        print_log(
            f"The recipe starts from pretrained weights, but {reason}: this backbone starts from "
            "random ones unless you give it as a dict with init_cfg=dict(type='Pretrained', "
            "checkpoint=...)",
            logger="current",
            level=logging.WARNING,
        )
    return weights


def weights_or_reason(backbone: Mapping[str, Any]) -> tuple[str | None, str]:
    """The published weights of a backbone's variant, or why there are none.

    Returns:
        ``metaformer://...``, ``timm://...``, or what the configs of mmdet and mmseg give their
        ResNets; for a variant without published weights, or another type, None and the reason.
    """
    kind = type_name(backbone)
    if kind == "TimmBackbone":
        name = str(backbone.get("model_name")).removeprefix("timm/")
        try:
            timm_sources(name)
        except ValueError as error:
            return None, str(error)
        return f"timm://{name}", ""
    if kind.lower() in families():
        arch = backbone.get("arch", inspect.signature(families()[kind.lower()]).parameters["arch"])
        name = f"{kind.lower()}_{getattr(arch, 'default', arch)}"
        names = [row.name for row in published().values() if row.backbone == name]
        if names:
            return f"metaformer://{name if name in names else names[0]}", ""
        return None, f"{name} has no published weights"
    if kind in OPENMMLAB_WEIGHTS and backbone.get("style", "pytorch") == "pytorch":
        return OPENMMLAB_WEIGHTS[kind].format(depth=backbone.get("depth")), ""
    return None, f"the published weights of {kind} are not known here"
