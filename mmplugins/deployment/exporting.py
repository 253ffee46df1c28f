"""Whole models as files that run without PyTorch: ONNX, OpenVINO; and as torch's own programs.

The graph takes pictures of any size and number (height, width and batch stay open), normalises
them, and puts out results. In the file stand the classes, the colours, the config, and what wrote
it, so that :func:`mmplugins.load_model` needs nothing else.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmplugins.utils import line_of, write_whole, written_aside
from mmplugins.version import __version__

from .errors import ExportError
from .graphs import OUTPUTS, example, graph_of
from .operators import OPSET, translations

FORMATS = {"onnx": ".onnx", "openvino": ".xml", "torch-export": ".pt2"}
"""Suffixes of the files, by format."""

KEY = "mmplugins"
"""Under this name the description stands in a file."""

TRACED = (2, 320, 416)
"""Number, height and width of the pictures of the trace. No map may have a side of 1 there, which
would be taken for a constant."""

_PACKAGES = ("torch", "mmengine", "mmdet", "mmsegmentation", "onnx", "openvino")


def export_model(
    model: nn.Module, path: str | Path, description: Mapping[str, Any], format: str = "onnx"
) -> Path:
    """Write a model as a file of another runtime.

    Args:
        model: Detector or segmentor, in eval mode, on the CPU; re-parameterise it before. Modules
            that bake sizes in are replaced in it.
        path: The file, with the suffix of its format.
        description: Of :func:`describe`.
        format: ``'onnx'``, ``'openvino'`` (a ``.bin`` comes beside the ``.xml``) or
            ``'torch-export'``.

    Returns:
        The path.

    Raises:
        ExportError: If a part of the model cannot be exported; it is named.
        WriteError: If the file cannot be written.
    """
    graph = graph_of(model)
    about = {**description, "kind": graph.kind}
    return export_graph(graph, path, about, format, OUTPUTS[graph.kind])


def export_graph(
    graph: nn.Module,
    path: str | Path,
    description: Mapping[str, Any],
    format: str = "onnx",
    outputs: Sequence[str] = (),
) -> Path:
    """Write a module from pictures to tensors; arguments and errors as of :func:`export_model`.

    Args:
        graph: In eval mode, on the CPU.
        path: The file.
        description: What stands in it; it needs ``task``, ``classes``, ``kind`` and ``config``.
        format: Of :data:`FORMATS`.
        outputs: Names of the outputs; numbers by default.
    """
    path = Path(path)
    if FORMATS.get(format) != path.suffix:
        raise ExportError(f"{path.name} for format {format!r}: expected {FORMATS.get(format)}")
    if lack := lacking(format):
        raise ExportError(lack)
    program = program_of(graph)
    names = list(outputs) or [
        f"output_{k}" for k in range(len(program.graph_signature.user_outputs))
    ]
    text = json.dumps({**description, "outputs": names})
    if format == "torch-export":
        with written_aside(path) as aside, aside.open("wb") as file:
            torch.export.save(program, file, extra_files={f"{KEY}.json": text})
        return path
    proto = onnx_of(program, names)
    proto.metadata_props.add(key=KEY, value=text)
    if format == "onnx":
        return write_whole(path, proto.SerializeToString())
    return write_openvino(proto, path, text)


def lacking(format: str = "onnx") -> str | None:
    """What this environment lacks for a format, and the remedy; None if it lacks nothing."""
    if not hasattr(torch.export.Dim, "DYNAMIC"):
        return f"torch {torch.__version__} cannot trace open sizes: expected 2.6 or newer"
    needed = dict(onnx=["onnx", "onnxscript", "onnxruntime"], openvino=["onnx", "onnxscript"])
    absent = [n for n in needed.get(format, ()) if importlib.util.find_spec(n) is None]
    extra = "export"
    if format == "openvino" and importlib.util.find_spec("openvino") is None:
        absent, extra = [*absent, "openvino"], "export,openvino" if absent else "openvino"
    return f"{', '.join(absent)} not installed: pip install mmplugins[{extra}]" if absent else None


def program_of(graph: nn.Module) -> torch.export.ExportedProgram:
    """Trace a graph with open height, width and batch.

    Raises:
        ExportError: If the trace fails; the message says where.
    """
    number, *size = TRACED
    images = torch.cat([example(size, seed=k) for k in range(number)])
    open_sides = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.export(graph, (images,), dynamic_shapes=(open_sides,), strict=False)
    except Exception as error:  # whatever a part of the model does that a trace cannot follow
        raise ExportError(
            f"the model cannot be traced with open sizes, in {_where(error)}: "
            f"{type(error).__name__}: {line_of(error)}"
        ) from error


def onnx_of(program: torch.export.ExportedProgram, outputs: Sequence[str]) -> Any:
    """A traced program in ONNX's operators.

    Raises:
        ExportError: If an operator has no like there.
    """
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exported = torch.onnx.export(
                program,
                (),
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                custom_translation_table=translations(),
                input_names=["images"],
                output_names=list(outputs),
            )
    except Exception as error:
        reason = line_of(error.__cause__ or error)
        raise ExportError(f"the model has no form in ONNX: {reason}") from error
    finally:
        logger.setLevel(level)
    proto = exported.model_proto
    del proto.graph.value_info[:]  # inner shapes of the trace; runtimes infer their own
    return proto


def write_openvino(model: Any, path: Path, text: str) -> Path:
    """Write an ONNX model as OpenVINO's pair of files, the weights first.

    Raises:
        ExportError: If OpenVINO cannot read it.
    """
    import openvino

    try:
        converted = openvino.Core().read_model(model.SerializeToString(), b"")
    except RuntimeError as error:
        raise ExportError(f"OpenVINO does not take the model: {line_of(error, -1)}") from error
    return save_openvino(converted, path, text)


def save_openvino(converted: Any, path: Path, text: str) -> Path:
    """Write a model of OpenVINO with its description, float32 as it is."""
    import openvino

    converted.set_rt_info(text, [KEY])
    with written_aside(path) as aside, written_aside(path.with_suffix(".bin")) as weights:
        stem = aside.with_name(f".{path.stem}.export.xml")
        try:
            openvino.save_model(converted, stem, compress_to_fp16=False)
            stem.with_suffix(".bin").replace(weights)
            stem.replace(aside)
        finally:
            stem.unlink(missing_ok=True)
            stem.with_suffix(".bin").unlink(missing_ok=True)
    return path


def describe(
    config: str, task: str, classes: tuple[str, ...], palette: tuple, preprocessor: nn.Module
) -> dict[str, Any]:
    """What stands in the file beside the graph.

    Args:
        config: The text of the config.
        task: ``'detection'`` or ``'segmentation'``.
        classes: Their names.
        palette: Their colours.
        preprocessor: Of the model; its mean and deviation are inside of the graph already.
    """
    normalises = getattr(preprocessor, "_enable_normalize", False)
    return dict(
        task=task,
        classes=list(classes),
        palette=[list(colour) for colour in palette],
        mean=preprocessor.mean.flatten().tolist() if normalises else None,
        std=preprocessor.std.flatten().tolist() if normalises else None,
        input="float32[N, 3, H, W], 0..255, colours in the order that the config reads (BGR)",
        config=config,
        opset=OPSET,
        versions={"mmplugins": __version__, **_versions()},
    )


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        for distribution in (name, f"onedl-{name}"):
            try:
                found[name] = version(distribution)
                break
            except PackageNotFoundError:
                continue
    return found


def _where(error: BaseException) -> str:
    """Module and line of the model's own code in which a trace failed."""
    place = "torch.export"
    trace = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        owner = next(
            (n for n in ("mmplugins", "mmdet", "mmseg", "timm", "mmcv") if f"/{n}/" in file), ""
        )
        if owner and "exporting.py" not in file:
            place = f"{owner}/{file.rpartition(f'/{owner}/')[2]}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place
