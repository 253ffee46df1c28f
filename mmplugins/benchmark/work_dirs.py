"""What finished trainings have scored, out of their work dirs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from mmplugins.engine import load_config
from mmplugins.engine.config.backbone_choice import short_name
from mmplugins.engine.config.outline import learning_parts
from mmplugins.engine.config.settings import SettingError
from mmplugins.utils import type_name
from mmplugins.visualization.training_curves import read_curves

from .experiment import TASKS, score_of
from .runs import family_of_backbone


def read_work_dir(path: str | Path) -> dict[str, Any]:
    """The result of a training in a work dir, as :mod:`.leaderboard` takes it.

    Its metrics are those of ``results.json`` (of our ``ResultsHook``), else of
    ``test_results.json``, else the last ones of mmengine's log. The backbone, the recipe and the
    seed are those of the config that mmengine leaves beside them.

    Args:
        path: The work dir of ``tools/train.py``, of mmdet or of mmseg.

    Raises:
        FileNotFoundError: If it holds no scores.
        SettingError: If it holds no config that can be read.
    """
    path = Path(path)
    metrics, steps = _metrics(path)
    names = {name.rsplit("/", 1)[-1] for name in metrics}
    # Instance segmentation has boxes as well, so it is asked for first.
    task = next(
        (t for t in ("instance", "detection", "semantic") if TASKS[t].metric in names), None
    )
    if task is None:
        raise FileNotFoundError(
            f"{path}: neither bbox_mAP, segm_mAP nor mIoU among the metrics "
            f"{', '.join(metrics) or '(none)'}; validate or test the model first"
        )
    configs = sorted(path.glob("*.py"), key=lambda file: file.stat().st_mtime)
    configs = configs or sorted(path.glob("*/vis_data/config.py"))
    if not configs:
        raise SettingError(f"{path}: no config (*.py), which tells the backbone")
    cfg = load_config(configs[-1])
    parts = learning_parts(cfg.model)
    if not parts:
        raise SettingError(f"{configs[-1]}: its model has no backbone")
    backbone = next(iter(parts.values()))["backbone"]
    seed = (cfg.get("randomness") or {}).get("seed")
    recipe = configs[-1].stem if configs[-1].parent == path else path.name
    return dict(
        task=task, set=recipe, config=recipe, start="as read", lr=None,
        backbone=name_of(backbone), label=name_of(backbone),
        family=family_of_backbone(backbone), seed=seed, steps=steps, source=str(path),
        metrics=metrics, score=score_of(metrics, task), seconds=None, failure=None,
    )  # fmt: skip


def own_backbone(config: str | Path) -> str | None:
    """Name of the backbone in a config, as :func:`read_work_dir` gives it.

    Returns:
        None if the file is not here, cannot be read or has no backbone.
    """
    if not Path(config).is_file():
        return None
    try:
        parts = learning_parts(load_config(config).model)
    except (SettingError, AttributeError):
        return None
    return name_of(next(iter(parts.values()))["backbone"]) if parts else None


def name_of(backbone: dict[str, Any]) -> str:
    """The name of ``list_backbones()`` or ``timm/<model>``, or a short one for other types."""
    kind = type_name(backbone)
    if kind == "TimmBackbone":
        return f"timm/{str(backbone.get('model_name')).removeprefix('timm/')}"
    arch = backbone.get("arch")
    if isinstance(arch, str):
        return f"{kind.lower()}_{arch}"
    return short_name(backbone)


def _metrics(path: Path) -> tuple[dict[str, float], int | None]:
    """Metrics of a work dir, and after how many iterations they were taken, if that is known."""
    for name in ("results.json", "test_results.json"):
        if (path / name).is_file():
            found = json.loads((path / name).read_text(encoding="utf-8"))
            metrics = {k: v for k, v in found["metrics"].items() if v is not None}
            return metrics, found["iteration"] or _iteration(found.get("checkpoint"))
    curves = read_curves(path)
    last = {name: points[-1] for name, points in curves.metrics.items()}
    steps = max((at for at, _ in last.values()), default=None)
    return {name: value for name, (_, value) in last.items()}, steps


def _iteration(checkpoint: str | None) -> int | None:
    found = re.search(r"iter_(\d+)\.pth$", checkpoint or "")
    return int(found[1]) if found else None
