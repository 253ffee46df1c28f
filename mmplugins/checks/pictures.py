"""What happens to pictures on the way to the model: order of steps, colours, padding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmplugins.engine.config.backbone_choice import pretrained
from mmplugins.utils import listed, type_name

from .data_set import MIN_SIDE, data_sets, walk_transforms
from .inspection import Inspection

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
_MOVES = ("Resize", "Flip", "Crop", "Rotate", "Affine", "Shear", "Translate", "Expand", "Pad")
"""Parts of the names of steps that move pixels, and boxes and maps with them."""


def check_pipelines(inspection: Inspection) -> str:
    """Orders of steps that run and spoil the annotations, and pictures that are used twice."""
    train, val = (data_sets(inspection.cfg.get(f"{s}_dataloader"), s) for s in ("train", "val"))
    for data in train:
        names = [type_name(step) for step in walk_transforms(data.pipeline)]
        loads = [k for k, name in enumerate(names) if name.endswith("LoadAnnotations")]
        early = [n for n in names[: loads[0] if loads else 0] if any(m in n for m in _MOVES)]
        if early:
            inspection.fail(
                f"{early[0]} comes before {names[loads[0]]}, so that boxes and maps are those of "
                f"the picture as it was: put {names[loads[0]]} before it",
                f"{data.where}.pipeline",
            )
    for data in val:
        files = _files(data.config)
        if any(files) and files in [_files(other.config) for other in train]:
            inspection.warn(
                "reads the pictures of the training, so its figures say nothing about others: give "
                "the files of the validation",
                data.where,
            )
        kind = type_name(data.config)
        if "ADE" in kind and data.step("ResizeToMultiple") is None:
            inspection.warn(
                f"{kind} is tested without ResizeToMultiple, which costs about 1 mIoU: add "
                f"dict(type='ResizeToMultiple', size_divisor={MIN_SIDE}) after Resize",
                f"{data.where}.pipeline",
            )
    return "the steps are in order"


def _files(dataset: Mapping) -> tuple:
    return tuple(dataset.get(key) for key in ("ann_file", "data_prefix", "data_root"))


def check_normalisation(inspection: Inspection) -> str:
    """Colours as the pretrained weights know them, and sides that the strides divide."""
    path, model = inspection.trained
    prep = inspection.cfg.get("data_preprocessor") or model.get("data_preprocessor") or {}
    where = f"{path}.data_preprocessor"
    mean, std = listed(prep.get("mean")), listed(prep.get("std"))
    numbers = all(isinstance(v, int | float) for v in [*mean, *std])
    if not numbers or bool(mean) != bool(std):
        return "told by the model"
    for data in data_sets(inspection.cfg.get("train_dataloader"), "train"):
        if mean and data.step("Normalize"):
            inspection.warn(
                "subtracts a mean, and so does Normalize in the train pipeline: take one out", where
            )
    _check_colours(inspection, where, model, prep)
    divisor = prep.get("pad_size_divisor")
    odd = isinstance(divisor, int) and divisor > 1 and divisor % MIN_SIDE
    if inspection.scope == "mmdet" and odd:
        inspection.warn(
            f"is {divisor}, which the largest stride does not divide: give {MIN_SIDE}",
            f"{where}.pad_size_divisor",
        )
    if not mean:
        return "pictures come as 0..255"
    order = "RGB" if prep.get("bgr_to_rgb") else "BGR"
    return f"{order}, mean {_short(mean)}, std {_short(std)}"


def _check_colours(inspection: Inspection, where: str, model: Mapping, prep: Mapping) -> None:
    mean, std = prep.get("mean"), prep.get("std")
    if mean is not None and max(map(abs, mean)) <= 1 and max(mean) > 0:
        inspection.warn(
            f"is {_short(mean)}, as for pictures in 0..1, but they come as 0..255: multiply mean "
            f"and std by 255, for ImageNet {_short(IMAGENET_MEAN)} and {_short(IMAGENET_STD)}",
            f"{where}.mean",
        )
        return
    source = pretrained(model.get("backbone"))
    if not source or source.startswith(("open-mmlab:", "openmmlab:")) or "caffe" in source:
        return  # caffe's weights know BGR and other figures, as some of OpenMMLab's do
    known = _known_colours(source)
    wanted: dict[str, Any] = dict(mean=known[0], std=known[1], bgr_to_rgb=True)
    found = dict(mean=mean, std=std, bgr_to_rgb=bool(prep.get("bgr_to_rgb")))
    if mean is not None and len(mean) != len(wanted["mean"]):  # of other cameras
        return
    if mean is None or not all(map(_near, found.values(), wanted.values())):
        inspection.warn(
            f"has {_said(found)}, but pictures are read as BGR in 0..255, and {source} was "
            f"trained with {_said(wanted)}: give these",
            where,
        )


def _known_colours(source: str) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and std of a source's training, on 0..255: timm's own record, else ImageNet's."""
    if source.startswith("timm://"):
        import timm

        found = timm.get_pretrained_cfg(source.removeprefix("timm://"), allow_unregistered=True)
        if found is not None:
            return [255 * v for v in found.mean], [255 * v for v in found.std]
    return IMAGENET_MEAN, IMAGENET_STD


def _near(value: Any, wanted: Any) -> bool:
    pairs = zip(listed(value), listed(wanted), strict=True)
    return all(abs(a - b) < 1.0 for a, b in pairs)


def _said(settings: Mapping) -> str:
    shown = {k: v if v is None or isinstance(v, bool) else _short(v) for k, v in settings.items()}
    return ", ".join(f"{key}={value}" for key, value in shown.items())


def _short(values: Sequence[float]) -> list[float]:
    return [round(float(v), 3) for v in values]
