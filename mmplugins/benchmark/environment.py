"""On what, with which versions and when something was measured.

:mod:`torch.utils.collect_env` describes a machine as text for people, with commands that take some
seconds, and goes into what is published (:mod:`.publish`). Here are the plain data by which two
environments are compared.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from mmplugins.version import __version__

PACKAGES = (
    "torch", "torchvision", "timm", "numpy", "mmengine", "mmcv-lite", "mmcv", "mmdet",
    "mmsegmentation", "mmpretrain", "onedl-mmengine", "onedl-mmcv", "onedl-mmdetection",
    "onedl-mmsegmentation", "onedl-mmpretrain", "triton",
)  # fmt: skip
"""Packages whose versions matter."""


def describe_environment(device: str | torch.device) -> dict[str, Any]:
    """Describe the machine, the versions and the moment.

    Args:
        device: Where the rows run.

    Returns:
        Plain data: ``processor``, ``cores`` (those this program may use), ``threads``,
        ``memory_gib``, ``device``, ``gpu`` (None on a CPU), ``cuda``, ``system``, ``python``,
        ``mmplugins``, ``packages``, ``date`` (UTC, to the second).

    Raises:
        ValueError: If there is no such device here, or nothing can be timed on it.
    """
    device = checked_device(device)
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return dict(
        processor=processor_name(),
        cores=usable_cores(),
        threads=torch.get_num_threads(),
        memory_gib=_memory_gib(),
        device=device.type,
        gpu=gpu,
        cuda=torch.version.cuda if gpu else None,
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        mmplugins=__version__,
        packages=_versions(),
        date=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S"),
    )


def checked_device(device: str | torch.device) -> torch.device:
    """The device, if it is one that :class:`.stopwatch.Stopwatch` can time and that is there.

    Raises:
        ValueError: If it is not.
    """
    try:
        found = torch.device(device)
    except RuntimeError:
        found = None
    if found is None or found.type not in ("cpu", "cuda"):
        raise ValueError(f"device {str(device)!r}: expected 'cpu', 'cuda' or 'cuda:1'")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device {str(device)!r}: torch {torch.__version__} finds {torch.cuda.device_count()} "
            "GPUs here; use another device, such as 'cpu', or a PyTorch made for the GPU"
        )
    return found


def differences(environment: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """What differs between two environments apart from the date, one line each."""
    return [
        f"{key}: {environment.get(key)!r}, now {other.get(key)!r}"
        for key in sorted({*environment, *other} - {"date"})
        if environment.get(key) != other.get(key)
    ]


def summary(environment: dict[str, Any]) -> str:
    """One line: machine, threads, version of torch, day."""
    where = environment["gpu"] or f"{environment['processor']}, {environment['threads']} threads"
    return f"{where}, torch {environment['packages'].get('torch', '?')}, {environment['date'][:10]}"


def processor_name() -> str:
    """Name of the processor as its maker writes it."""
    table = Path("/proc/cpuinfo")
    if table.is_file():
        for line in table.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """Logical cores that this program may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_gib() -> float | None:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
