"""Runs work on many clips: in this process, or on this machine's cores; no clip's work is lost to another's crash.

Written against ``concurrent.futures.Executor``, so that another kind of machine is one more executor. Worker processes
are started afresh instead of forked (threads of Arrow and of the caller do not survive a fork). When a worker dies, the
standard pool loses everything in flight; here what was in flight runs again one by one, each in a process of its own,
so that only the clip that kills its worker fails.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for_end
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


class _End:
    """What stands where there is no more task."""


_END = _End()
_AHEAD = 4  # tasks handed out per worker: enough to keep it busy, few enough to run again after a crash


class WorkerDied:
    """Stands for a result: the process that worked on the task ended without an answer, twice."""


def available_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_tasks(work: Callable[[T], R], tasks: Iterable[T], *, workers: int) -> Iterator[tuple[T, R | WorkerDied]]:
    """Give each task and its result, in the order in which they end.

    Args:
        work: A function of a module (it is sent to other processes by name).
        tasks: Values that can be pickled.
        workers: Processes; 0 works in this one, where a crash of a decoder ends everything.

    Raises:
        Whatever ``work`` raises: tasks that have not started are given up.
    """
    if workers < 0:
        raise ValueError(f"workers must be 0 or more, got {workers}")
    if workers == 0:
        for task in tasks:
            yield task, work(task)
        return
    suspects: list[T] = []
    waiting = iter(tasks)
    while True:
        with _pool(workers) as pool:
            try:
                yield from _run_until_broken(pool, work, waiting, suspects, window=workers * _AHEAD)
            except BaseException:  # an error of the work, Ctrl-C, or nobody reads on
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        if not suspects:
            return
        for task in suspects:
            yield task, _run_alone(work, task)
        suspects.clear()


def _run_until_broken(
    pool: Executor, work: Callable[[T], R], tasks: Iterator[T], suspects: list[T], *, window: int
) -> Iterator[tuple[T, R]]:
    """Give results until the tasks end, or a worker dies: then ``suspects`` holds what was in flight."""
    running: dict[Future[R], T] = {}
    is_over = False
    while not is_over or running:
        while not is_over and len(running) < window:
            task = next(tasks, _END)
            if isinstance(task, _End):
                is_over = True
                break
            try:
                with _interrupts_held():
                    future = pool.submit(work, task)
                running[future] = task
            except BrokenProcessPool:
                suspects.append(task)
                is_over = True
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            ended = running.pop(future)
            try:
                result = future.result()
            except BrokenProcessPool:
                suspects.append(ended)
                is_over = True
                continue
            yield ended, result


def _run_alone(work: Callable[[T], R], task: T) -> R | WorkerDied:
    with _pool(1) as pool:
        try:
            with _interrupts_held():
                future = pool.submit(work, task)
            return future.result()
        except BrokenProcessPool:
            return WorkerDied()


def _pool(workers: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with_parent)


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back while a pool may start processes: they inherit that, and load in silence until they ignore it.

    Held back rather than ignored, so that this process hears of it at the end of the block.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows: a worker that is interrupted as it loads says so at length
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent() -> None:
    """End this worker with the process that started it: killed, that one says no goodbye; interrupted, it says when."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_watch, args=(parent.sentinel,), daemon=True).start()


def _watch(sentinel: int) -> None:
    wait_for_end([sentinel])
    os._exit(1)
