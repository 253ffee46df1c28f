"""Small models that stand for rows, and a machine whose clock only work moves."""

from __future__ import annotations

import random

import pytest
from torch import nn

from mmplugins.benchmark.stopwatch import Stopwatch


class Small(nn.Module):
    """A backbone of two convolutions; `extra` is planted work, in shares of the first."""

    def __init__(self, extra: float = 0.0, machine=None):
        super().__init__()
        self.extra, self.machine = extra, machine
        self.stem = nn.Conv2d(3, 8, 4, 4)
        self.body = nn.Conv2d(8, 8, 1)

    def forward(self, x):
        if self.machine is not None:
            self.machine.work(x.numel() * (1 + self.extra))
        return (self.body(self.stem(x)),)


class Machine:
    """Seconds that pass by work alone, slowed by a drift and by noise, the same in each run."""

    def __init__(self, noise: float = 0.02):
        self.now, self.pace, self.noise = 0.0, 2e-4, noise
        self.random = random.Random(0)

    def read(self) -> float:
        """The time; reading it takes a little."""
        self.now += 0.01
        return self.now

    def work(self, amount: float) -> None:
        self.pace *= self.random.gauss(1, 0.02)
        self.now += self.pace * amount * self.random.gauss(1, self.noise)


@pytest.fixture
def machine():
    return Machine()


@pytest.fixture
def watch(machine):
    return Stopwatch(clock=machine.read)


@pytest.fixture
def small_models(monkeypatch, machine):
    """Rows by name: how much work is planted in each; a row `broken` cannot be built."""

    def build(row, overrides=None):
        if row.name == "broken":
            raise ValueError("no such thing")
        return Small(float(row.name.partition("+")[2] or 0), machine)

    monkeypatch.setattr("mmplugins.benchmark.subjects.build_model", build)
