"""Work done ahead by threads, its results in order: decoding while a model computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(work: Callable[[Item], Result], items: Iterable[Item], *, threads: int) -> Iterator[Result]:
    """Yield ``work`` of each item, in order; two items a thread are taken before they are asked for.

    An error comes where its result would have; what was begun is finished, nothing more is begun.

    Args:
        work: What to do; with threads, several at once.
        items: Of what; taken by the caller's own thread.
        threads: How many; 0: the caller's own, when asked.

    Raises:
        ValueError: If ``threads`` is negative.
    """
    if threads < 0:
        raise ValueError(f"threads must be 0 or more, got {threads}")
    if threads == 0:
        yield from map(work, items)
        return
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
