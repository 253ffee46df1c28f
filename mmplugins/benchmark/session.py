"""A benchmark from rows to a file of results."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .complexity import count_macs, count_parameters
from .energy import find_meter, measure_energy
from .lower_bound import LowerBound, operations_of
from .memory import inference_memory, release, training_memory
from .operations import by_operation
from .peers import Peers, family_of
from .results import ResultFile
from .rows import Row
from .speed import Failure, Key, Sample, Task, interleave, reason_of, warm_up
from .stages import run_marked, stage_ends
from .stopwatch import Stopwatch
from .subjects import Subject

MEASURES = ("inference", "training", "memory", "lower_bound", "stages", "operations", "energy")
"""What can be measured; parameters and MACs always are."""

USUAL = MEASURES[:-2]
"""What is measured unless told otherwise."""


@dataclass(frozen=True)
class Settings:
    """How to measure.

    Attributes:
        sizes: Heights and widths of images.
        batches: Images at a time.
        measures: Of :data:`MEASURES`. Defaults to :data:`USUAL`.
        rounds: Samples of each time.
        device: ``'cpu'``, ``'cuda'`` or ``'cuda:1'``.
        threads: Threads of PyTorch on the CPU.
        warm_up: Untimed calls before the first round.
        min_seconds: Shortest sample; shorter calls are repeated within one.
        seed: For the orders of rounds.
        peers: Whether backbones have the same weights as their peers, and no output norms.
        macs: Whether MACs are counted.
    """

    sizes: tuple[tuple[int, int], ...] = ((512, 512),)
    batches: tuple[int, ...] = (1,)
    measures: tuple[str, ...] = USUAL
    rounds: int = 25
    device: str = "cpu"
    threads: int = 1
    warm_up: int = 3
    min_seconds: float = 0.02
    seed: int = 0
    peers: bool = False
    macs: bool = True

    def __post_init__(self):
        for measure in self.measures:
            if measure not in MEASURES:
                raise ValueError(f"{measure!r}: expected some of {', '.join(MEASURES)}")
        if self.rounds < 1 or min(self.batches) < 1:
            raise ValueError(f"rounds={self.rounds}, batches={self.batches}: expected 1 or more")
        if any(side < 1 for size in self.sizes for side in size):
            raise ValueError(f"sizes={self.sizes}: expected 1 or more for height and width")

    def fixed(self) -> dict[str, Any]:
        """The settings that all times of one file share, as plain data; and the rounds."""
        own = ("rounds", "device", "threads", "warm_up", "min_seconds", "seed", "peers")
        return {name: value for name, value in asdict(self).items() if name in own}


class Listener:
    """Who is told how a session goes on; this one keeps it to itself."""

    def preparing(self, label: str) -> None:
        """A row is built, counted and warmed up."""

    def planned(self, seconds: float) -> None:
        """The rounds begin; they will take about so long."""

    def sampled(self, sample: Sample, seconds: float) -> None:
        """A sample was taken; it took about so many of the seconds planned."""

    def failed(self, failure: Failure) -> None:
        """Something could not be measured."""


QUIET = Listener()

MEMORY = dict(inference=inference_memory, training=training_memory)


class Session:
    """Measures rows and writes all into a file, line by line.

    Args:
        rows: What to measure.
        settings: How.
        file: Where to; what it has already is not measured again, what failed is tried again.
        listener: Who is told. Defaults to nobody.
        watch: Defaults to a stopwatch of the device.
        peers: Those that an earlier session has proven. Defaults to new ones if the settings ask.
        subjects: Rows that an earlier session has built, on this device; new ones are added.
            Defaults to none.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        settings: Settings,
        file: ResultFile,
        listener: Listener = QUIET,
        watch: Stopwatch | None = None,
        peers: Peers | None = None,
        subjects: dict[Row, Subject] | None = None,
    ):
        self.subjects = {} if subjects is None else subjects
        self.rows, self.settings, self.file, self.listener = rows, settings, file, listener
        self.watch = watch or Stopwatch(settings.device)
        self.peers = (peers or Peers()) if settings.peers else None
        self.tasks: list[Task] = []
        self.shared: dict[Key, list[Key]] = {}
        self._bounds: dict[frozenset, tuple[LowerBound, Key]] = {}

    def run(self) -> None:
        """Measure. Rows that fail are noted and left out; an interrupt leaves what is written."""
        with _no_quiet_fallback():
            for row in self.rows:
                self.listener.preparing(row.label)
                try:
                    self._prepare(row)
                except Exception as error:
                    self._failed(Key(row.label, "row", (0, 0), 0), error)
                    # Its tasks are not run, so that no other row may rely on its lower bound.
                    bounds = self._bounds.items()
                    self._bounds = {k: v for k, v in bounds if v[1].row != row.label}
                    release(self.watch.device)
            # Training last, as its gradients and optimiser states take memory.
            for training in (False, True):
                self._time([t for t in self.tasks if ("training" in t.key.what) == training])
            self._measure_energy()

    def _time(self, tasks: list[Task]) -> None:
        settings, ready = self.settings, []
        tasks = [t for t in tasks if not all(self._done(t.key, r) for r in range(settings.rounds))]
        for task in warm_up(tasks, self.watch, settings.warm_up, settings.min_seconds):
            if isinstance(task, Failure):
                self._add(task)
            else:
                ready.append(task)
        estimates = {task.key: task.estimate for task in ready}
        missing = [
            estimates[task.key]
            for task in ready
            for r in range(settings.rounds)
            if not self._done(task.key, r)
        ]
        self.listener.planned(sum(missing))
        for found in interleave(ready, settings.rounds, self.watch, settings.seed, self._done):
            self._add(found)
            if isinstance(found, Sample):
                self.listener.sampled(found, estimates[found.key])

    def _measure_energy(self) -> None:
        """Joules of a pass of each row, one after the other, as counters are too slow for turns."""
        if "energy" not in self.settings.measures:
            return
        meter = find_meter(self.watch.device)
        for task in self.tasks:
            key = replace(task.key, what="energy")
            if task.key.what != "inference" or key in self.file.results.energy:
                continue
            if meter is None:
                reason = f"no counter of energy that this program may read ({self.watch.device})"
                self._add(Failure(key, reason))
                continue
            self.watch.start()
            try:
                run = partial(task.run, self.watch)
                self.file.add_about("energy", key, **measure_energy(run, meter, self.watch))
            except Exception as error:
                self._failed(key, error)

    def _add(self, found: Sample | Failure) -> None:
        for key in self.shared.get(found.key, [found.key]):
            self.file.add(replace(found, key=key))
        if isinstance(found, Failure):
            self.listener.failed(found)

    def _failed(self, key: Key, error: Exception) -> None:
        self._add(Failure(key, reason_of(error)))

    def _done(self, key: Key, round: int) -> bool:
        keys = self.shared.get(key, [key])
        return all(round in self.file.results.times.get(each, ()) for each in keys)

    def _prepare(self, row: Row) -> None:
        settings, label = self.settings, row.label
        if row not in self.subjects:
            weights, overrides = self.peers.settings_of(row) if self.peers else (None, {})
            self.subjects[row] = Subject(row, settings.device, weights, **overrides)
        subject = self.subjects[row]
        results = self.file.results
        # A row that failed before is noted again, which makes the failure void.
        if label not in results.rows or Key(label, "row", (0, 0), 0) in results.failures:
            self.file.append(
                kind="row",
                row=label,
                name=row.name,
                backbone=row.backbone,
                family=family_of(subject),
                options=list(row.options),
                dtype=row.dtype,
                whole=row.whole,
                parameters=asdict(count_parameters(subject.model)),
            )
        todo: list[Task] = []
        for height, width in settings.sizes:
            for batch in settings.batches:
                key = Key(label, "macs", (height, width), batch)
                self._count(subject, key)
                todo += self._plan(subject, key, subject.images(key.size, batch))
        if row.compile and not subject.compiled:
            subject.compile()
            if subject.device.type == "cuda":  # the allocator sees what a compiled pass takes
                for task in todo:
                    self._count_memory(subject, task.key, [task.key.what])
        self.tasks += todo

    def _count(self, subject: Subject, key: Key) -> None:
        """Note MACs and memory at a size."""
        results = self.file.results
        if self.settings.macs and key not in results.macs:
            try:
                macs = asdict(count_macs(subject.model, key.size, key.batch))
                data = {name: macs[name] for name in ("total", "by_part", "pooling")}
                self.file.add_about("macs", key, **data)
            except Exception as error:
                self._failed(key, error)
        if subject.row.eager:
            self._count_memory(subject, key, list(MEMORY))

    def _count_memory(self, subject: Subject, key: Key, whats: list[str]) -> None:
        """Note peaks of a row at a size."""
        results = self.file.results
        if "memory" not in self.settings.measures:
            return
        for what in whats:
            own, measure = replace(key, what=what), MEMORY[what]
            if own in results.memory or (what == "training" and not subject.row.trains):
                continue
            try:
                memory = measure(subject, key.size, key.batch)
                self.file.add_about("memory", own, **asdict(memory))
            except Exception as error:
                self._failed(replace(key, what=f"memory of {what}"), error)

    def _plan(self, subject: Subject, key: Key, images: Tensor) -> list[Task]:
        """The tasks of a row at a size, as far as they apply to it."""
        wanted, row, plan = self.settings.measures, subject.row, []

        def infer(watch: Stopwatch) -> None:
            subject.infer(images)
            watch.lap("inference")

        if "inference" in wanted or "energy" in wanted:
            plan.append(Task(replace(key, what="inference"), infer))
        if "stages" in wanted and row.eager:
            own = replace(key, what="stages")
            try:
                ends = stage_ends(subject)
                plan.append(Task(own, lambda watch: run_marked(subject, images, ends, watch)))
            except ValueError as error:
                self._failed(own, error)
        if "lower_bound" in wanted and not row.runtime:
            plan += self._plan_lower_bound(subject, replace(key, what="lower_bound"), images)
        apart = "operations" in wanted and row.eager
        if apart and "inference" in wanted:
            plan.append(Task(replace(key, what="operations"), by_operation(infer)))
        if "training" in wanted and row.trains:
            step = TrainingStep(subject, images)
            plan.append(Task(replace(key, what="training"), step, rewarm=False))
            if apart:
                own = replace(key, what="operations of training")
                plan.append(Task(own, by_operation(step), rewarm=False))
        return plan

    def _plan_lower_bound(self, subject: Subject, key: Key, images: Tensor) -> list[Task]:
        """A task for the lower bound, or none if another row at this size has the same one."""
        if all(r in self.file.results.times.get(key, ()) for r in range(self.settings.rounds)):
            return []
        try:
            operations = operations_of(subject, images)
            kind = frozenset(operations.items())
            if kind in self._bounds:
                self.shared[self._bounds[kind][1]].append(key)
                return []
            bound = LowerBound(operations, subject.device)
        except Exception as error:
            self._failed(key, error)
            return []
        self._bounds[kind] = bound, key
        self.shared[key] = [key]
        return [Task(key, bound.run)]


class TrainingStep:
    """A training step, as laps ``'forward'``, ``'backward'`` and ``'optimizer'``.

    Args:
        subject: What to train.
        images: Its images.
    """

    def __init__(self, subject: Subject, images: Tensor):
        self.subject = subject
        self.images = images.float()
        self.optimizer: torch.optim.Optimizer | None = None

    def __call__(self, watch: Stopwatch) -> None:
        """Do one step; the gradients are freed afterwards."""
        with self.subject.training():
            self.optimizer = self.optimizer or self.subject.optimizer()
            watch.lap("")  # what came before is no part of the step
            loss = self.subject.loss(self.images)
            watch.lap("forward")
            loss.backward()
            watch.lap("backward")
            self.optimizer.step()
            watch.lap("optimizer")


def _no_quiet_fallback() -> contextlib.AbstractContextManager:
    """Let torch.compile fail where it would go on in eager mode unnoticed."""
    import torch._dynamo.config as config

    wanted = dict(fail_on_recompile_limit_hit=True, suppress_errors=False)
    return config.patch({name: value for name, value in wanted.items() if hasattr(config, name)})
