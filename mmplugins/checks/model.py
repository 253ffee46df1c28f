"""The model: whether it builds, and whether its parts fit each other."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS
from torch import Tensor, nn

from mmplugins.engine.config.fitting import PROBE_SIDE, Maps, check_fit

from .inspection import Inspection, in_words, walk
from .names import accepted_arguments
from .registered import find, typed_entries

_NUMBERS = re.compile(r"[\s(\[]*[\d.][\d\s.,e()\[\]+-]*")


def check_model(inspection: Inspection) -> str:
    """Build the model, with random weights, on the CPU."""
    cfg = deepcopy(inspection.cfg.model)
    data_preprocessor = inspection.cfg.get("data_preprocessor")
    if data_preprocessor is not None:
        cfg.setdefault("data_preprocessor", data_preprocessor)
    try:
        model = MODELS.build(cfg)
    except Exception as error:  # constructors raise what they like
        inspection.fail(_refusal(inspection, error), "model")
        return ""
    # One process has plain batch norm; mmengine's runner does the same.
    inspection.model = revert_sync_batchnorm(model)
    learnt = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    if not learnt:
        inspection.fail(
            f"all {total:,} parameters are frozen: lower frozen_stages, or train a head", "model"
        )
    return f"{cfg.type}: {total:,} parameters, {learnt:,} of them trainable"


def _refusal(inspection: Inspection, error: Exception) -> str:
    """A constructor's error, with the arguments that it does take if that was the trouble."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    found = re.search(r"(\w+)\.__init__\(\) (.*argument.*)", text, re.DOTALL)
    if found:
        name, reason = found.groups()
        cls = _class_of(inspection, name)
        names = ", ".join(sorted(accepted_arguments(cls)[0])) if cls else ""
        takes = f"; {cls.__name__} takes {names}" if cls else ""
        return f"{name}: {reason.strip()}{takes}"
    if isinstance(error, ValueError | KeyError):
        return text
    return f"{in_words(error)}; correct the arguments of that part{_text_for_numbers(inspection)}"


def _class_of(inspection: Inspection, name: str) -> Any:
    """The class of a name, or the one in the config that inherits it, or None."""
    cls = find("MODELS", name, inspection.scope)
    for typed in typed_entries(inspection.cfg) if cls is None else ():
        kind = typed.cfg["type"]
        part = find(typed.registry, kind, inspection.scope) if isinstance(kind, str) else kind
        if name in (base.__name__ for base in getattr(part, "__mro__", ())):
            return part
    return cls


def _text_for_numbers(inspection: Inspection) -> str:
    """Numbers in quotes, of which a constructor's error seldom says where they are."""
    for where, value in walk(inspection.cfg.model, "model"):
        if isinstance(value, str) and re.fullmatch(
            r"[\d\s.,e()\[\]+-]*\d[\d\s.,e()\[\]+-]*", value
        ):
            return f". {where} is {value!r}, a text: expected numbers, write them without quotes"
    return ""


def check_maps(inspection: Inspection) -> str:
    """Maps from backbone to neck to heads: number, channels, strides."""
    check_fit(inspection.cfg)
    model = inspection.model
    backbone, neck = getattr(model, "backbone", None), getattr(model, "neck", None)
    if backbone is None:
        return f"{type(model).__name__} has no backbone to look at"
    model.eval()
    picture = torch.zeros(1, _channels(inspection.trained[1]), PROBE_SIDE, PROBE_SIDE)
    with torch.no_grad():
        maps = _tuple(backbone(picture))
        said = [f"{type(backbone).__name__} puts out {_maps(maps)}"]
        if neck is not None:
            own = _tuple(neck(maps))
            said.append(f"{type(neck).__name__} {_maps(own)}")
    _check_regions(inspection, model)
    return "; ".join(said)


def _channels(model: Mapping) -> int:
    backbone = model.get("backbone") or {}
    return backbone.get("in_channels", backbone.get("in_chans", 3))


def _tuple(given: Any) -> tuple[Tensor, ...]:
    return (given,) if isinstance(given, Tensor) else tuple(given)


def _maps(maps: Sequence[Tensor]) -> Maps:
    return Maps(
        tuple(m.shape[1] for m in maps), tuple(round(PROBE_SIDE / m.shape[-1]) for m in maps)
    )


def _check_regions(inspection: Inspection, model: nn.Module) -> None:
    """Heads behind RoI extractors, those of a cascade one by one."""
    roi = getattr(model, "roi_head", None)
    for part in ("bbox", "mask"):
        extractors = getattr(roi, f"{part}_roi_extractor", None)
        heads = getattr(roi, f"{part}_head", None)
        many = isinstance(extractors, nn.ModuleList)
        pairs = zip(extractors, heads, strict=False) if many else [(extractors, heads)]
        for k, (extractor, head) in enumerate(pairs):
            given, wanted = (
                getattr(extractor, "out_channels", None),
                getattr(head, "in_channels", 0),
            )
            if isinstance(given, int) and isinstance(wanted, int) and wanted not in (0, given):
                inspection.fail(
                    f"is {wanted}, but its RoI extractor gives {given} channels: give "
                    f"in_channels={given}",
                    f"model.roi_head.{part}_head" + (f"[{k}]" if many else "") + ".in_channels",
                )
