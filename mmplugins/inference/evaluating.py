"""The metric of an exported file, by the data and evaluators of its config."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.structures import InstanceData, PixelData

from mmplugins.deployment.runtime import load_exported
from mmplugins.engine import build_runner

from .exported import ExportedRuntime
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


def test_exported(
    cfg: Config, path: str, precision: str = "float32"
) -> tuple[Runner, dict[str, float]]:
    """Test an exported file as :func:`mmplugins.engine.test` tests a checkpoint.

    Args:
        cfg: A config with test data and evaluator.
        path: The exported file.
        precision: As in :func:`.load_exported`.
    """
    exported = load_exported(path, precision=precision)
    runner = build_runner(Config(dict(cfg, resume=False, load_from=None)))
    runner._train_loop = None  # as in testing a checkpoint
    runner.model = ExportedModel(ExportedRuntime(exported, cfg))
    return runner, runner.test()


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
