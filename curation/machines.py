"""Where work runs: this process, or this machine's cores; each is an Executor of the standard library.

This machine's cores are a Dask cluster, started and ended with the work: its worker processes are watched, started
again when they die, and end with this process however that ends. It listens on 127.0.0.1 only and hears nobody who
lacks the key made for this one run: without that, anyone with an account here could hand it work. Its settings are
Dask's own defaults, whatever the user's configuration says for other clusters (``curation.cluster``).
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import wait as wait_for_end
from typing import Any, TypeVar

from curation.errors import WavTextError

TRIES_ALONE = 2  # of a task in whose company a process died
_ASK_EVERY_S = 2.0  # how often a scheduler is asked how many workers it has
_SAY_NO_WORKERS_S = 3.0
_NO_WORKERS_S = 300.0
T = TypeVar("T")
R = TypeVar("R")

_RESTART_S = 15.0  # a worker process that dies is back within two
_END_S = 1.0
_QUIET = 60  # above every level that Dask logs at
_SETTINGS = {
    "distributed.worker.multiprocessing-method": "spawn",  # threads of Arrow and of the caller do not survive a fork
    "distributed.worker.profile.enabled": False,
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    # Dask's own MALLOC_TRIM_THRESHOLD_ gives back memory after each block of sound: clips took 1.7 times as long.
    "distributed.nanny.pre-spawn-environ": {
        "MALLOC_TRIM_THRESHOLD_": 2**27,
        "MALLOC_MMAP_THRESHOLD_": 2**25,
        "OMP_NUM_THREADS": 1,
        "MKL_NUM_THREADS": 1,
        "OPENBLAS_NUM_THREADS": 1,
    },
}


class EngineError(WavTextError):
    """Machines that cannot do the work, or went away; finished clips are kept."""


class NoWorkersError(EngineError):
    """No process to do the work, for longer than is worth waiting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machines:
    """What the engine needs to know of them."""

    executor: Executor
    slots: Callable[[], int]
    """How many tasks run at once now, 1 or more; waits while there are no workers."""
    deaths: tuple[type[BaseException], ...] = ()
    """What a future raises whose worker died."""
    queued: int = 2
    """Batches handed out per slot: one at work, one ready."""
    batch_s: float = 1.0
    """A worker hands in what it has finished after so many seconds."""
    versions: dict[str, str] = field(default_factory=dict)
    """What workers must run; empty where they run from this very installation."""
    is_own: bool = True
    """Whether they are processes of this machine, started for this run."""


@contextlib.contextmanager
def this_process() -> Iterator[Machines]:
    """Give this process: one task at a time, where a crash of a decoder ends everything."""
    yield Machines(executor=_HereExecutor(), slots=lambda: 1, queued=1, batch_s=0)


class _HereExecutor(Executor):
    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        with _interrupts_after():
            try:
                future.set_result(work(*args, **kwargs))
            except Exception as error:  # noqa: BLE001  the future raises it again
                future.set_exception(error)
        return future


@contextlib.contextmanager
def _interrupts_after() -> Iterator[None]:
    """Hear Ctrl-C at the end of the block: in it, a decoder's callbacks swallow it and take the file to be short."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    heard: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if heard:
            before(signal.SIGINT, None)


def run_singly(work: Callable[..., R], calls: Sequence[tuple[T, tuple[Any, ...]]]) -> Iterator[tuple[T, R | None]]:
    """Give for each key what its call returns in a process of this machine with nothing beside it; None if that dies.

    It is tried again before: a process may be killed for what another call has left, or by someone.

    Args:
        work: A function of a module.
        calls: Keys, each with the arguments of its call.
    """
    waiting = deque(calls)
    deaths_of_first = 0
    while waiting:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context, initializer=_end_with_parent) as pool:
            try:
                while waiting:
                    with _interrupts_held():
                        future = pool.submit(work, *waiting[0][1])
                    answer = future.result()
                    deaths_of_first = 0
                    yield waiting.popleft()[0], answer
            except BrokenProcessPool:
                deaths_of_first += 1
                if deaths_of_first == TRIES_ALONE:
                    deaths_of_first = 0
                    yield waiting.popleft()[0], None


def _end_with_parent() -> None:
    """End this process with the one that started it, which, killed, says no goodbye and, interrupted, says when."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_watch, args=(parent.sentinel,), daemon=True).start()


def _watch(sentinel: int) -> None:
    wait_for_end([sentinel])
    os._exit(1)


def deaths() -> tuple[type[BaseException], ...]:
    """Return what a Dask future raises whose worker died; the second where it died while the answer was on its way."""
    from distributed import KilledWorker

    return KilledWorker, ValueError


