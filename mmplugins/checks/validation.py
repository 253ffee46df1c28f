"""One picture predicted and judged, as validation will do it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import mmcv.ops
import torch
from mmengine.evaluator import Evaluator
from torch import nn

from mmplugins.utils import did_you_mean, few

from .batches import Trial, load_trial
from .explain import in_words, place_of, shown, walk
from .inspection import Inspection, NotRun, metrics_of
from .learning import watched_metrics
from .trial import without_cfg

META_KEYS = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor", "flip")
"""What predictions and metrics read of a picture beside its pixels."""


def check_validation(inspection: Inspection) -> str:
    """Predict one picture and let the evaluators judge it."""
    cfg, model = inspection.cfg, inspection.model
    if not cfg.get("val_dataloader"):
        raise NotRun("the config has no validation")
    trial = load_trial(inspection, "val")
    _show_everything(model)
    model.eval()
    try:
        batch = trial.batch(1)
        with torch.no_grad():
            outputs = model.val_step(batch)
    except Exception as error:  # anything in the model, on a picture the data set made
        if unknown := re.search(r"'(\w+)' (is not defined|names nothing in mmcv)", str(error)):
            inspection.stop(
                f"{unknown[1]!r} is not there: expected 'nms', 'soft_nms' or another operator of "
                f"mmcv.ops.{did_you_mean(unknown[1], dir(mmcv.ops))}",
                place_of(cfg.model, "model", unknown[1]),
            )
        said = in_words(error)
        absent = [key for key in META_KEYS if key in said and not _packs(trial, key)]
        packed = f": add {absent[0]!r} to meta_keys of its last step" if absent else ""
        inspection.stop(
            f"predicting one picture failed with {said}; check model.test_cfg and what the test "
            f"pipeline packs{packed}{without_cfg(inspection, 'test_cfg')}",
            "val_dataloader.dataset.pipeline",
        )
    metrics: dict[str, float] = {}
    for where, metric in metrics_of(cfg, "val"):
        metrics |= _judge(inspection, where, metric, trial.dataset.metainfo, outputs, batch)
    _check_test_metrics(inspection, trial.dataset.metainfo, outputs, batch)
    _check_watched(inspection, metrics)
    return f"one picture predicted; metrics {few(list(metrics), 4) or 'none'}"


def _packs(trial: Trial, key: str) -> bool:
    return all(key in sample["data_samples"].metainfo for sample in trial.samples)


def _judge(
    inspection: Inspection,
    where: str,
    metric: Mapping,
    metainfo: Mapping,
    outputs: Sequence,
    batch: Any,
) -> dict[str, float]:
    """What one metric says of the predictions."""
    try:
        built = inspection.metrics.get(where)
        evaluator = Evaluator([inspection.harmless(metric) if built is None else built])
        evaluator.dataset_meta = metainfo
        evaluator.process(outputs, batch)
        return evaluator.evaluate(1)
    except Exception as error:  # metrics may raise anything
        inspection.stop(
            _of_another_task(inspection, metric, error, outputs)
            or _of_another_size(error, batch)
            or f"judging one picture failed with {in_words(error)}; check its arguments, ann_file "
            f"and what the test pipeline packs: {shown(dict(metric))}",
            where,
        )


def _of_another_size(error: Exception, batch: Any) -> str:
    """That a label map is not as large as the picture's file, in words; ``''`` if it is."""
    for sample in batch["data_samples"]:
        given, size = sample.get("gt_sem_seg"), tuple(sample.metainfo.get("ori_shape") or ())
        if given is not None and size and tuple(given.data.shape[-2:]) != size[:2]:
            return (
                f"judging failed with {in_words(error)}: predictions have the size of the file, "
                f"{size[:2]}, but the pipeline makes the map {tuple(given.data.shape[-2:])}; put "
                "LoadAnnotations after the resizing step of the test pipeline"
            )
    return ""


def _of_another_task(
    inspection: Inspection, metric: Mapping, error: Exception, outputs: Sequence
) -> str:
    """That a metric judges what this model does not predict, in words; ``''`` if it is not that."""
    wanted = str(error.args[0]) if isinstance(error, KeyError) and error.args else ""
    found = [name for name in outputs[0].all_keys() if name.startswith("pred_")]
    if not wanted.startswith("pred_") or wanted in found:
        return ""
    other = "IoUMetric" if "pred_sem_seg" in found else "CocoMetric"
    return (
        f"is {metric.get('type')!r}, which judges {wanted}, but {type(inspection.model).__name__} "
        f"predicts {', '.join(found) or 'nothing'}: give an evaluator of its task, such as "
        f"dict(type={other!r}, ...)"
    )


def _check_test_metrics(
    inspection: Inspection, metainfo: Mapping, outputs: Sequence, batch: Any
) -> None:
    """Whether metrics of the test alone judge what the model predicts; they have other files."""
    known = [metric.get("type") for _, metric in metrics_of(inspection.cfg, "val")]
    for where, metric in metrics_of(inspection.cfg, "test"):
        if metric.get("type") in known:
            continue
        built = inspection.metrics.get(where)
        if built is None:
            continue
        try:
            built.dataset_meta = metainfo
            built.process(batch, [output.to_dict() for output in outputs])
        except Exception as error:  # with the test's own data it may be right
            if said := _of_another_task(inspection, metric, error, outputs):
                inspection.fail(said, where)


def _check_watched(inspection: Inspection, metrics: Mapping[str, float]) -> None:
    """Metrics that hooks choose checkpoints by, or stop by, must be among those measured."""
    for where, key, _ in watched_metrics(inspection.cfg):
        if metrics and key != "auto" and key not in metrics:
            inspection.fail(
                f"is {key!r}, which is none of the metrics: write one of {few(list(metrics), 12)}"
                f".{did_you_mean(key, metrics)}",
                where,
            )


def _show_everything(model: nn.Module) -> None:
    """A model that knows nothing must find something, or nothing would be judged."""
    for module in model.modules():
        for _, value in list(walk(getattr(module, "test_cfg", None))):
            if isinstance(value, dict) and "score_thr" in value:
                value["score_thr"] = 0.0
