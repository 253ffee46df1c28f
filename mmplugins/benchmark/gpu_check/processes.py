"""Items of a check in processes of their own: side by side, or timed one after the other.

Most of the minutes of a check go to the compiler, on one core for each model. So models that are to
be timed compiled are prepared side by side; each then waits for its turn, in which nothing else
runs.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures import TimeoutError as TimeIsOver
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch

from ..environment import usable_cores
from ..session import Listener

Result = Any
SECONDS_OF_A_TURN = 8
"""About what timing a prepared item takes, on a GPU."""


def side_by_side(
    function: Callable[..., Result], tasks: Sequence[tuple], workers: int, deadline: float
) -> Iterator[tuple[tuple, Result | BaseException]]:
    """Call a function for each task in some processes; what does not end in time is ended.

    Args:
        function: Of a module, with arguments and a result that can be pickled.
        tasks: Its arguments.
        workers: Number of processes.
        deadline: By ``time.monotonic()``.

    Yields:
        Each task that ends in time with what came of it. A process that dies takes those beside
        it along, and all their tasks have its error.
    """
    with _pool(workers, usable_cores() // workers) as pool:
        futures = {pool.submit(function, *task): task for task in tasks}
        try:
            for future in as_completed(futures, max(0.0, deadline - time.monotonic())):
                yield futures[future], future.exception() or future.result()
        except TimeIsOver:
            _end(pool)


@dataclass
class Turn(Listener):
    """Has a session wait, when it has prepared its rows, until they may be timed.

    Attributes:
        prepared: An event for the one who gives out turns.
        given: The event that is waited for.
    """

    prepared: Any
    given: Any

    def planned(self, seconds: float) -> None:
        """Say that all is prepared, and wait for the turn."""
        self.prepared.set()
        self.given.wait()


def in_turns(
    function: Callable[..., Result], tasks: Sequence[tuple], deadline: float
) -> Iterator[tuple[tuple, Result | BaseException]]:
    """Prepare all tasks side by side, and let them be timed one after the other.

    Args:
        function: As of :func:`side_by_side`; it is given a :class:`Turn` after the arguments.
        tasks: Its arguments.
        deadline: By ``time.monotonic()``. What is not prepared when the others must begin, so as
            to end in time, is ended.

    Yields:
        Each task that was prepared in time with what came of it.
    """
    latest = deadline - SECONDS_OF_A_TURN * len(tasks)
    with multiprocessing.get_context("spawn").Manager() as manager, ExitStack() as stack:
        running: list[tuple[tuple, ProcessPoolExecutor, Turn, Future]] = []
        for task in tasks:
            pool = stack.enter_context(_pool(1, max(1, usable_cores() // len(tasks))))
            turn = Turn(manager.Event(), manager.Event())
            running.append((task, pool, turn, pool.submit(function, *task, turn)))

        def is_prepared(turn: Turn, future: Future) -> bool:
            return future.done() or turn.prepared.is_set()

        try:
            while not all(is_prepared(*one[2:]) for one in running) and time.monotonic() < latest:
                time.sleep(0.1)
            prepared = [one for one in running if is_prepared(*one[2:])]
            for _, pool, turn, future in running:
                if not is_prepared(turn, future):
                    _end(pool)
            for task, _, turn, future in prepared:
                turn.given.set()
                yield task, future.exception() or future.result()
        finally:  # nobody waits for a turn that does not come
            for _, pool, _, future in running:
                if not future.done():
                    _end(pool)


def _pool(workers: int, threads: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, context, _prepare_worker, (max(1, threads),))


def _prepare_worker(threads: int) -> None:
    import torch._inductor.config as inductor

    torch.set_num_threads(threads)
    inductor.compile_threads = 4 * threads  # which wait for programs most of the time


def _end(pool: ProcessPoolExecutor) -> None:
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
