"""Weights that a config starts from: can they be had, and do they fit?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.runner.checkpoint import CheckpointLoader

from mmplugins.backbones.pyramid import PyramidBackbone
from mmplugins.checkpoint import check_weights, find_weights, load_source
from mmplugins.checkpoint.fitting import match_model
from mmplugins.checkpoint.sources import check_name, find_kept, is_offline, is_resolvable
from mmplugins.engine.config.backbone_choice import pretrained, weights_or_reason
from mmplugins.utils import did_you_mean, few, listed, type_name

from .data import is_made
from .explain import walk
from .inspection import Inspection, NotRun

RANDOM = (
    "the config names no weights: training starts from random ones, and a short training on few "
    "pictures scored about half or less (docs/weights.md, What they are worth; docs/training.md, "
    "From random weights, has what helps without any)"
)
TEACHER = "model.teacher_checkpoint"


def check_weights_of(inspection: Inspection) -> str:
    """Every named checkpoint must be there or to be had, and fit what it is for."""
    said = []
    for where, source, module in _named(inspection):
        try:
            kept = _kept(source)
        except ValueError as error:  # an unknown name or scheme
            inspection.fail(str(error), where)
            continue
        if kept is None:
            said.append(_not_here(inspection, where, source))
        elif isinstance(module, PyramidBackbone):
            said.append(_check_backbone(inspection, where, kept, module))
        elif where == "load_from":
            said.append(_check_whole(inspection, where, kept))
        elif where == TEACHER:
            said.append(_check_teacher(inspection, where, kept))
        else:
            said.append(f"{source} is here")
    return "; ".join(said) or _from_random(inspection)


def _from_random(inspection: Inspection) -> str:
    """A start from random weights: said, and with a warning where better ones can be had."""
    path, model = inspection.trained
    backbone = model.get("backbone")
    if not isinstance(backbone, Mapping):
        raise NotRun(RANDOM)
    if backbone.get("pretrained"):
        return f"{path}.backbone.pretrained={backbone['pretrained']!r} loads them"
    loaders = walk(inspection.cfg.get("train_dataloader") or {})
    drawn = any(is_made(value) for _, value in loaders if isinstance(value, Mapping))
    weights, _ = weights_or_reason(backbone)
    if weights is None or drawn:
        raise NotRun(RANDOM)
    inspection.warn(
        f"{RANDOM}. Pretrained ones are published: init_cfg=dict(type='Pretrained', "
        f"checkpoint={weights!r})",
        f"{path}.backbone",
    )
    return ""


def _named(inspection: Inspection) -> Iterator[tuple[str, str, Any]]:
    cfg, (path, model) = inspection.cfg, inspection.trained
    yield from _initial(path, model, inspection.model)
    if source := cfg.model.get("teacher_checkpoint"):
        yield TEACHER, str(source), None
    if cfg.model.get("untrained_teacher"):
        teacher = inspection.model.teacher  # its config may be in a file of its own
        parts = {name: vars(part) for name, part in teacher.named_children()}
        yield from _initial("model.teacher", {**vars(teacher), **parts}, teacher)
    if cfg.get("load_from"):
        source = str(cfg.load_from)
        bare = source.startswith("metaformer://")  # holds a backbone only
        yield "load_from", source, inspection.model.backbone if bare else None


def _initial(path: str, model: Mapping[str, Any], built: Any) -> Iterator[tuple[str, str, Any]]:
    """What a detector or segmentor and its parts are initialised from."""
    for name in ("backbone", "neck", "decode_head"):
        if source := pretrained(model.get(name)):
            where = f"{path}.{name}.init_cfg.checkpoint"
            yield where, source, getattr(built, name, None)
    if source := pretrained(model):
        yield f"{path}.init_cfg.checkpoint", source, None


def _kept(source: str) -> Path | None:
    """Where the file of a source is; None if it would have to be downloaded.

    Raises:
        ValueError: If a published name or a scheme is unknown.
    """
    if is_resolvable(source):
        return find_kept(source)
    known = [pattern for pattern in CheckpointLoader._schemes if pattern]
    if not any(re.match(pattern, source) for pattern in known):
        scheme = source.partition("://")[0] + "://"
        names = [pattern for pattern in known if pattern.endswith("://")]
        raise ValueError(
            f"{source}: nothing loads {scheme}: expected a file or one of {', '.join(names)}."
            f"{did_you_mean(scheme, names)}"
        )
    check_name(source)
    return None  # mmengine's own schemes, with caches of their own


def _not_here(inspection: Inspection, where: str, source: str) -> str:
    if is_offline() and is_resolvable(source):
        inspection.fail(
            f"{source} is not here, and HF_HUB_OFFLINE forbids the net: place the file as "
            "`tools/weights.py` says, or unset HF_HUB_OFFLINE",
            where,
        )
    return f"{source} will be downloaded"


def _check_backbone(
    inspection: Inspection, where: str, kept: Path, backbone: PyramidBackbone
) -> str:
    try:
        report = check_weights(backbone, kept)
    except (OSError, ValueError) as error:
        inspection.fail(f"{error}{_hint(kept, error)}", where)
        return ""
    if not report.ok:
        inspection.fail(
            f"{kept} does not fit {report.model}: {'; '.join(report.problems())}. Give the weights "
            "of this backbone, or strict=False in init_cfg to load what fits",
            where,
        )
    return f"{len(report.matched) + len(report.adapted)} tensors of {kept} fit {report.model}"


def _check_teacher(inspection: Inspection, where: str, kept: Path) -> str:
    """The weights of a distillation's teacher, by the rule of the Distiller itself."""
    try:
        inspection.model.check_teacher()
    except (OSError, ValueError) as error:
        inspection.fail(str(error), where)
        return ""
    return f"{kept} fits the teacher, {type(inspection.model.teacher).__name__}"


