"""Energy of inference, where the hardware tells it: NVIDIA's driver, or Intel's RAPL on Linux.

A counter of joules is read before and after a second or more of passes. It counts the whole GPU or
the whole processor package, other programs and idle power included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from .stopwatch import Stopwatch

RAPL = Path("/sys/class/powercap")
SECONDS = 1.0
"""Shortest measurement; counters move once in some milliseconds."""


def find_meter(device: str | torch.device) -> tuple[str, Callable[[], float]] | None:
    """The counter of a device: its name, and a function that reads joules; None if there is none.

    Args:
        device: ``'cpu'`` or ``'cuda'``.
    """
    device = torch.device(device)
    return _nvml(device) if device.type == "cuda" else _rapl()


def _nvml(device: torch.device) -> tuple[str, Callable[[], float]] | None:
    try:
        import pynvml

        pynvml.nvmlInit()
        name = str(torch.cuda.get_device_properties(device).uuid)
        handle = pynvml.nvmlDeviceGetHandleByUUID(name if name.startswith("GPU") else f"GPU-{name}")
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except Exception:  # not installed, no driver, a card that does not tell
        return None
    return "NVML", lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000


def _rapl() -> tuple[str, Callable[[], float]] | None:
    counters = []
    for zone in sorted(RAPL.glob("intel-rapl:[0-9]*")):
        if zone.name.count(":") == 1:  # whole packages, not what they consist of
            try:
                most = int((zone / "max_energy_range_uj").read_text())
                int((zone / "energy_uj").read_text())
            except (OSError, ValueError):  # readable by root only on most systems
                return None
            counters.append(_Counter(zone / "energy_uj", most))
    return ("RAPL", lambda: sum(counter.read() for counter in counters)) if counters else None


class _Counter:
    """Joules that only grow, from a file of microjoules that at times starts again at zero."""

    def __init__(self, file: Path, most: int):
        self.file, self.most = file, most
        self.before, self.turns = int(file.read_text()), 0

    def read(self) -> float:
        now = int(self.file.read_text())
        self.turns += now < self.before
        self.before = now
        return (now + self.turns * self.most) / 1e6


def measure_energy(
    run: Callable[[], Any],
    meter: tuple[str, Callable[[], float]],
    watch: Stopwatch,
) -> Mapping[str, Any]:
    """Joules of one pass.

    Args:
        run: One pass.
        meter: Of :func:`find_meter`.
        watch: Of the device that it runs on.

    Returns:
        ``joules`` per pass, ``watts``, ``source``, ``passes``.
    """
    name, joules = meter
    run()
    watch.wait()
    passes, began, before = 0, watch.clock(), joules()
    while watch.clock() - began < SECONDS:
        run()
        watch.wait()
        passes += 1
    spent, lasted = joules() - before, watch.clock() - began
    return dict(joules=spent / passes, watts=spent / lasted, source=name, passes=passes)
