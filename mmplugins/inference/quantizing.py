"""INT8 from a verified file: calibrated on training pictures, by the config's own test pipeline."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.registry import DATASETS

from mmplugins.checkpoint.config_text import check_harmless
from mmplugins.deployment.quantizing import quantize_file
from mmplugins.deployment.runtime import load_exported
from mmplugins.deployment.verification import Differences, compare
from mmplugins.utils import line_of, type_name

from .exported import images_of
from .exporting import batches_of, check_target, named_at_the_end, pictures_of
from .inputs import InputError, find_inputs
from .model import LoadedModel, scope_of


def export_quantized(
    model: LoadedModel,
    source: Path,
    path: Path,
    calibration: Sequence[str],
    *,
    pictures: Sequence[str] = (),
    overwrite: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> Differences:
    """Quantise a verified file of OpenVINO to int8, and say how much the results move.

    Args:
        model: Of which the file was made, for its test pipeline.
        source: The ``.xml`` in float32.
        path: The ``.xml`` in int8.
        calibration: Pictures to take the ranges of activations from, see :func:`training_pictures`.
        pictures: Files to compare on; those of the config's test data by default.
        overwrite: Whether an existing file may be replaced.
        tell: Takes lines on what is done and found.

    Returns:
        The largest differences from the float file. No bound is set on them: the metric says
        whether they matter.

    Raises:
        ExportError: If NNCF is not installed, or fails.
        InputError: If a picture cannot be read, or the file exists.
    """
    check_target(path, "openvino", overwrite)
    names = [one.name for one in find_inputs(list(calibration))]

    def read(name: str) -> np.ndarray:
        return images_of([model.prepare(model.read(name), name)])

    with named_at_the_end(path) as aside:
        tell(f"Quantising on {len(names)} pictures; this takes minutes")
        quantize_file(source, aside, names, read)
        before, after = load_exported(source), load_exported(aside)
        total = Differences()
        for images in batches_of(model, pictures or pictures_of(model)):
            total |= compare(after(images), before(images))
    return total


def training_pictures(model: LoadedModel, count: int, trust: bool = False) -> list[str]:
    """Pictures of the config's training data, evenly spread.

    Args:
        model: Whose config it is.
        count: How many at most.
        trust: Whether the config is the user's own and may build what it names.

    Raises:
        CheckpointError: If the config is not trusted and names what is not registered.
        InputError: If there is no training data.
    """
    if count < 1:
        raise InputError(f"--calibration {count}: expected 1 picture or more; 300 are usual")
    settings = (model.config.get("train_dataloader") or {}).get("dataset")
    if not settings:
        raise InputError(
            f"the config of {model.name} has no train_dataloader to calibrate on: give pictures "
            "like those of the training with --calibration-pictures"
        )
    while type_name(settings) == "MultiImageMixDataset":  # whose pictures are those of the inner
        settings = settings["dataset"]
    if not trust:
        check_harmless(dict(dataset=settings), model.name)
    try:
        with scope_of(model.task), contextlib.redirect_stdout(io.StringIO()):  # pycocotools talks
            dataset: Any = DATASETS.build(settings)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"the training data cannot be read, {line_of(error)}: put them where the config looks, "
            "or give pictures like them with --calibration-pictures"
        ) from error
    if not len(dataset):
        raise InputError("the training data are empty: give --calibration-pictures")
    chosen = np.linspace(0, len(dataset) - 1, min(count, len(dataset))).astype(int)
    return [str(dataset.get_data_info(int(k))["img_path"]) for k in chosen]