@contextlib.contextmanager
def this_machine(workers: int) -> Iterator[Machines]:
    """Give so many worker processes of this machine, gone after the block.

    Raises:
        EngineError: If they do not start, or no longer start again.
    """
    with contextlib.ExitStack() as stack:
        with _interrupts_held():
            from dask import config
            from distributed import Client, LocalCluster, Security

            stack.enter_context(_default_settings(config))
            stack.enter_context(quiet_logs())
            stack.enter_context(_same_environment())
            try:
                cluster = LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    processes=True,
                    host="127.0.0.1",
                    security=Security.temporary(),
                    dashboard_address=None,
                    memory_limit=0,  # a long sound may need much for a moment
                    silence_logs=_QUIET,
                    scheduler_kwargs={"allowed_failures": 0, "dashboard_address": "127.0.0.1:0"},
                )
            except (OSError, RuntimeError) as error:
                raise EngineError(f"{workers} worker processes could not be started: {error}") from error
            stack.callback(_end, cluster)
            client = stack.enter_context(contextlib.closing(Client(cluster, set_as_default=False)))
        slots = Slots(client, "this machine", advice="its worker processes do not start again", patience_s=_RESTART_S)
        yield Machines(executor=client.get_executor(pure=False), slots=slots, deaths=deaths())


def _end(cluster: Any) -> None:
    """End the workers, at work or not: who leaves while tasks run does not wait for them."""

    async def end() -> None:
        ends = (nanny.close(timeout=_END_S) for nanny in cluster.workers.values())
        await asyncio.gather(*ends, return_exceptions=True)

    cluster.sync(end)
    cluster.close()


class Slots:
    """Asks a scheduler now and then how many threads its workers have; says so and waits while there are none."""

    def __init__(self, client: Any, name: str, *, advice: str, patience_s: float | None = None) -> None:
        self._client = client
        self._name = name
        self._advice = advice
        self._patience_s = patience_s
        self._asked = 0.0
        self._slots = 0

    def __call__(self) -> int:
        """Return the number, 1 or more.

        Raises:
            NoWorkersError: If there have been none for too long.
            EngineError: If the scheduler is gone.
        """
        if self._slots == 0 or time.monotonic() - self._asked >= _ASK_EVERY_S:
            self._slots = self._ask() or self._wait()
            self._asked = time.monotonic()
        return self._slots

    def _ask(self) -> int:
        try:
            return sum(self._client.nthreads().values())
        except (OSError, RuntimeError, CancelledError) as error:  # TimeoutError is an OSError
            raise gone(self._name) from error

    def _wait(self) -> int:
        patience_s = _NO_WORKERS_S if self._patience_s is None else self._patience_s
        say, give_up = (time.monotonic() + seconds for seconds in (_SAY_NO_WORKERS_S, patience_s))
        while time.monotonic() < give_up:
            time.sleep(0.2)
            if slots := self._ask():
                return slots
            if time.monotonic() >= say:
                print(f"{self._name}: no workers; waiting for one ({self._advice})", file=sys.stderr)
                say = give_up
        raise NoWorkersError(
            f"{self._name}: no workers for {patience_s:.0f} s ({self._advice}); finished clips are kept: "
            "run the same command again"
        )


def gone(name: str) -> EngineError:
    """Return the error that a scheduler does not answer any more."""
    return EngineError(
        f"{name}: the scheduler is gone or does not answer; finished clips are kept: "
        "start it again, then run the same command again"
    )


@contextlib.contextmanager
def quiet_logs() -> Iterator[None]:
    """Keep Dask from telling at length about workers that die: who reads on hears what came of their tasks."""
    names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] in ("distributed", "tornado")]
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(_QUIET)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back while processes and the threads that start them come up: all of them inherit that.

    A terminal sends it to every process; the workers are to end with this one, not each by itself. Held back rather
    than ignored, so that this process hears of it at the end of the block.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows: a worker that is interrupted as it loads says so at length
        yield
        return
    resource_tracker.ensure_running()  # its start lets interrupts through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _default_settings(config: Any) -> Iterator[None]:
    """Set Dask's configuration to what Dask itself comes with, and what we need, for the block."""
    before = copy.deepcopy(config.config)
    config.refresh(paths=[], env={})
    try:
        with config.set(_SETTINGS):
            yield
    finally:
        config.config.clear()
        config.config.update(before)


@contextlib.contextmanager
def _same_environment() -> Iterator[None]:
    """Quieten the worker processes' logs, and undo what starting them leaves in this process's environment."""
    before = set(os.environ)
    os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "critical")
    try:
        yield
    finally:
        for name in set(os.environ) - before:
            del os.environ[name]
