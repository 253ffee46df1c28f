"""One picture predicted and judged, as validation will do it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.evaluator import Evaluator
from mmengine.registry import METRICS
from torch import nn

from mmplugins.utils import did_you_mean, few

from .inspection import Inspection, NotRun, in_words, listed, metrics_of, walk
from .trial import load_trial, without_cfg

_WRITES = ("outfile_prefix", "output_dir", "out_file_path")


def check_validation(inspection: Inspection) -> str:
    """Predict one picture and let the evaluators judge it."""
    cfg, model = inspection.cfg, inspection.model
    if not cfg.get("val_dataloader"):
        raise NotRun("the config has no validation")
    trial = load_trial(inspection, "val")
    if trial is None:
        return ""
    _show_everything(model)
    model.eval()
    try:
        batch = trial.batch(1)
        with torch.no_grad():
            outputs = model.val_step(batch)
    except Exception as error:  # anything in the model, on a picture the data set made
        inspection.fail(
            f"predicting one picture failed with {in_words(error)}; check model.test_cfg and what "
            f"the test pipeline packs{without_cfg(inspection, 'test_cfg')}",
            "val_dataloader.dataset.pipeline",
        )
        return ""
    metrics: dict[str, float] = {}
    for where, metric in metrics_of(cfg, "val"):
        found = _judge(inspection, where, metric, trial.dataset.metainfo, outputs, batch)
        if found is None:
            return ""
        metrics |= found
    _check_test_metrics(inspection, trial.dataset.metainfo, outputs, batch)
    _check_watched(inspection, metrics)
    return f"one picture predicted; metrics {few(list(metrics), 4) or 'none'}"


def _judge(
    inspection: Inspection,
    where: str,
    metric: Mapping,
    metainfo: Mapping,
    outputs: Sequence,
    batch: Any,
) -> dict[str, float] | None:
    """What one metric says of the predictions; None if it failed."""
    try:
        evaluator = Evaluator([_harmless(metric)])
        evaluator.dataset_meta = metainfo
        evaluator.process(outputs, batch)
        return evaluator.evaluate(1)
    except Exception as error:  # metrics raise what they like
        inspection.fail(
            _of_another_task(inspection, metric, error, outputs)
            or f"judging one picture failed with {in_words(error)}; check metric, ann_file and "
            "what the test pipeline packs",
            where,
        )
        return None


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
        try:
            built = METRICS.build(_harmless(metric))
            built.dataset_meta = metainfo
            built.process(batch, [output.to_dict() for output in outputs])
        except Exception as error:  # with the test's own data it may be right
            if said := _of_another_task(inspection, metric, error, outputs):
                inspection.fail(said, where)


def _check_watched(inspection: Inspection, metrics: Mapping[str, float]) -> None:
    """Metrics that hooks choose checkpoints by, or stop by, must be among those measured."""
    cfg = inspection.cfg
    saving = (cfg.get("default_hooks") or {}).get("checkpoint") or {}
    watched = [
        ("default_hooks.checkpoint.save_best", key) for key in listed(saving.get("save_best"))
    ]
    watched += [
        (f"custom_hooks[{k}].monitor", hook["monitor"])
        for k, hook in enumerate(listed(cfg.get("custom_hooks")))
        if isinstance(hook, Mapping)
        and hook.get("type") == "EarlyStoppingHook"
        and "monitor" in hook
    ]
    for where, key in watched:
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
            if isinstance(value, Mapping) and "score_thr" in value:
                value["score_thr"] = 0.0


def _harmless(evaluator: Mapping) -> dict:
    """An evaluator that writes nothing."""
    return {
        key: value
        for key, value in evaluator.items()
        if key not in _WRITES and not (key == "format_only" and value)
    }
