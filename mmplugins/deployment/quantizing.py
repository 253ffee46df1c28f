"""INT8 for processors: a file of OpenVINO quantised by NNCF, which does the work.

NNCF puts quantisers before convolutions and matrix products, with ranges from what the calibration
pictures give. The last layer of each head, decoding and suppression stay in float: a box moves by
whole pixels where the last digits of its deltas are gone.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from mmplugins.compat.patches.patch import replaced
from mmplugins.utils import line_of

from .errors import ExportError, require
from .exporting import KEY, save_openvino

_LAYERS = ("Convolution", "GroupConvolution", "MatMul")

_MIXES = ("Add", "Concat", "Divide", "Maximum", "Minimum", "Multiply", "Select", "Subtract")
"""Operators whose inputs all are values; of others only the first is, the rest say where or how."""

_SELECTS = ("GatherElements", "NonMaxSuppression", "ScatterNDUpdate", "ShapeOf", "TopK")
"""Operators that read a layer's output as boxes, scores or a size, and no more as features."""


def quantize_file(
    source: Path,
    target: Path,
    pictures: Sequence[Any],
    read: Callable[[Any], np.ndarray] = lambda picture: picture,
) -> Path:
    """Quantise a file of OpenVINO into another.

    Args:
        source: The ``.xml`` in float, of :func:`.export_model`; it stays.
        target: The ``.xml`` in int8; its ``.bin`` comes beside it.
        pictures: What to calibrate on.
        read: Makes ``float32[N, 3, H, W]`` of one, as the file takes it; by default it is that.

    Returns:
        ``target``.

    Raises:
        ExportError: If NNCF is not installed, or fails.
        WriteError: If the file cannot be written.
    """
    require("int8", "nncf", "openvino")
    if not pictures:
        raise ExportError("no pictures to calibrate on: expected some of the training set")
    import openvino

    model = openvino.Core().read_model(source)
    description = json.loads(model.get_rt_info([KEY]).astype(str))
    attends = any(op.get_type_name() == "Softmax" for op in _leading(model))
    with _quiet() as nncf:
        try:
            quantized = nncf.quantize(
                model,
                nncf.Dataset(pictures, read),
                preset=nncf.QuantizationPreset.MIXED,  # activations here reach below zero
                subset_size=len(pictures),
                model_type=nncf.ModelType.TRANSFORMER if attends else None,
                ignored_scope=nncf.IgnoredScope(names=sensitive(model)),
            )
        except Exception as error:  # of NNCF and of OpenVINO, without a common base
            raise ExportError(f"NNCF cannot quantise the model: {line_of(error)}") from error
    return save_openvino(quantized, target, json.dumps({**description, "precision": "int8"}))


def sensitive(model: Any) -> list[str]:
    """Names of the operators of a model of OpenVINO that stay in float.

    Those from whose output no further layer reads features: the last layers of the heads, and all
    that decodes, selects and suppresses after them.
    """
    leading = {op.get_friendly_name() for op in _leading(model)}
    kept = ("Parameter", "Constant", "Result")
    return [
        op.get_friendly_name()
        for op in model.get_ordered_ops()
        if op.get_type_name() not in kept and op.get_friendly_name() not in leading
    ]


def _leading(model: Any) -> list[Any]:
    """Operators from whose output a further layer computes features."""
    found: dict[str, Any] = {}
    for op in reversed(model.get_ordered_ops()):
        readers = [target for output in op.outputs() for target in output.get_target_inputs()]
        if any(_takes_features(r.get_node(), r.get_index(), found) for r in readers):
            found[op.get_friendly_name()] = op
    return list(found.values())


def _takes_features(reader: Any, place: int, leading: Mapping[str, Any]) -> bool:
    kind = reader.get_type_name()
    if kind in _LAYERS:
        return True
    passes = kind not in _SELECTS and (place == 0 or kind in _MIXES)
    return passes and reader.get_friendly_name() in leading


@contextmanager
def _quiet() -> Iterator[ModuleType]:
    """NNCF without talk of its own steps, and without telling its makers of them."""
    loggers = {name: logging.getLogger(name) for name in ("nncf", "torch.utils.cpp_extension")}
    levels = {name: logger.level for name, logger in loggers.items()}
    loggers["torch.utils.cpp_extension"].setLevel(logging.ERROR)
    import nncf
    from nncf.telemetry import decorator
    from nncf.telemetry.wrapper import NNCFTelemetryStub

    loggers["nncf"].setLevel(logging.ERROR)  # which its import sets
    try:
        with replaced(decorator, "telemetry", NNCFTelemetryStub()):
            yield nncf
    finally:
        for name, logger in loggers.items():
            logger.setLevel(levels[name])
