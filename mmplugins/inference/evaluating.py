"""The metric of an exported file, by the data and evaluators of its config."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.structures import InstanceData, PixelData

from mmplugins.checkpoint.config_text import check_harmless
from mmplugins.deployment.runtime import Exported, load_exported
from mmplugins.engine import build_runner
from mmplugins.engine.config.settings import task_of
from mmplugins.engine.launch import require_writable

from .exported import ExportedRuntime
from .inputs import InputError
from .model import scope_of
from .results import Prediction, decode


class ExportedModel(BaseModel):
    """An exported file in the place of a model, for testing.

    Args:
        runtime: Of the file.
    """

    def __init__(self, runtime: ExportedRuntime):
        super().__init__()
        self.runtime = runtime

    def forward(self, *args: Any, **kwargs: Any) -> None:
        """Refuse: only ``test_step`` is there.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("an exported file is tested, and does nothing else")

    def test_step(self, data: dict[str, Any]) -> list[Any]:
        """Predict on a batch of the data loader, one picture after the other."""
        samples = []
        for inputs, sample in zip(data["inputs"], data["data_samples"], strict=True):
            (found,) = self.runtime([dict(inputs=inputs, data_samples=sample)])
            samples.append(_filled(sample, found))
        return samples


def test_exported(cfg: Config, path: str, trust: bool = False) -> tuple[Runner, dict[str, float]]:
    """Test an exported file as :func:`mmplugins.engine.test` tests a checkpoint.

    Args:
        cfg: A config with test data and evaluator.
        path: The exported file.
        trust: As in :func:`.load_exported`.

    Raises:
        ExportError: If the file cannot be loaded.
        SettingError: If the work dir cannot be written.
    """
    require_writable(cfg.work_dir)
    exported = load_exported(path, trust=trust)
    runner = build_runner(Config(dict(cfg, resume=False, load_from=None)))
    runner._train_loop = None  # as in testing a checkpoint
    runner.model = ExportedModel(ExportedRuntime(exported, cfg))
    return runner, runner.test()


def metrics_of(exported: Exported, cfg: Config, trust: bool = False) -> dict[str, float]:
    """The metric of an exported file on the validation data of a config, without a work dir.

    Args:
        exported: The file.
        cfg: Its config.
        trust: Whether the config is the user's own and may build what it names.

    Raises:
        CheckpointError: If the config is not trusted and names what is not registered.
        InputError: If it has no validation data, or they cannot be read.
    """
    loader, evaluator = cfg.get("val_dataloader"), cfg.get("val_evaluator")
    if not loader or not evaluator:
        raise InputError("the config has no val_dataloader and val_evaluator")
    if not trust:
        check_harmless(dict(loader=loader, evaluator=evaluator), str(exported.path))
    loader = dict(loader, num_workers=0, persistent_workers=False)
    model = ExportedModel(ExportedRuntime(exported, cfg))
    with scope_of(task_of(cfg)), _quiet():
        try:
            data = Runner.build_dataloader(loader)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"the validation data cannot be read: {error}") from error
        metric = Evaluator(evaluator)
        metric.dataset_meta = data.dataset.metainfo
        for batch in data:
            metric.process(model.test_step(batch), batch)
        return metric.evaluate(len(data.dataset))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what data sets and metrics tell the console: the figures are returned."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(max(level, logging.WARNING))
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


def _filled(sample: Any, found: Prediction) -> Any:
    if found.label_map is not None:
        labels = torch.from_numpy(found.label_map.astype("int64"))[None]
        sample.pred_sem_seg = PixelData(data=labels)
        return sample
    objects = InstanceData(
        bboxes=torch.from_numpy(found.boxes),
        scores=torch.from_numpy(found.scores),
        labels=torch.from_numpy(found.labels),
    )
    if found.masks is not None:
        masks = [torch.from_numpy(decode(rle)) for rle in found.masks]
        objects.masks = torch.stack(masks) if masks else torch.zeros(0, *found.size).bool()
    sample.pred_instances = objects
    return sample
