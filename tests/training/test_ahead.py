"""Results come in order, a few items are taken ahead and no more, and an error ends the work where it belongs."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from training.models.ahead import ahead


@pytest.mark.parametrize("threads", [0, 1, 4])
def test_results_are_in_order_and_few_items_are_taken_ahead(threads: int) -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        while taken < 40:
            taken += 1
            yield taken

    def slow(number: int) -> int:
        time.sleep(0.002 * (number % 3))
        return number * number

    for place, result in enumerate(ahead(slow, items(), threads=threads), start=1):
        assert result == place * place
        assert taken <= place + 2 * threads + 1
    assert taken == 40


@pytest.mark.parametrize("threads", [0, 2])
def test_an_error_comes_in_its_place_and_ends_the_work(threads: int) -> None:
    begun: list[int] = []

    def work(number: int) -> int:
        begun.append(number)
        return 1 // (number - 3)

    results = ahead(work, range(1000), threads=threads)
    assert [next(results) for _ in range(3)] == [-1, -1, -1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert len(begun) < 12
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_threads_work_at_once() -> None:
    meeting = threading.Barrier(2, timeout=30)
    assert len(list(ahead(lambda _: meeting.wait(), range(2), threads=2))) == 2


def test_a_negative_number_of_threads_is_refused() -> None:
    with pytest.raises(ValueError, match="threads must be 0 or more, got -1"):
        list(ahead(str, [1], threads=-1))
