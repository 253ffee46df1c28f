"""The teacher: how it is built, where its weights come from, whether it goes with the student."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import torch
from mmengine.config import Config
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.registry import MODELS
from torch import Tensor, nn

from mmplugins.checkpoint import load_source
from mmplugins.checkpoint.fitting import match_model
from mmplugins.utils import few

from .errors import DistillationError

ModelSpec: TypeAlias = str | Path | Mapping | nn.Module
"""A model: config dict, path of a config file, or the model itself."""


def build_teacher(spec: ModelSpec) -> nn.Module:
    """Build a teacher with random weights, frozen and in eval mode.

    Args:
        spec: Config dict of a detector or segmentor, path of a config file whose ``model`` it is,
            or a built model.

    Raises:
        DistillationError: If there is no such file, or no model in it.
    """
    if isinstance(spec, str | Path):
        if not Path(spec).is_file():
            raise DistillationError(
                f"teacher config {str(spec)!r} does not exist (looked for {Path(spec).resolve()}): "
                "give the path of a .py file, or a dict as teacher="
            )
        config = Config.fromfile(spec)
        if "model" not in config:
            raise DistillationError(f"teacher config {str(spec)!r} has no `model`")
        spec = config.model
    teacher = spec if isinstance(spec, nn.Module) else MODELS.build(spec)
    # A runner does this to its model, but the teacher is no part of the model. In eval mode both
    # kinds of batch norm are the same.
    return revert_sync_batchnorm(teacher).requires_grad_(False).eval()


def read_teacher(teacher: nn.Module, source: str) -> dict[str, Tensor]:
    """Read the weights of a whole detector or segmentor. All of them must fit.

    Args:
        teacher: The model. It stays as it is.
        source: A local file, an address, or whatever :func:`mmplugins.checkpoint.load_source`
            reads.

    Returns:
        Its state dict.

    Raises:
        DistillationError: If there is no such file, or keys are missing, unknown or misshapen.
    """
    try:
        content = load_source(source)
    except FileNotFoundError as error:
        raise DistillationError(
            f"teacher_checkpoint {source!r} does not exist: train the teacher first, or name "
            "another file (--cfg-options model.teacher_checkpoint=FILE)"
        ) from error
    report, fitted = match_model(teacher, content, source)
    if problems := report.problems(whole=True):
        lines = "\n  ".join(problems)
        raise DistillationError(
            f"teacher_checkpoint {source!r} does not fit the teacher, {type(teacher).__name__} "
            f"with {type(teacher.backbone).__name__}:\n  {lines}\nGive the file that belongs to "
            "the teacher's config"
        )
    return fitted


def check_pair(student: nn.Module, teacher: nn.Module) -> None:
    """Check that student and teacher go together.

    Raises:
        DistillationError: If one of them is no detector or segmentor, if they share parameters, or
            if they prepare pictures differently. The teacher gets the student's pictures.
    """
    for role, model in (("student", student), ("teacher", teacher)):
        if not hasattr(model, "extract_feat") or not hasattr(model, "backbone"):
            raise DistillationError(
                f"the {role} is a {type(model).__name__}: expected a detector of mmdet or a "
                "segmentor of mmseg"
            )
    ours = {key: name for name, p in student.named_parameters() for key in _places(p)}
    shared = [
        (next(ours[key] for key in _places(p) if key in ours), name)
        for name, p in teacher.named_parameters()
        if ours.keys() & _places(p)
    ]
    if shared:
        names = few([f"{a} (teacher: {b})" for a, b in shared], 3)
        raise DistillationError(
            f"student and teacher share {len(shared)} parameters: {names}; a frozen teacher cannot "
            "be trained: build two models, and let inherit=True or share= copy the weights"
        )
    ours, theirs = (_preparation(model) for model in (student, teacher))
    if ours and theirs and ours != theirs:
        raise DistillationError(
            f"student and teacher prepare pictures differently, and one picture goes to both:\n"
            f"  student: {ours}\n  teacher: {theirs}\nGive both the same data_preprocessor"
        )


def _places(parameter: nn.Parameter) -> set[object]:
    """What two parameters that are one have in common: the object, or where it is in memory."""
    if parameter.device.type == "meta" or not parameter.numel():
        return {id(parameter)}
    return {id(parameter), (parameter.device, parameter.data_ptr())}


def _preparation(model: nn.Module) -> dict:
    """What the data preprocessor does to the values of a picture."""
    part = getattr(model, "data_preprocessor", None)
    mean, std = getattr(part, "mean", None), getattr(part, "std", None)
    if mean is None or std is None or not isinstance(mean, torch.Tensor) or mean.is_meta:
        return {}
    return dict(
        mean=[round(value, 3) for value in mean.flatten().tolist()],
        std=[round(value, 3) for value in std.flatten().tolist()],
        swapped_channels=getattr(
            part, "_channel_conversion", getattr(part, "channel_conversion", 0)
        ),
    )
