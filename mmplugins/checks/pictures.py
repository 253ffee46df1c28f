"""What happens to pictures on the way to the model: order of steps, colours, padding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmplugins.utils import type_name

from .inspection import Inspection
from .picture_files import walk_transforms
from .weights import pretrained

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
_STRIDE = 32
_MOVES = ("Resize", "Flip", "Crop", "Rotate", "Affine", "Shear", "Translate", "Expand", "Pad")
"""Parts of the names of steps that move pixels, and boxes and maps with them."""


def leaves(dataset: Any, where: str, outer: Sequence = ()) -> Iterator[tuple[str, Any, list]]:
    """Data sets below the wrappers, with their config paths and all transforms they run through."""
    if not isinstance(dataset, Mapping):
        return
    pipeline = [*(dataset.get("pipeline") or ()), *outer]
    inner = dataset.get("datasets", dataset.get("dataset"))
    if isinstance(inner, list | tuple):
        for k, one in enumerate(inner):
            yield from leaves(one, f"{where}.datasets[{k}]", pipeline)
    elif isinstance(inner, Mapping):
        name = "datasets" if "datasets" in dataset else "dataset"
        yield from leaves(inner, f"{where}.{name}", pipeline)
    else:
        yield where, dataset, pipeline


def leaves_of(cfg: Mapping, split: str) -> Iterator[tuple[str, Any, list]]:
    """:func:`leaves` of the data loader of a split."""
    loader = cfg.get(f"{split}_dataloader") or {}
    yield from leaves(loader.get("dataset"), f"{split}_dataloader.dataset")


def check_pipelines(inspection: Inspection) -> str:
    """Orders of steps that run and spoil the annotations, and pictures that are used twice."""
    seen = [_files(dataset) for _, dataset, _ in leaves_of(inspection.cfg, "train")]
    for where, _, pipeline in leaves_of(inspection.cfg, "train"):
        names = [type_name(step) for step in walk_transforms(pipeline)]
        loads = [k for k, name in enumerate(names) if name.endswith("LoadAnnotations")]
        early = [n for n in names[: loads[0] if loads else 0] if any(m in n for m in _MOVES)]
        if early:
            inspection.fail(
                f"{early[0]} comes before {names[loads[0]]}, so that boxes and maps are those of "
                f"the picture as it was: put {names[loads[0]]} before it",
                f"{where}.pipeline",
            )
    for where, dataset, pipeline in leaves_of(inspection.cfg, "val"):
        if any(_files(dataset)) and _files(dataset) in seen:
            inspection.warn(
                "reads the pictures of the training, so its figures say nothing about others: give "
                "the files of the validation",
                where,
            )
        names = [type_name(step) for step in walk_transforms(pipeline)]
        if "ADE" in type_name(dataset) and "ResizeToMultiple" not in names:
            inspection.warn(
                f"{type_name(dataset)} is tested without ResizeToMultiple, which costs about 1 "
                f"mIoU: add dict(type='ResizeToMultiple', size_divisor={_STRIDE}) after Resize",
                f"{where}.pipeline",
            )
    return "the steps are in order"


def _files(dataset: Mapping) -> tuple:
    return tuple(dataset.get(key) for key in ("ann_file", "data_prefix", "data_root"))


def check_normalisation(inspection: Inspection) -> str:
    """Colours as the pretrained weights know them, and sides that the strides divide."""
    path, model = inspection.trained
    prep = inspection.cfg.get("data_preprocessor") or model.get("data_preprocessor") or {}
    where = f"{path}.data_preprocessor"
    mean, std = prep.get("mean"), prep.get("std")
    numbers = all(isinstance(v, int | float) for v in [*(mean or ()), *(std or ())])
    if not numbers or (mean is None) != (std is None):
        return "told by the model"
    for _, _, pipeline in leaves_of(inspection.cfg, "train"):
        steps = [type_name(step) for step in walk_transforms(pipeline)]
        if mean is not None and "Normalize" in steps:
            inspection.warn(
                "subtracts a mean, and so does Normalize in the train pipeline: take one out", where
            )
    _check_colours(inspection, where, model, prep)
    divisor = prep.get("pad_size_divisor")
    odd = isinstance(divisor, int) and divisor > 1 and divisor % _STRIDE
    if inspection.scope == "mmdet" and odd:
        inspection.warn(
            f"is {divisor}, which the largest stride does not divide: give {_STRIDE}",
            f"{where}.pad_size_divisor",
        )
    if mean is None:
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
    wanted_mean, wanted_std = _known_colours(source)
    if mean is not None and len(mean) != len(wanted_mean):  # of other cameras
        return
    if mean is None:
        inspection.warn(
            f"has no mean and std, but {source} was trained with ImageNet's: give "
            f"mean={_short(wanted_mean)}, std={_short(wanted_std)}, bgr_to_rgb=True",
            where,
        )
    elif not (_near(mean, wanted_mean) and _near(std, wanted_std)):
        inspection.warn(
            f"has mean={_short(mean)}, std={_short(std)}, but {source} was trained with "
            f"{_short(wanted_mean)} and {_short(wanted_std)}: give these",
            where,
        )
    elif not prep.get("bgr_to_rgb"):
        inspection.warn(
            f"is {prep.get('bgr_to_rgb', False)}, but pictures are read as BGR and {source} was "
            "trained on RGB: give bgr_to_rgb=True",
            f"{where}.bgr_to_rgb",
        )


def _known_colours(source: str) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and std of a source's training, on 0..255: timm's own record, else ImageNet's."""
    if source.startswith("timm://"):
        import timm

        found = timm.get_pretrained_cfg(source.removeprefix("timm://"), allow_unregistered=True)
        if found is not None:
            return [255 * v for v in found.mean], [255 * v for v in found.std]
    return IMAGENET_MEAN, IMAGENET_STD


def _near(values: Sequence[float], wanted: Sequence[float]) -> bool:
    return all(abs(a - b) < 1.0 for a, b in zip(values, wanted, strict=True))


def _short(values: Sequence[float]) -> list[float]:
    return [round(float(v), 3) for v in values]
