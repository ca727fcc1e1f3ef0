from __future__ import annotations

import os

import pytest

from curation.engine import WorkerDied, available_cores, run_tasks
from tests.curation import workers as work


@pytest.mark.parametrize("workers", [0, 2])
def test_every_task_gives_its_result(workers):
    assert dict(run_tasks(work.square, range(40), workers=workers)) == {number: number**2 for number in range(40)}
    assert list(run_tasks(work.square, [], workers=workers)) == []


def test_zero_workers_stay_in_this_process_and_two_do_not():
    assert {pid for _, pid in run_tasks(work.process_id, range(3), workers=0)} == {os.getpid()}
    pids = {pid for _, pid in run_tasks(work.process_id, range(12), workers=2)}
    assert os.getpid() not in pids
    assert len(pids) == 2


def test_only_the_task_that_kills_its_worker_fails():
    results = dict(run_tasks(work.die_on_seven, range(20), workers=2))
    assert isinstance(results.pop(7), WorkerDied)
    assert results == {number: number**2 for number in range(20) if number != 7}


def test_a_worker_killed_once_loses_nothing(tmp_path):
    tasks = [(tmp_path, number) for number in range(10)]
    assert sorted(run_tasks(work.die_once, tasks, workers=2)) == [((tmp_path, number), number) for number in range(10)]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_of_the_work_ends_the_run_and_keeps_what_it_says(workers):
    with pytest.raises(OSError, match="No space left") as caught:
        list(run_tasks(work.fail_on_three, range(50), workers=workers))
    assert (caught.value.errno, caught.value.filename) == (28, "audio/3.flac")


def test_a_negative_number_of_workers_is_refused():
    with pytest.raises(ValueError, match="workers must be 0 or more, got -1"):
        list(run_tasks(work.square, [1], workers=-1))


def test_there_is_at_least_one_core():
    assert available_cores() >= 1
