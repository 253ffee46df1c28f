"""What the train pipeline packs: annotations, sizes and labels, against what the model takes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.structures import BaseDataElement

from mmplugins.utils import few

from .batches import Trial, has_objects, is_packed, tensors
from .inspection import Inspection


def check_samples(inspection: Inspection, trial: Trial) -> None:
    """The model can learn from what the train pipeline packs."""
    where = "train_dataloader.dataset.pipeline"
    bare = next((s for s in trial.samples if not is_packed(s)), None)
    if bare is not None:
        found = few(list(bare)) if isinstance(bare, Mapping) else type(bare).__name__
        pack = "PackSegInputs" if inspection.scope == "mmseg" else "PackDetInputs"
        inspection.stop(
            f"puts out {found}: expected inputs and data_samples, end it with dict(type={pack!r})",
            where,
        )
    if not all(isinstance(s["data_samples"], BaseDataElement) for s in trial.samples):
        return  # several branches or frames: the loss tells
    if inspection.scope in ("mmdet", "mmseg") and not annotated(trial.samples):
        extra = ", with_bbox=True" if inspection.scope == "mmdet" else ""
        inspection.stop(
            "packs no annotations, so there is nothing to learn: add "
            f"dict(type='LoadAnnotations'{extra}) after LoadImageFromFile",
            where,
        )
    if not any(map(has_objects, trial.samples)):
        inspection.warn(
            f"none of {len(trial.samples)} pictures has an object after the pipeline: check crops, "
            "filters and sizes",
            where,
        )
    _check_sizes(inspection, trial)
    _check_labels(inspection, trial)


def annotated(samples: Sequence) -> set[str]:
    """Names of the annotations that samples hold, those of instances one by one."""
    found: set[str] = set()
    for sample in samples:
        data = sample["data_samples"]
        if isinstance(data, BaseDataElement):
            names = set(data.keys()) - {"gt_instances"}
            found |= {name for name in names if name.startswith("gt_")}
            found |= set(data.gt_instances.keys()) if "gt_instances" in data else set()
    return found


def _check_sizes(inspection: Inspection, trial: Trial) -> None:
    """A preprocessor with one size pads smaller pictures, and cuts larger ones off."""
    prep = inspection.model.data_preprocessor
    sides = [tuple(t.shape[-2:]) for s in trial.samples for t in tensors(s["inputs"])]
    if not sides:
        return
    largest = tuple(max(side[k] for side in sides) for k in (0, 1))
    path = f"{inspection.trained[0]}.data_preprocessor"
    fixed = {f"{path}.size": getattr(prep, "size", None)}
    for k, step in enumerate(getattr(prep, "batch_augments", None) or ()):
        fixed[f"{path}.batch_augments[{k}].size"] = getattr(step, "size", None)
    for where, size in fixed.items():
        if size is None or len(tuple(size)) != 2:
            continue
        if where == f"{path}.size" and (largest[0] > size[0] or largest[1] > size[1]):
            inspection.stop(
                f"is {tuple(size)}, smaller than the pictures of {largest} that the train pipeline "
                f"makes: give size={largest}",
                where,
            )
        if 2 * math.prod(largest) <= math.prod(size):
            inspection.warn(
                f"is {tuple(size)}, but the train pipeline makes pictures of at most {largest}, so "
                f"that most of a batch is padding: give size={largest}",
                where,
            )


def _check_labels(inspection: Inspection, trial: Trial) -> None:
    head: Any = getattr(inspection.model, "decode_head", None)
    if not hasattr(head, "ignore_index"):
        return
    maps = [s["data_samples"].gt_sem_seg.data for s in trial.samples]
    values = sorted({v for m in maps for v in m.unique().tolist()})
    known = set(range(head.num_classes))
    wrong = [v for v in values if v not in known and v != head.ignore_index]
    if wrong:
        inspection.stop(
            f"label maps hold {few(wrong)} after the pipeline, but the head knows 0.."
            f"{head.num_classes - 1} and ignore_index={head.ignore_index}: give the head and the "
            "data set the same ignore_index (255), and reduce_zero_label as the maps need it",
            "model.decode_head.ignore_index",
        )
    if not known.intersection(values):
        inspection.warn(
            f"no labelled pixel in {len(maps)} maps, only {few(values)}: check reduce_zero_label",
            "train_dataloader.dataset",
        )