def _check_whole(inspection: Inspection, where: str, kept: Path) -> str:
    """A checkpoint of a whole model: what LoadReportHook refuses, if the config has it, fails.

    mmengine alone loads as far as it fits, without a word.
    """
    try:
        content = load_source(kept)
        weights = find_weights(content, kept)
        report, _ = match_model(inspection.model, content, str(kept))
    except (OSError, ValueError) as error:
        inspection.fail(f"{error}{_hint(kept, error)}", where)
        return ""
    own = inspection.model.state_dict()
    same = [key for key in own if key in weights.tensors]
    fits = [key for key in same if weights.tensors[key].shape == own[key].shape]
    if not fits:
        inspection.fail(
            f"no tensor of {kept} fits the model ({few(list(weights.tensors), 3)} against "
            f"{few(list(own), 3)}): give a checkpoint of this model, and the weights of a bare "
            "backbone as model.backbone.init_cfg",
            where,
        )
    left = [key for key in own if key not in fits]
    wrong = report.problems(whole=False) if _loads_strictly(inspection.cfg) else []
    if fits and wrong:
        inspection.fail(
            f"{kept} does not fit {report.model}: {'; '.join(wrong)}. Give a checkpoint of this "
            "model, or default_hooks.load_report.strict=False to load what fits",
            where,
        )
    elif fits and left:
        inspection.warn(
            f"{len(left)} of the model's {len(own)} tensors are not in {kept}, or of another "
            f"shape, and start at random: {few(left, 3)}; right for a new head, otherwise give "
            "a checkpoint of this model",
            where,
        )
    return f"{len(fits)} of {len(own)} tensors fit {kept}"


def _loads_strictly(cfg: Mapping[str, Any]) -> bool:
    hooks = [*(cfg.get("default_hooks") or {}).values(), *listed(cfg.get("custom_hooks"))]
    mine = [h for h in hooks if isinstance(h, Mapping) and type_name(h) == "LoadReportHook"]
    return any(hook.get("strict", True) for hook in mine)


def _hint(kept: Path, error: Exception) -> str:
    missing = isinstance(error, FileNotFoundError)
    return ": give the path of a weight file, or metaformer://NAME" if missing else ""
