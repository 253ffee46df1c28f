"""Latency of many tasks, measured in turns, so that the machine's drift falls on all alike.

A *task* is one thing to time: inference of a row at a size, a training step, a lower bound. In each
*round* every task is timed once; the order is random and the next round goes through it backwards,
so that no task always follows the same one and a drift within a pair of rounds cancels. Times of
two tasks are compared within rounds only (:mod:`.comparison`).

Before each sample one call runs untimed, as the task before has emptied the caches; a short task is
repeated within a sample until it lasts long enough for the clock.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import torch

from .memory import release
from .stopwatch import Stopwatch, undisturbed


@dataclass(frozen=True)
class Key:
    """What is timed.

    Attributes:
        row: Label of the row.
        what: ``'inference'``, ``'training'``, ``'lower_bound'``, ``'stages'``, ``'operations'`` or
            ``'operations of training'``.
        size: Height and width of the images.
        batch: Number of images.
    """

    row: str
    what: str
    size: tuple[int, int]
    batch: int


@dataclass
class Task:
    """Something to time.

    Attributes:
        key: What it is.
        run: Does it once, and marks the ends of its parts on the stopwatch.
        rewarm: Whether to run once untimed before each sample.
        repeats: Calls in one sample, see :func:`warm_up`.
        estimate: Seconds that one sample takes, the untimed call included.
    """

    key: Key
    run: Callable[[Stopwatch], None]
    rewarm: bool = True
    repeats: int = 1
    estimate: float = 0.0


@dataclass(frozen=True)
class Sample:
    """One timing: seconds per call, by part."""

    key: Key
    round: int
    seconds: dict[str, float] = field(hash=False)

    @property
    def total(self) -> float:
        """Seconds of all parts."""
        return sum(self.seconds.values())


@dataclass(frozen=True)
class Failure:
    """A task, or a whole row (``what='row'``), that could not be measured, and why."""

    key: Key
    reason: str


def measure(task: Task, watch: Stopwatch) -> dict[str, float]:
    """Take one sample: seconds per call, by part; laps without a name are left out."""
    if task.rewarm:
        task.run(watch)
    with undisturbed():
        watch.start()
        for _ in range(task.repeats):
            task.run(watch)
        laps = watch.stop()
    return {name: seconds / task.repeats for name, seconds in laps.items() if name}


def warm_up(
    tasks: Iterable[Task], watch: Stopwatch, calls: int = 3, min_seconds: float = 0.02
) -> Iterator[Task | Failure]:
    """Run each task a few times untimed, and set how often it repeats in a sample.

    Args:
        tasks: The tasks.
        watch: Stopwatch of their device.
        calls: Untimed calls.
        min_seconds: Shortest sample.

    Yields:
        Each task when it is ready, or its failure.
    """
    for task in tasks:
        try:
            task.repeats = 1
            for _ in range(calls):
                task.run(watch)
            watch.start()
            task.run(watch)
            once = sum(watch.stop().values())
            if task.rewarm:
                task.repeats = max(1, math.ceil(min_seconds / max(once, 1e-6)))
            task.estimate = once * (task.repeats + task.rewarm)
            yield task
        except Exception as error:
            yield Failure(task.key, reason_of(error))
            release(watch.device)


def turns(tasks: list[Task], round: int, seed: int = 0) -> list[Task]:
    """Order of the tasks in a round: random in even rounds, the same backwards in odd ones."""
    order = list(tasks)
    random.Random(f"{seed}/{round // 2}").shuffle(order)
    return order[::-1] if round % 2 else order


def interleave(
    tasks: list[Task],
    rounds: int,
    watch: Stopwatch,
    seed: int = 0,
    done: Callable[[Key, int], bool] = lambda key, round: False,
) -> Iterator[Sample | Failure]:
    """Time all tasks once in every round.

    Args:
        tasks: Warmed-up tasks.
        rounds: Number of rounds.
        watch: Stopwatch of their device.
        seed: For the orders.
        done: Whether a task has a sample of that round already.

    Yields:
        Each sample as it is taken; of a task that fails, the failure, after which the others go on
        without it.
    """
    failed: set[Key] = set()
    for round in range(rounds):
        for task in turns(tasks, round, seed):
            if task.key in failed or done(task.key, round):
                continue
            try:
                yield Sample(task.key, round, measure(task, watch))
            except Exception as error:
                failed.add(task.key)
                yield Failure(task.key, reason_of(error))
                release(watch.device)


def times_in_turns(
    calls: Mapping[str, Callable[[], object]],
    rounds: int = 25,
    device: str | torch.device = "cpu",
) -> dict[str, dict[int, float]]:
    """Seconds of a few calls by round, timed in turns as the rows of a benchmark are.

    Args:
        calls: What to time, by name.
        rounds: Samples of each.
        device: Where they run.
    """

    def task(name: str, call: Callable[[], object]) -> Task:
        def run(watch: Stopwatch) -> None:
            call()
            watch.lap(name)

        return Task(Key(name, "inference", (0, 0), 1), run)

    watch = Stopwatch(device)
    tasks = list(warm_up([task(*item) for item in calls.items()], watch))
    ready = [one for one in tasks if isinstance(one, Task)]
    found: dict[str, dict[int, float]] = {name: {} for name in calls}
    for sample in interleave(ready, rounds, watch):
        if isinstance(sample, Sample):
            found[sample.key.row][sample.round] = sample.total
    return found


def reason_of(error: BaseException) -> str:
    """One line that says why something could not be measured."""
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in text:
        return f"out of memory: {text[:200]}"
    return f"{type(error).__name__}: {text[:300]}"
