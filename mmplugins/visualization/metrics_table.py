"""Test results as a table for the console."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from numbers import Real

from rich.table import Table

from mmplugins.console import as_text

_COCO_KEY = re.compile(r"(?:(?P<set>.*)/)?(?P<what>\w+)_mAP(?:_(?P<cut>50|75|s|m|l))?$")
_COCO_COLUMNS = {None: "AP", "50": "AP50", "75": "AP75", "s": "APs", "m": "APm", "l": "APl"}


def metrics_table(metrics: Mapping[str, float], title: str | None = None) -> Table:
    """COCO metrics as one row per kind of result; where there are none, one row per metric.

    Several evaluators of COCO are told apart by their ``prefix``. mmdet gives no metrics at all for
    a detector that finds nothing; the table then says so.

    Args:
        metrics: As mmengine's evaluators give them, for example ``{'coco/bbox_mAP': 0.362}``.
        title: Heading of the table. Defaults to none.
    """
    coco: dict[tuple[str, str], dict[str, float]] = {}
    others: dict[str, float] = {}
    for name, value in metrics.items():
        match = _COCO_KEY.match(name)
        if match:
            row = coco.setdefault((match["set"] or "", match["what"]), {})
            row[_COCO_COLUMNS[match["cut"]]] = value
        elif isinstance(value, Real):
            others[name] = value
    table = Table(title=title and as_text(title))
    if coco:
        table.add_column("COCO")
        for column in _COCO_COLUMNS.values():
            table.add_column(column, justify="right")
        several = len({name for name, _ in coco}) > 1
        for (name, what), row in coco.items():
            label = f"{name} {what}".strip() if several else what
            table.add_row(as_text(label), *(_figure(row.get(c)) for c in _COCO_COLUMNS.values()))
    else:
        table.add_column("metric")
        table.add_column("value", justify="right")
        for name, value in others.items():
            table.add_row(as_text(name), f"{value:.4g}")
        if not others:
            table.add_row("none: nothing was found", "-")
    return table


def per_class_table(rows: Mapping[str, Mapping[str, float]], title: str | None = None) -> Table:
    """One row per class, one column per metric.

    Args:
        rows: Metrics by class and name, for example ``{'dog': {'AP': 0.41, 'AP50': 0.6}}``.
        title: Heading of the table. Defaults to none.
    """
    table = Table(title=title and as_text(title))
    table.add_column("class")
    columns = list(next(iter(rows.values()), {}))
    for column in columns:
        table.add_column(as_text(column), justify="right")
    for name, row in rows.items():
        table.add_row(as_text(name), *(_figure(row[column]) for column in columns))
    return table


def _figure(value: float | None) -> str:
    """COCO's own three digits; a dash where there was nothing to measure (COCO writes -1)."""
    return "-" if value is None or math.isnan(value) or value < 0 else f"{value:.3f}"
