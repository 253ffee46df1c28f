"""What a training or a test came to: a table, a file to read and one to compute with, curves."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from mmplugins.console import Console
from mmplugins.utils import printable, write_whole

CONSOLE_CLASSES = 30
"""With more classes than these the table of classes is in the files only."""


@HOOKS.register_module()
class ResultsHook(Hook):
    """Writes what the last validation, or the test, found into the work dir.

    ``results.md`` and ``results.json`` hold the metrics and, from evaluators that keep them
    (:class:`~mmplugins.evaluation.coco.FastCocoMetric`, :class:`~mmplugins.evaluation.iou.\
PerClassIoUMetric`), AP or IoU of each class; a training also leaves ``curves.png``. A test writes
    ``test_results.*``, as a training's own results stay. In a config::

        default_hooks = dict(results=dict(type="ResultsHook"))
    """

    priority = "LOWEST"  # after the hooks that write the log

    def __init__(self) -> None:
        self._last: dict[str, Any] | None = None
        # Not asked of the runner: drawing hooks build its training loop also in a test.
        self._trained = False

    def before_train(self, runner: Runner) -> None:
        """Note that this is a training."""
        self._trained = True

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Keep what was found."""
        self._last = _results(
            runner, metrics or {}, runner.val_loop.evaluator.metrics, self._trained
        )

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Keep what was found."""
        self._last = _results(
            runner, metrics or {}, runner.test_loop.evaluator.metrics, self._trained
        )

    def after_run(self, runner: Runner) -> None:
        """Write and show it."""
        trained = self._trained
        if not is_main_process() or (not trained and self._last is None):
            return
        # Here, as importing matplotlib takes a while and most processes draw nothing.
        from mmplugins.visualization import metrics_table, per_class_table, training_curves

        folder = Path(runner.work_dir)
        if trained:
            try:
                training_curves(folder, folder / "curves.png")
            except FileNotFoundError as error:  # another visualizer keeps the log
                runner.logger.info(f"No curves.png: {error}")
        if self._last is None:
            return
        name = "results" if trained else "test_results"
        write_whole(folder / f"{name}.json", json.dumps(_plain(self._last), indent=1) + "\n")
        write_whole(folder / f"{name}.md", in_markdown(self._last))
        console = Console(markup=False)
        if trained:
            console.print(metrics_table(self._last["metrics"], title=_title(self._last)))
        for kind, rows in self._last["per_class"].items():
            if len(rows) <= CONSOLE_CLASSES:
                console.print(per_class_table(rows, title=f"{kind}, by class"))
        console.print(f"Results: {folder / name}.md, .json", highlight=False, soft_wrap=True)


def in_markdown(results: Mapping[str, Any]) -> str:
    """A results dict as Markdown tables."""
    lines = [f"# {_title(results)}", "", "| metric | value |", "| --- | ---: |"]
    for name, value in results["metrics"].items():
        lines.append(f"| {_cell(name)} | {_figure(value)} |")
    if not results["metrics"]:
        lines.append("| none: nothing was found | - |")
    for kind, rows in results["per_class"].items():
        columns = list(next(iter(rows.values()), {}))
        lines += ["", f"## {kind}, by class", "", f"| class | {' | '.join(map(_cell, columns))} |"]
        lines.append("| --- |" + " ---: |" * len(columns))
        for label, row in rows.items():
            lines.append(f"| {_cell(label)} | {' | '.join(_figure(row[c]) for c in columns)} |")
    return "\n".join(lines) + "\n"


def _results(
    runner: Runner, metrics: Mapping[str, Any], evaluators: list, trained: bool
) -> dict[str, Any]:
    """Metrics, per-class metrics and what they belong to."""
    per_class: dict[str, dict[str, dict[str, float]]] = {}
    for evaluator in evaluators:
        per_class.update(getattr(evaluator, "per_class", {}))
    return dict(
        iteration=runner.iter if trained else None,
        epoch=runner.epoch if trained and runner.max_epochs > 1 else None,
        checkpoint=None if trained else str(runner._load_from),
        metrics={name: value for name, value in metrics.items() if isinstance(value, Real)},
        per_class=per_class,
    )


def _title(results: Mapping[str, Any]) -> str:
    if results["checkpoint"]:
        return f"Test of {Path(results['checkpoint']).name}"
    epoch = f" (epoch {results['epoch']})" if results["epoch"] else ""
    return f"Validation after iteration {results['iteration']}{epoch}"


def _figure(value: float) -> str:
    """Four digits; a dash where there was nothing to measure (COCO writes -1)."""
    return "-" if math.isnan(value) or value == -1 else f"{value:.4g}"


def _cell(text: str) -> str:
    """A class's or metric's name in a Markdown table, which no sign in it may break."""
    return " ".join(printable(text).replace("|", "\\|").split())


def _plain(value: Any) -> Any:
    """For JSON, which knows no NaN: None instead."""
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, Real) and not isinstance(value, int):
        return None if math.isnan(value) else float(value)
    return value
