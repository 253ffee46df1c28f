"""Export with proof: the file gets its name when it finds what the model finds."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from mmplugins.checkpoint.config_text import innermost
from mmplugins.deployment import reparameterize
from mmplugins.deployment.exporting import FORMATS, describe, export_model
from mmplugins.deployment.graphs import OUTPUTS, graph_of
from mmplugins.deployment.runtime import load_exported
from mmplugins.deployment.verification import Differences, check, compare
from mmplugins.utils import check_writable, written_aside

from .exported import images_of
from .inputs import InputError, find_inputs
from .model import LoadedModel

SHRUNK = 0.7
"""Factor of the second size at which a file is verified."""


def export_verified(
    model: LoadedModel,
    path: str | os.PathLike,
    format: str = "onnx",
    *,
    pictures: Sequence[str] = (),
    overwrite: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> Differences:
    """Export a model, and compare the file with it before it gets its name.

    The model is re-parameterised for the file; what it is compared with is the model as it was. The
    pictures run at the size of the test pipeline and smaller, alone and as a batch.

    Args:
        model: From :func:`load_model`, on the CPU.
        path: The file.
        format: ``'onnx'``, ``'openvino'`` or ``'torch-export'``.
        pictures: Files to compare on; those of the config's test data by default.
        overwrite: Whether an existing file may be replaced.
        tell: Takes lines on what is done and found.

    Returns:
        The largest differences.

    Raises:
        ExportError: If the model cannot be exported, or the file does not compute the same; then
            there is no file.
        InputError: If there are no pictures, the file exists, or the model is an exported one.
    """
    path = Path(path)
    check_target(path, format, overwrite)
    trained = model.network
    batches = batches_of(model, pictures or pictures_of(model))
    folded = reparameterize(copy.deepcopy(trained).eval())
    description = describe(
        model.config.pretty_text,
        model.task,
        model.classes,
        model.palette,
        trained.data_preprocessor,
    )
    with named_at_the_end(path) as aside:
        tell(f"Tracing and writing {format}; this takes minutes for large models")
        export_model(folded, aside, description, format)
        return verify(trained, aside, batches, tell)


def check_target(path: Path, format: str, overwrite: bool) -> None:
    """Make sure, before minutes of work, that a file may have its name.

    Raises:
        InputError: If the suffix is not the format's, or it exists and ``overwrite`` is False.
        WriteError: If nothing can be written there.
    """
    if path.suffix != FORMATS.get(format):
        raise InputError(f"{path} for format {format!r}: expected a name in {FORMATS.get(format)}")
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists: give another --out, or --overwrite")
    check_writable(path.parent)


def verify(
    trained: nn.Module,
    file: Path,
    batches: Sequence[np.ndarray],
    tell: Callable[[str], None],
) -> Differences:
    """Compare a file with a model on pictures ``float32[N, 3, H, W]``.

    Raises:
        ExportError: If they differ by more than :data:`.BOUNDS`.
    """
    graph = graph_of(copy.deepcopy(trained))
    exported = load_exported(file, trust=True)  # just written
    total = Differences()
    for images in batches:
        with torch.no_grad():
            outputs = graph(torch.from_numpy(images))
        names = OUTPUTS[graph.kind]
        expected = {k: v.numpy() for k, v in zip(names, outputs, strict=True)}
        found = compare(exported(images), expected)
        number, _, height, width = images.shape
        tell(f"{number} of {width}x{height}: {found}")
        total |= found
    check(total, f"the {file.suffix} file")
    return total


def batches_of(model: LoadedModel, names: Sequence[str]) -> list[np.ndarray]:
    """Pictures at two sizes, and a batch of two of the second."""
    batches = []
    for source in find_inputs(list(names)):
        images = images_of([model.prepare(model.read(source.name), source.name)])
        batches.append(images)
        size = [max(32, round(side * SHRUNK)) for side in images.shape[2:]]
        small = F.interpolate(torch.from_numpy(images), size, mode="bilinear", antialias=True)
        small = small.round().numpy()
        batches.append(np.concatenate([small, small[..., ::-1]]))
    return [np.ascontiguousarray(images) for images in batches]


def pictures_of(model: LoadedModel, count: int = 4) -> list[str]:
    """Some pictures of the config's test data, evenly spread.

    Raises:
        InputError: If their folder is not there.
    """
    dataset = innermost((model.config.get("test_dataloader") or {}).get("dataset")) or {}
    prefix = dataset.get("data_prefix") or {}
    named = [dataset.get("data_root"), prefix.get("img") or prefix.get("img_path")]
    try:
        if not any(named):
            raise InputError("the config names no folder of test data")
        folder = Path(*filter(None, named))
        found = [source.name for source in find_inputs(folder) if not source.is_video]
    except InputError as error:
        raise InputError(
            f"no pictures to verify the export on, {error}: give some with --pictures"
        ) from error
    return [found[k] for k in np.linspace(0, len(found) - 1, min(count, len(found))).astype(int)]


@contextmanager
def named_at_the_end(path: Path) -> Iterator[Path]:
    """Write a file that gets its name after the block; nothing of it is left if that fails.

    Of OpenVINO's pair, the weights get their name first.

    Yields:
        Where to write to.
    """
    aside = path.with_name(f".{path.stem}.unverified{path.suffix}")
    pairs = ((aside.with_suffix(".bin"), path.with_suffix(".bin")), (aside, path))
    try:
        yield aside
        for source, target in pairs:
            if source.exists():
                with written_aside(target) as place:
                    os.replace(source, place)
    finally:
        for source, _ in pairs:
            source.unlink(missing_ok=True)
