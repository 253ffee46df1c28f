"""Export after training: the student alone, with its token mixers folded."""

from __future__ import annotations

import copy
import inspect
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import nn

from mmplugins.checkpoint import find_weights, load_source, save_weights
from mmplugins.checkpoint.payload import dataset_names
from mmplugins.checkpoint.writing import check_target
from mmplugins.utils import write_whole

from .captures import stay_visible
from .distiller import OWN, TRIAL_SIZE, Distiller
from .errors import DistillationError

TOLERANCE = 1e-5
"""Greatest difference that folding may make, relative to the greatest value of a feature map."""


def plain_student(distiller: Distiller) -> nn.Module:
    """Copy the student of a distiller, and fold the copy.

    Args:
        distiller: The distiller. It stays as it is.

    Returns:
        A detector or segmentor in eval mode. Its feature maps are the student's to 1e-5.

    Raises:
        DistillationError: If folding changed the feature maps, which would be a mistake of ours.
    """
    student = copy.deepcopy(distiller.student)
    for module in student.modules():
        hooks = module._forward_hooks
        for key in [key for key, hook in hooks.items() if hook is stay_visible]:
            del hooks[key]
    for name in distiller.share:
        student.get_submodule(name).requires_grad_(True)  # it is a model as any other now
    return fold(student)


def fold(model: nn.Module) -> nn.Module:
    """Fold token mixers into the norms before them, in place, and compare the feature maps.

    The result has the parameter names of a model without these mixers (``RIFormer(deploy=True)``),
    and can be trained on. :mod:`mmplugins.deployment` makes the faster form for inference of it.

    Args:
        model: A detector or segmentor. It is in eval mode afterwards.

    Raises:
        DistillationError: As in :func:`plain_student`.
    """
    model.eval()
    random = torch.Generator().manual_seed(0)
    picture = torch.randn(TRIAL_SIZE, generator=random).to(next(model.parameters()))
    with torch.no_grad():
        before = model.extract_feat(picture)
        for block in model.modules():
            mixer = getattr(block, "token_mixer", None)
            if mixer is not None and hasattr(mixer, "fold_into"):
                block.token_mixer = mixer.fold_into(block.norm1)
        after = model.extract_feat(picture)
    for a, b in zip(before, after, strict=True):
        error = (a - b).abs().max() / a.abs().max().clamp(min=1e-12)
        if not error <= TOLERANCE:
            raise DistillationError(
                f"folding {type(model).__name__} changed its maps by {error:.1e} of their greatest "
                f"value: expected {TOLERANCE:.0e} at most; export with fold_mixers=False"
            )
    return model


def export_student(
    config: str | Path | Config,
    checkpoint: str | Path,
    out: str | Path,
    *,
    fold_mixers: bool = True,
    overwrite: bool = False,
) -> tuple[Path, Path]:
    """Write the student of a training: its weights, and a config that loads them strictly.

    Args:
        config: Config of the training. Its model is a :class:`Distiller`.
        checkpoint: Checkpoint of the training. If the training kept a moving average, its weights
            are the averaged ones.
        out: File for the weights, ``.pth``. The config is written beside it, as ``.py``.
        fold_mixers: Whether to fold token mixers. Defaults to True.
        overwrite: Replace existing files. Defaults to False.

    Returns:
        Paths of weights and config.

    Raises:
        DistillationError: If the config has no Distiller, the weights do not fit, or no config
            describes the folded student.
        FileExistsError: If a file exists and ``overwrite`` is False.
    """
    out = check_target(out, overwrite)
    if out.suffix != ".pth":
        raise DistillationError(f"{out}: expected a name that ends in .pth")
    target = out.with_suffix(".py")
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} exists: choose another name, or ask for overwrite")
    cfg = copy.deepcopy(config) if isinstance(config, Config) else Config.fromfile(config)
    if cfg.get("model", {}).get("type") != Distiller.__name__:
        raise DistillationError(
            f"the model of the config is {cfg.get('model', {}).get('type')!r}: expected "
            f"{Distiller.__name__!r}, the config with which the student was trained"
        )
    cfg.model = cfg.model.student
    cfg.model.backbone.init_cfg = None
    content = load_source(checkpoint)
    student = _load(cfg, find_weights(content, checkpoint).tensors, checkpoint)
    if fold_mixers:
        weights = fold(student).state_dict()
        if "deploy" in inspect.signature(type(student.backbone)).parameters:
            cfg.model.backbone.deploy = True
        _load(cfg, weights, "the folded student")
    for key in ("distillation", "teacher_backbone", "load_from", "resume", "work_dir"):
        cfg.pop(key, None)
    names = dataset_names(content, checkpoint)
    meta = dict(dataset_meta=names) if names else None  # where inference finds the names
    return (
        save_weights(
            student.state_dict(), out, payload="state_dict", meta=meta, overwrite=overwrite
        ),
        write_whole(target, cfg.pretty_text),
    )


def _load(cfg: Config, weights: dict, source: str | Path) -> nn.Module:
    """Build the model of a config with exactly these weights, without the projections of terms."""
    with MODELS.switch_scope_and_registry(cfg.get("default_scope")) as models:
        model = models.build(copy.deepcopy(cfg.model))
    own = {key: value for key, value in weights.items() if not key.startswith(OWN)}
    try:
        model.load_state_dict(own)
    except RuntimeError as error:
        raise DistillationError(
            f"{source} does not fit the plain student {type(model).__name__} with "
            f"{type(model.backbone).__name__}: {error}"
        ) from error
    return model.eval()
