"""What happens to pictures on the way to the model: pipelines, normalisation, padding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmplugins.checks.picture_files import walk_transforms
from mmplugins.utils import did_you_mean

from .inspection import Inspection, listed, metrics_of, walk
from .weights import pretrained

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
_STRIDE = 32
_MAP_METRICS = ("mIoU", "mDice", "mFscore")
_PREPROCESSORS = {"mmdet": "DetDataPreprocessor", "mmseg": "SegDataPreProcessor"}


def pipelines(cfg: Mapping, split: str) -> list[tuple[str, list]]:
    """Pipelines of a split with their config paths, those of wrapped data sets included."""
    loader = cfg.get(f"{split}_dataloader") or {}
    return [
        (where, value)
        for where, value in walk(loader.get("dataset"), f"{split}_dataloader.dataset")
        if where.endswith(".pipeline") and isinstance(value, list | tuple)
    ]


def mask_heads(model: Any) -> list[str]:
    """Config paths of the parts of a model that learn instance masks."""
    return [
        where
        for where, value in walk(model, "model")
        if where.split(".")[-1].split("[")[0] == "mask_head" and isinstance(value, Mapping)
    ]


def check_pipelines(inspection: Inspection) -> str:
    """Steps that the task needs, and their order."""
    cfg, masks = inspection.cfg, mask_heads(inspection.cfg.get("model"))
    for split in ("train", "val", "test"):
        for where, pipeline in pipelines(cfg, split):
            steps = list(walk_transforms(pipeline))
            names = [str(step["type"]).rsplit(".", 1)[-1] for step in steps]
            if split == "train" and ".dataset.dataset" not in where:
                _check_train_steps(inspection, where, steps, names, masks)
            if split != "train":
                _check_test_steps(inspection, where, steps, names)
    for split in ("val", "test"):
        for place, evaluator in metrics_of(cfg, split):
            _check_maps_metric(inspection, evaluator, f"{place}.iou_metrics")
            if "segm" in listed(evaluator.get("metric")) and not masks:
                inspection.fail(
                    f"asks for 'segm', but {cfg.model.get('type')} has no mask head: write "
                    "metric='bbox', or use a model with masks",
                    f"{place}.metric",
                )
    return "the steps fit the task"


def _check_maps_metric(inspection: Inspection, evaluator: Mapping, where: str) -> None:
    for metric in listed(evaluator.get("iou_metrics")):
        if metric not in _MAP_METRICS:
            inspection.fail(
                f"has {metric!r}: expected some of {', '.join(_MAP_METRICS)}."
                f"{did_you_mean(str(metric), _MAP_METRICS)}",
                where,
            )


def _check_train_steps(
    inspection: Inspection, where: str, steps: Sequence, names: Sequence, masks: Sequence
) -> None:
    loads = [step for step, name in zip(steps, names, strict=True) if "LoadAnnotations" in name]
    packs = "PackSegInputs" if inspection.scope == "mmseg" else "PackDetInputs"
    if not any(name.startswith("Pack") for name in names):
        inspection.fail(
            f"has no {packs} (its last step is {names[-1] if names else 'none'}), so the model "
            f"gets no inputs: end it with dict(type='{packs}')",
            where,
        )
    elif not loads:
        extra = ", with_bbox=True" if inspection.scope == "mmdet" else ""
        inspection.fail(
            "has no LoadAnnotations, so there is nothing to learn: add "
            f"dict(type='LoadAnnotations'{extra}) after LoadImageFromFile",
            where,
        )
    elif inspection.scope == "mmdet":
        if not any(step.get("with_bbox", True) for step in loads):
            inspection.fail("LoadAnnotations has with_bbox=False: give with_bbox=True", where)
        if masks and not any(step.get("with_mask") for step in loads):
            inspection.fail(
                f"LoadAnnotations has no with_mask=True, but {masks[0]} learns masks: write "
                "dict(type='LoadAnnotations', with_bbox=True, with_mask=True)",
                where,
            )


def _check_test_steps(inspection: Inspection, where: str, steps: Sequence, names: Sequence) -> None:
    if "PackDetInputs" in names:
        keys = steps[names.index("PackDetInputs")].get("meta_keys")
        needed = ("img_id", "ori_shape", "img_shape", "scale_factor")
        absent = [key for key in needed if keys is not None and key not in keys]
        if "scale_factor" in absent and not any("Resize" in name for name in names):
            absent.remove("scale_factor")
        if absent:
            inspection.fail(
                f"PackDetInputs leaves out {', '.join(absent)}, which predictions and metrics "
                f"need: give meta_keys={(*keys, *absent)!r}",
                where,
            )
    resizes = [k for k, name in enumerate(names) if "Resize" in name]
    loads = [k for k, name in enumerate(names) if name == "LoadAnnotations"]
    if inspection.scope == "mmseg" and resizes and loads and min(loads) < max(resizes):
        inspection.fail(
            f"{names[resizes[-1]]} comes after LoadAnnotations and resizes the map, but "
            "predictions have the size of the file: put LoadAnnotations after it",
            where,
        )
    dataset = _entry(inspection.cfg, where.rsplit(".pipeline", 1)[0])
    if "ADE" in str(dataset.get("type")) and "ResizeToMultiple" not in names:
        inspection.warn(
            f"{dataset['type']} is tested without ResizeToMultiple, which costs about 1 mIoU: add "
            f"dict(type='ResizeToMultiple', size_divisor={_STRIDE}) after Resize",
            where,
        )


def _entry(cfg: Mapping, path: str) -> Any:
    return next((value for where, value in walk(cfg) if where == path), {})


def check_normalisation(inspection: Inspection) -> str:
    """Colours as the pretrained weights know them, and sides that the strides divide."""
    path, model = inspection.trained
    prep = inspection.cfg.get("data_preprocessor") or model.get("data_preprocessor") or {}
    where = f"{path}.data_preprocessor"
    mean, std = prep.get("mean"), prep.get("std")
    if inspection.scope in _PREPROCESSORS and not prep:
        inspection.fail(
            f"is absent, so pictures are never made a batch: give dict(type="
            f"{_PREPROCESSORS[inspection.scope]!r}, mean=..., std=..., bgr_to_rgb=True)",
            where,
        )
        return ""
    if prep.get("type") == "SegDataPreProcessor" and not (
        prep.get("size") or prep.get("size_divisor")
    ):
        inspection.fail(
            "has neither size nor size_divisor: give the size of the training crops, for example "
            "size=(512, 512)",
            where,
        )
        return ""
    size = prep.get("size")
    if size is not None and not (_are_numbers(size) and len(size) == 2):
        inspection.fail(f"is {size!r}: expected height and width, (512, 512)", f"{where}.size")
        return ""
    _check_crops(inspection, f"{where}.size", size)
    if (mean is None) != (std is None):
        absent = "mean" if mean is None else "std"
        inspection.fail(f"has no {absent}: mean and std belong together", where)
        return ""
    for name, values in (("mean", mean), ("std", std)):
        if values is not None and not _are_numbers(values):
            inspection.fail(
                f"is {values!r}: expected a number per channel, for ImageNet "
                f"{_short(IMAGENET_MEAN if name == 'mean' else IMAGENET_STD)}",
                f"{where}.{name}",
            )
            return ""
        if values is not None and len(values) not in (1, 3):
            inspection.fail(
                f"has {len(values)} values, {list(values)}: expected one per channel, 3",
                f"{where}.{name}",
            )
            return ""
    if std is not None and min(std) <= 0:
        inspection.fail(
            f"is {list(std)}: pictures are divided by it, so it must be above 0", f"{where}.std"
        )
        return ""
    for _, pipeline in pipelines(inspection.cfg, "train"):
        if mean is not None and any(t["type"] == "Normalize" for t in walk_transforms(pipeline)):
            inspection.warn(
                "subtracts a mean, and so does Normalize in the train pipeline: take one out", where
            )
    _check_colours(inspection, where, model, prep)
    divisor = prep.get("pad_size_divisor")
    if divisor is not None and (not isinstance(divisor, int) or divisor < 1):
        inspection.fail(
            f"is {divisor!r}: expected a whole number, {_STRIDE}", f"{where}.pad_size_divisor"
        )
        return ""
    if inspection.scope == "mmdet" and divisor is not None and divisor % _STRIDE:
        inspection.warn(
            f"is {divisor}, which the largest stride does not divide: give {_STRIDE}",
            f"{where}.pad_size_divisor",
        )
    if mean is None:
        return "pictures come as 0..255"
    order = "RGB" if prep.get("bgr_to_rgb") else "BGR"
    return f"{order}, mean {_short(mean)}, std {_short(std)}"


def _check_crops(inspection: Inspection, where: str, size: Any) -> None:
    """A preprocessor pads to one size, and cuts nothing off."""
    if not isinstance(size, list | tuple) or len(size) != 2:
        return
    for _, pipeline in pipelines(inspection.cfg, "train"):
        for step in walk_transforms(pipeline):
            crop = step.get("crop_size") if step["type"] == "RandomCrop" else None
            crop = (crop, crop) if isinstance(crop, int) else crop
            if crop and (crop[0] > size[0] or crop[1] > size[1]):
                inspection.fail(
                    f"is {tuple(size)}, smaller than the crops of {tuple(crop)} that the train "
                    f"pipeline makes: give size={tuple(crop)}",
                    where,
                )


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
    if not source or "caffe" in source:  # caffe's weights know BGR and other figures
        return
    wanted_mean, wanted_std = _known_colours(source)
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
    return len(values) == len(wanted) and all(
        abs(a - b) < 1.0 for a, b in zip(values, wanted, strict=True)
    )


def _are_numbers(values: Any) -> bool:
    return isinstance(values, list | tuple) and all(isinstance(v, int | float) for v in values)


def _short(values: Sequence[float]) -> list[float]:
    return [round(float(v), 3) for v in values]
