"""Exported files as functions from pictures to arrays, whatever runs them."""

from __future__ import annotations

import inspect
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmplugins.utils import line_of

from .errors import ExportError, require
from .exporting import KEY

Arrays = dict[str, np.ndarray]

PRECISIONS = ("float32", "bf16")
"""In which OpenVINO may compute."""


@dataclass(frozen=True)
class Exported:
    """An exported file, ready to run.

    Attributes:
        path: The file.
        description: What :func:`.describe` put into it.
        run: From ``float32[N, 3, H, W]``, 0..255, to the outputs by name.
    """

    path: Path
    description: dict[str, Any]
    run: Callable[[np.ndarray], Arrays]

    def __call__(self, images: np.ndarray) -> Arrays:
        """Run on pictures."""
        return self.run(np.ascontiguousarray(images, np.float32))


def load_exported(
    path: str | Path,
    *,
    threads: int | None = None,
    precision: str = "float32",
    device: str | None = None,
    trust: bool = False,
) -> Exported:
    """Load a file that :func:`.export_model` wrote.

    Args:
        path: ``.onnx`` for onnxruntime, ``.xml`` for OpenVINO, ``.pt2`` for torch.
        threads: Of the processor; the runtime's own choice by default.
        precision: ``'float32'``, or for OpenVINO ``'bf16'`` on processors that compute in it.
        device: ``'cpu'``; for onnxruntime also ``'cuda:0'`` where its GPU package is installed.
        trust: Believe the file as your own code, which ``.pt2`` needs: torch unpickles parts of it.

    Raises:
        ExportError: If the file is somebody else's or needs trust, the runtime is not installed, or
            it fails.
        FileNotFoundError: If there is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: expected an exported file")
    if precision not in PRECISIONS:
        raise ExportError(f"precision={precision!r}: expected one of {', '.join(PRECISIONS)}")
    if precision != "float32" and path.suffix != ".xml":
        raise ExportError(f"precision={precision!r} for {path.name}: only OpenVINO has it (.xml)")
    load = {".onnx": _onnxruntime, ".xml": _openvino, ".pt2": _torch}.get(path.suffix)
    if load is None:
        raise ExportError(f"{path.name} is no exported file: expected .onnx, .xml or .pt2")
    if load is _torch and not trust:
        raise ExportError(
            f"{path} is read by torch.export, which runs pickles in it: if you trust the file as "
            "your own code, add --trust (trust=True)"
        )
    return load(path, threads, precision, device)


def _onnxruntime(path: Path, threads: int | None, precision: str, device: str | None) -> Exported:
    require("export", "onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    wanted = (
        "CUDAExecutionProvider" if (device or "").startswith("cuda") else "CPUExecutionProvider"
    )
    if wanted not in onnxruntime.get_available_providers():
        raise ExportError(
            f"device={device!r}: this onnxruntime has "
            f"{', '.join(onnxruntime.get_available_providers())}"
        )
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=[wanted])
    except Exception as error:  # onnxruntime's errors have no common base but this
        raise ExportError(f"{path} cannot be loaded by onnxruntime: {line_of(error)}") from error
    description = _described(session.get_modelmeta().custom_metadata_map.get(KEY), path)
    names = [output.name for output in session.get_outputs()]

    def run(images: np.ndarray) -> Arrays:
        try:
            found = session.run(None, {"images": images})
        except Exception as error:
            raise ExportError(f"{path.name} fails in onnxruntime: {line_of(error)}") from error
        return dict(zip(names, found, strict=True))

    return Exported(path, description, run)


def _openvino(path: Path, threads: int | None, precision: str, device: str | None) -> Exported:
    require("openvino", "openvino")
    import openvino

    core = openvino.Core()
    with path.open("rb") as file:
        if b"<net" not in file.read(1024):
            raise ExportError(f"{path} is no model of OpenVINO: expected XML that begins with <net")
    if not path.with_suffix(".bin").is_file():
        raise ExportError(f"{path} has no weights: {path.with_suffix('.bin')} belongs beside it")
    try:
        model = core.read_model(path)
    except RuntimeError as error:
        raise ExportError(f"{path} cannot be read by OpenVINO: {line_of(error, -1)}") from error
    text = model.get_rt_info([KEY]).astype(str) if model.has_rt_info([KEY]) else None
    description = _described(text, path)
    names = description["outputs"]
    config: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": {"float32": "f32"}.get(precision, precision)
    }
    if threads is not None:
        config["INFERENCE_NUM_THREADS"] = threads
    compiled = core.compile_model(model, "CPU", config)

    def run(images: np.ndarray) -> Arrays:
        try:
            found = compiled(images)
        except RuntimeError as error:
            raise ExportError(f"{path.name} fails in OpenVINO: {line_of(error, -1)}") from error
        return {name: np.asarray(found[k]) for k, name in enumerate(names)}

    return Exported(path, description, run)


def _torch(path: Path, threads: int | None, precision: str, device: str | None) -> Exported:
    import torch

    from . import operators  # noqa: F401 - registers what the program calls

    text = None
    try:
        with zipfile.ZipFile(path) as archive:
            name = next((n for n in archive.namelist() if n.endswith(f"{KEY}.json")), None)
            text = archive.read(name).decode() if name else None
        description = _described(text, path)
        loaded = torch.export.load(io.BytesIO(path.read_bytes()))
        # Its guards refuse small pictures, of which a map has one row: that changes how the map
        # lies in memory, but no result. Before torch 2.9 there were none.
        guarded = "check_guards" in inspect.signature(loaded.module).parameters
        program = loaded.module(check_guards=False) if guarded else loaded.module()
    except (OSError, RuntimeError, zipfile.BadZipFile) as error:
        raise ExportError(f"{path} cannot be loaded by torch.export: {line_of(error)}") from error
    if threads is not None:
        torch.set_num_threads(threads)

    def run(images: np.ndarray) -> Arrays:
        with torch.no_grad():
            found = program(torch.from_numpy(images))
        return {k: v.numpy() for k, v in zip(description["outputs"], found, strict=True)}

    return Exported(path, description, run)


def _described(text: str | None, path: Path) -> dict[str, Any]:
    try:
        description = json.loads(text or "")
        if {"task", "classes", "outputs", "kind", "config"} <= set(description):
            return description
    except (TypeError, ValueError):
        pass
    raise ExportError(
        f"{path} was not written by tools/export.py: it does not say what it puts out, nor its "
        "classes and its test pipeline. Export the model with it"
    )
