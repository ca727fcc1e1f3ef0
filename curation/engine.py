"""Runs work on many clips, on one machine or many; no clip's work is lost to another's crash.

Tasks go out in batches as large as a worker does in about a second, so that handing them out costs little; a few
batches a worker, so that a million tasks do not wait on a scheduler. A worker that dies takes its batches with it, and
which task killed it cannot be told: they run again one at a time, with nothing beside them, so that only a task that
kills its worker fails. A task may therefore run more than once; the work must not mind.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import platform
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from curation.cluster import cluster
from curation.errors import ConfigError
from curation.machines import TRIES_ALONE, Machines, NoWorkersError, run_singly, this_machine, this_process
from curation.versions import differences, versions

T = TypeVar("T")
R = TypeVar("R")

_LARGEST_BATCH = 32
_LOOK_EVERY_S = 5.0


class WorkerDied:
    """Stands for a result: the process that worked on the task ended without an answer, each time it was tried."""


def available_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_tasks(
    work: Callable[[T], R], tasks: Iterable[T], *, workers: int, scheduler: str = ""
) -> Iterator[tuple[T, R | WorkerDied]]:
    """Give each task and its result, in the order in which they end.

    Args:
        work: A function of a module (it is sent to other processes by name).
        tasks: Values that can be pickled.
        workers: Processes on this machine; 0 works in this one, where a crash of a decoder ends everything.
        scheduler: Address of a Dask cluster that does the work instead, ``tcp://host:8786``.

    Raises:
        Whatever ``work`` raises: tasks that have not started are given up.
        ConfigError: If there is no such cluster, or its workers run other code or other versions.
        EngineError: If the machines go away.
    """
    if workers < 0:
        raise ValueError(f"workers must be 0 or more, got {workers}")
    pending = deque(tasks)
    if not pending:
        return
    suspects: deque[T] = deque()
    with _machines(workers, scheduler) as machines:
        yield from _run_batches(machines, work, pending, suspects)
        if scheduler:
            for task in suspects:
                yield task, _run_alone(machines, work, task)
            return
    # On this machine each alone in a process that nothing has died in.
    for task, answer in run_singly(_work_on, [(task, (work, [task], 0.0, {})) for task in suspects]):
        yield task, WorkerDied() if answer is None else _results(answer)[0]


def _machines(workers: int, scheduler: str) -> contextlib.AbstractContextManager[Machines]:
    if scheduler:
        return cluster(scheduler)
    return this_machine(workers) if workers else this_process()


def _run_batches(
    machines: Machines, work: Callable[[T], R], pending: deque[T], suspects: deque[T]
) -> Iterator[tuple[T, R]]:
    """Give results until no task is pending; ``suspects`` then holds those that were in flight when a worker died."""
    running: dict[Future[list[R | _Raised]], list[T]] = {}
    size = 1
    while pending or running:
        try:
            window = machines.slots() * machines.queued
        except NoWorkersError:
            if not machines.is_own:
                raise
            suspects.extend([task for batch in running.values() for task in batch] + [*pending])
            return
        while pending and len(running) < window:
            fair = -(-len(pending) // (2 * window))  # at the end small ones, so that all workers end together
            batch = [pending.popleft() for _ in range(min(size, fair))]
            running[_submit(machines, work, batch)] = batch
        done, _ = wait(running, timeout=_LOOK_EVERY_S, return_when=FIRST_COMPLETED)
        for future in done:
            batch = running.pop(future)
            try:
                answer = future.result()
            except machines.deaths:
                suspects.extend(batch)
                continue
            results = _results(answer)
            unfinished = batch[len(results) :]
            pending.extendleft(reversed(unfinished))
            size = len(results) if unfinished else min(max(size, 2 * len(batch)), _LARGEST_BATCH)
            yield from zip(batch, results, strict=False)


def _run_alone(machines: Machines, work: Callable[[T], R], task: T) -> R | WorkerDied:
    for _ in range(TRIES_ALONE):
        future = _submit(machines, work, [task])
        while not wait([future], timeout=_LOOK_EVERY_S).done:
            machines.slots()  # says so, and gives up in the end, where no worker is left
        try:
            answer = future.result()
        except machines.deaths:
            continue
        return _results(answer)[0]
    return WorkerDied()


class _Call:
    """A call that happens where it is unpickled: a machine without this package says so, as an error of the task.

    Named in the task itself, our function would be looked up by the worker's own loop, which does not survive that.
    """

    def __init__(self, *arguments: Any) -> None:
        self._arguments = arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return _work_on, self._arguments


def _submit(machines: Machines, work: Callable[[T], R], batch: list[T]) -> Future[list[R | _Raised]]:
    call = pickle.dumps(_Call(work, batch, machines.batch_s, machines.versions))
    return machines.executor.submit(pickle.loads, call)


@dataclass(frozen=True)
class _Raised:
    """What the work raised, as its result: no error of the machines can be taken for it, nor it for one of theirs."""

    error: Exception


def _results(answer: list[R | _Raised]) -> list[R]:
    for result in answer:
        if isinstance(result, _Raised):
            raise result.error
    return cast("list[R]", answer)


def _work_on(work: Callable[[T], R], batch: list[T], seconds: float, expected: dict[str, str]) -> list[R | _Raised]:
    """Return the results of a batch's tasks, of the first at least, until so many seconds are over or one raises."""
    if expected and (others := differences(versions(), expected)):
        error = ConfigError(
            f"worker on {platform.node()}: {', '.join(others)}; the bytes of the audio depend on these: "
            "install the same on every machine, start the workers again, and run the same command again"
        )
        return [_Raised(error)]
    end = time.monotonic() + seconds
    results: list[R | _Raised] = []
    for task in batch:
        try:
            results.append(work(task))
        except Exception as error:  # noqa: BLE001  raised again where it is read
            return [_Raised(error)]
        if time.monotonic() >= end:
            break
    return results
