"""Time between marks: the processor's clock, or events in the stream of a GPU."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


class Stopwatch:
    """Measures laps on a device.

    On a CPU, work is over when a call returns, and a clock is read at each mark. A GPU works on
    while Python runs ahead; there, marks are events in its stream, read after the last one.

    Args:
        device: Where the work is done.
        clock: What tells the seconds on a CPU. Defaults to ``time.perf_counter``.
    """

    def __init__(
        self,
        device: str | torch.device = "cpu",
        clock: Callable[[], float] = time.perf_counter,
    ):
        self.device = torch.device(device)
        self.clock = clock
        self.marks: list[tuple[str, Any]] = []

    def wait(self) -> None:
        """Wait until the device is idle."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def start(self) -> None:
        """Begin, when the device is idle."""
        self.wait()
        self.marks = []
        self.lap("")

    def lap(self, name: str) -> None:
        """End a lap of this name; what comes next belongs to the next one."""
        if self.device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record(torch.cuda.current_stream(self.device))
            self.marks.append((name, event))
        else:
            self.marks.append((name, self.clock()))

    def stop(self) -> dict[str, float]:
        """Seconds by lap since :meth:`start`; laps of the same name are added."""
        self.wait()
        seconds: dict[str, float] = {}
        for (_, before), (name, after) in zip(self.marks, self.marks[1:], strict=False):
            if self.device.type == "cuda":
                lap = before.elapsed_time(after) / 1000
            else:
                lap = after - before
            seconds[name] = seconds.get(name, 0.0) + lap
        return seconds


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keep Python's garbage collector from running inside."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
