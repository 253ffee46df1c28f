"""The way of timing, with a clock that only work moves."""

from collections import Counter

import pytest
import torch

from mmplugins.benchmark.speed import (
    Failure,
    Key,
    Sample,
    Task,
    interleave,
    measure,
    reason_of,
    turns,
    warm_up,
)
from mmplugins.benchmark.stopwatch import Stopwatch


class Machine:
    """A clock, and work that moves it; everything takes `pace` times as long."""

    def __init__(self):
        self.now, self.pace = 0.0, 1.0

    def work(self, seconds):
        self.now += seconds * self.pace

    def task(self, name, seconds, **settings):
        def run(watch):
            self.work(seconds)
            watch.lap("work")

        return Task(Key(name, "inference", (32, 32), 1), run, **settings)


@pytest.fixture
def machine():
    return Machine()


@pytest.fixture
def watch(machine):
    return Stopwatch(clock=lambda: machine.now)


def test_laps(machine, watch):
    watch.start()
    for seconds, lap in ((1, "a"), (2, ""), (4, "b"), (8, "a")):
        machine.work(seconds)
        watch.lap(lap)
    assert watch.stop() == {"a": 9, "": 2, "b": 4}
    watch.start()
    assert watch.stop() == {}


def test_real_clock_moves():
    watch = Stopwatch()
    watch.start()
    torch.zeros(10).sum()
    watch.lap("work")
    assert watch.stop()["work"] > 0


def test_a_sample_is_the_time_of_one_call(machine, watch):
    task = machine.task("a", 0.003)
    (ready,) = warm_up([task], watch, calls=2, min_seconds=0.02)
    assert ready.repeats == 7 and ready.estimate == pytest.approx(0.003 * 8)
    assert measure(task, watch) == {"work": pytest.approx(0.003)}


def test_calls_before_a_sample_do_not_count(machine, watch):
    calls = []

    def run(watch):
        machine.work(5.0 if len(calls) % 2 == 0 else 1.0)  # the first after a change is slow
        calls.append(1)
        watch.lap("work")

    task = Task(Key("a", "inference", (32, 32), 1), run)
    assert measure(task, watch) == {"work": 1.0}
    task.rewarm = False
    assert measure(task, watch) == {"work": 5.0}


def test_garbage_collection_waits_and_comes_back(machine, watch):
    import gc

    seen = []
    task = Task(Key("a", "x", (32, 32), 1), lambda watch: seen.append(gc.isenabled()), False)
    measure(task, watch)
    assert seen == [False] and gc.isenabled()


def test_turns_alternate_and_change():
    tasks = list(range(6))
    orders = [turns(tasks, r) for r in range(20)]
    assert all(sorted(order) == tasks for order in orders)
    assert all(a == b[::-1] for a, b in zip(orders[::2], orders[1::2], strict=True))
    assert len(set(map(tuple, orders))) > 10
    followers = Counter((a, b) for order in orders for a, b in zip(order, order[1:], strict=False))
    assert len(followers) == 30  # every task follows every other one now and then
    assert orders == [turns(tasks, r) for r in range(20)] != [turns(tasks, r, 1) for r in range(20)]


def test_drift_falls_on_all_alike(machine, watch):
    tasks = [machine.task(name, 1.0, rewarm=False) for name in "abc"]
    totals = Counter()
    for sample in interleave(tasks, 20, watch):
        totals[sample.key.row] += sample.total
        machine.pace *= 1.01
    assert max(totals.values()) / min(totals.values()) < 1.02
    assert machine.pace > 1.8


def test_one_that_fails_is_reported_once_and_the_rest_goes_on(machine, watch):
    good, bad, late = (machine.task(name, 1.0) for name in ("good", "bad", "late"))

    def refuse(watch):
        raise torch.OutOfMemoryError("tried to allocate\n 20 GiB")

    calls = []

    def fail_later(watch):
        calls.append(1)
        if len(calls) > 6:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")
        watch.lap("work")

    bad.run, late.run = refuse, fail_later
    ready = list(warm_up([bad, good, late], watch, calls=1))
    assert ready[0] == Failure(bad.key, "out of memory: tried to allocate 20 GiB")
    found = list(interleave([good, late], 10, watch))
    failures = [each for each in found if isinstance(each, Failure)]
    assert [each.key.row for each in failures] == ["late"]
    assert failures[0].reason.startswith("out of memory: DefaultCPUAllocator")
    assert sum(isinstance(e, Sample) and e.key.row == "good" for e in found) == 10


def test_what_is_done_is_not_done_again(machine, watch):
    tasks = [machine.task(name, 1.0) for name in "ab"]
    found = interleave(tasks, 4, watch, done=lambda key, r: key.row == "a" and r < 3)
    assert Counter((s.key.row, s.round >= 3) for s in found) == {
        ("a", True): 1,
        ("b", True): 1,
        ("b", False): 3,
    }


def test_an_interrupt_is_not_a_failure(machine, watch):
    task = machine.task("a", 1.0)

    def interrupt(watch):
        raise KeyboardInterrupt

    task.run = interrupt
    with pytest.raises(KeyboardInterrupt):
        list(interleave([task], 2, watch))


def test_reasons_are_one_line():
    assert reason_of(ValueError("no\n  such thing")) == "ValueError: no such thing"
    assert len(reason_of(ValueError("x" * 9999))) < 400
