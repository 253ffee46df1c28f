"""A trained model with all that prediction needs, and the two ways it may be run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import DefaultScope
from torch import nn

from mmplugins.checkpoint import CheckpointError
from mmplugins.utils import did_you_mean, line_of

from .inputs import InputError, read_picture
from .instance_masks import masks_as_runs
from .results import Prediction, encode

Packed = dict[str, Any]
"""A picture after the test pipeline: ``inputs`` ``[3, h, w]`` and ``data_samples``."""

LOADERS = ("LoadImageFromFile", "LoadImageFromNDArray", "InferencerLoader")


class Runtime(Protocol):
    """What runs the network: it takes pictures of one size after the test pipeline."""

    def __call__(self, batch: Sequence[Packed]) -> list[Prediction]:
        """Predict on a batch."""


@dataclass
class LoadedModel:
    """A model, its test pipeline and its classes.

    Attributes:
        name: The file it was loaded from.
        config: Its config, of which the test pipeline is used.
        task: ``'detection'`` or ``'segmentation'``.
        classes: Names of the classes; empty if the file does not know them.
        palette: A colour (RGB, 0..255) for each class, or empty.
        runtime: What computes.
    """

    name: str
    config: Config
    task: str
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    runtime: Runtime
    _steps: Callable[[dict], Packed] = field(init=False, repr=False)
    _loader: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        steps = [dict(step) for step in pipeline_of(self.config)]
        kinds = [_bare(step["type"]) for step in steps]
        loader = next((k for k, kind in enumerate(kinds) if kind in LOADERS), None)
        if loader is None or not kinds[-1].startswith("Pack"):
            raise InputError(
                f"the test pipeline of {self.name} is {', '.join(kinds)}: expected one that loads "
                "pictures first and packs them last (PackDetInputs, PackSegInputs)"
            )
        self._loader = steps[loader]
        kept = [
            step
            for k, step in enumerate(steps)
            if k != loader and "Annotation" not in kinds[k] and "Proposals" not in kinds[k]
        ]
        with scope_of(self.task):
            try:
                self._steps = Compose(kept)
            except CheckpointError:
                raise
            except Exception as error:  # user code may raise anything
                raise InputError(
                    f"the test pipeline of {self.name} cannot be built: {line_of(error)}"
                ) from error

    @property
    def network(self) -> nn.Module:
        """The model as PyTorch has it, in eval mode.

        Raises:
            InputError: If it is an exported file.
        """
        if not isinstance(self.runtime, TorchRuntime):
            raise InputError(f"{self.name} is exported already: expected a config and checkpoint")
        return self.runtime.model

    def read(self, path: str) -> np.ndarray:
        """Read a picture with the decoder that the config names."""
        return read_picture(
            path,
            self._loader.get("color_type", "color"),
            self._loader.get("imdecode_backend") or "cv2",
        )

    def prepare(self, pixels: np.ndarray, name: str = "") -> Packed:
        """Run a picture through the test pipeline.

        Args:
            pixels: ``uint8[H, W, 3]`` in BGR.
            name: What it is called.

        Raises:
            InputError: If the pipeline fails on it.
        """
        side = pixels.shape[:2]
        if self._loader.get("to_float32"):
            pixels = pixels.astype(np.float32)
        given = dict(img=pixels, img_path=name, img_id=0, img_shape=side, ori_shape=side)
        try:
            packed = self._steps(dict(given, height=side[0], width=side[1]))
        except Exception as error:  # user code may raise anything
            raise InputError(
                f"{name} of {side[1]}x{side[0]} pixels does not pass the test pipeline, "
                f"{type(error).__name__}: {line_of(error)}"
            ) from error
        if packed is None:
            raise InputError(f"{name} of {side[1]}x{side[0]} pixels: the test pipeline drops it")
        return packed

    def run(self, batch: Sequence[Packed]) -> list[Prediction]:
        """Predict on pictures of one size after the pipeline; results are in their own pixels."""
        with scope_of(self.task):
            return self.runtime(batch)

    def labels_of(self, names: Sequence[str]) -> list[int]:
        """Indices of classes, given by name or by index.

        Raises:
            InputError: If there is no such class.
        """
        labels = []
        for name in names:
            if name in self.classes:
                labels.append(self.classes.index(name))
            elif str(name).isdecimal() and int(name) < max(len(self.classes), 1):
                labels.append(int(name))
            else:
                known = ", ".join(self.classes) or "none by name"
                raise InputError(
                    f"class {name!r} is none of {self.name}: it has {known}."
                    f"{did_you_mean(name, self.classes)}"
                )
        return labels


def scope_of(task: str) -> AbstractContextManager:
    """mmdet or mmseg as OpenMMLab's default scope, for the length of a block."""
    scope = "mmseg" if task == "segmentation" else "mmdet"
    return DefaultScope.overwrite_default_scope(scope)


def pipeline_of(cfg: Config) -> Sequence[Mapping[str, Any]]:
    """The transforms of the test data.

    Raises:
        InputError: If the config has none.
    """
    for entry in ("test_dataloader", "val_dataloader"):
        dataset = (cfg.get(entry) or {}).get("dataset")
        while isinstance(dataset, Mapping):
            if dataset.get("pipeline"):
                return dataset["pipeline"]
            several = dataset.get("datasets")
            dataset = several[0] if several else dataset.get("dataset")
    raise InputError(
        "the config has no test_dataloader.dataset.pipeline, by which pictures are prepared: give "
        "it one, as in configs/_base_/datasets"
    )


class TorchRuntime:
    """A model of mmdet or mmseg, run by itself.

    Args:
        model: In eval mode, on its device.
    """

    def __init__(self, model: nn.Module):
        self.model = model

    @torch.no_grad()
    def __call__(self, batch: Sequence[Packed]) -> list[Prediction]:
        """Predict on a batch, as ``model.test_step`` does."""
        with masks_as_runs(self.model):
            found = self.model.test_step(pseudo_collate(list(batch)))
        return [prediction_of(sample) for sample in found]


def prediction_of(sample: Any) -> Prediction:
    """What a data sample of mmdet or mmseg holds.

    Raises:
        InputError: If that is neither boxes nor a map of classes.
    """
    source, size = str(sample.get("img_path", "")), tuple(sample.ori_shape[:2])
    if "pred_sem_seg" in sample:
        labels = sample.pred_sem_seg.data[0].cpu().numpy()
        return Prediction(source, size, label_map=compact(labels))
    if "pred_instances" not in sample:
        raise InputError(
            f"the model puts out {', '.join(sample.keys())}: expected boxes (pred_instances) or a "
            "map of classes (pred_sem_seg)"
        )
    found = sample.pred_instances.cpu()
    masks = found.get("masks")
    if isinstance(masks, torch.Tensor):
        masks = encode(masks.numpy().reshape(-1, *size))
    return Prediction(
        source,
        size,
        found.bboxes.numpy().astype(np.float32).reshape(-1, 4),
        found.scores.numpy().astype(np.float32),
        found.labels.numpy().astype(np.int64),
        masks=masks,
    )


def compact(labels: np.ndarray) -> np.ndarray:
    """Classes of pixels in the smallest type that a PNG holds."""
    return labels.astype(np.uint8 if labels.size == 0 or labels.max() < 256 else np.uint16)


def _bare(kind: Any) -> str:
    return (kind if isinstance(kind, str) else kind.__name__).rpartition(".")[2]
