from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import pytest

from curation import engine
from curation.engine import WorkerDied, available_cores, run_tasks
from curation.machines import Machines, NoWorkersError
from tests.curation import workers as work
from tests.support.cluster import group, is_ended

ROOT = Path(__file__).parents[2]


def run(code, *arguments, cwd, **environment):
    """Start a Python that may run the tests' work, in a group of processes of its own as a terminal would."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


SLOW = """
import sys
from curation.engine import run_tasks
from tests.curation.workers import sleep
try:
    for task, result in run_tasks(sleep, [0.01, 0.01] + [60] * 20, workers=2):
        print(task, flush=True)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize("workers", [0, 2])
def test_every_task_gives_its_result(workers):
    assert dict(run_tasks(work.square, range(200), workers=workers)) == {n: n**2 for n in range(200)}
    assert list(run_tasks(work.square, [], workers=workers)) == []


def test_zero_workers_stay_in_this_process_and_two_do_not(tmp_path, monkeypatch, capfd):
    assert {pid for _, pid in run_tasks(work.process_id, range(3), workers=0)} == {os.getpid()}

    from dask import config

    monkeypatch.chdir(tmp_path)
    environment, settings = dict(os.environ), str(config.config)
    pids = {pid for _, pid in run_tasks(work.process_id, range(12), workers=2)}
    assert os.getpid() not in pids
    assert len(pids) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert (dict(os.environ), str(config.config)) == (environment, settings)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_results_come_as_they_end():
    tasks = [1.0, *[0.01] * 30]
    ended = [task for task, _ in run_tasks(work.sleep, tasks, workers=2)]
    assert sorted(ended) == sorted(tasks)
    assert ended[0] == 0.01


def test_tasks_are_handed_out_as_they_are_needed(tmp_path):
    results = run_tasks(work.note, ((tmp_path, number) for number in range(500)), workers=2)
    for _ in itertools.islice(results, 5):
        pass
    results.close()
    assert len(list(tmp_path.iterdir())) < 200


def test_only_the_task_that_kills_its_worker_fails(capfd):
    results = dict(run_tasks(work.die_on_seven, range(200), workers=2))
    assert isinstance(results.pop(7), WorkerDied)
    assert isinstance(results.pop(107), WorkerDied)
    assert results == {number: number**2 for number in range(200) if number % 100 != 7}
    assert capfd.readouterr() == ("", "")


def test_a_worker_killed_once_loses_nothing(tmp_path):
    tasks = [(tmp_path, number) for number in range(40)]
    assert sorted(run_tasks(work.die_once, tasks, workers=2)) == [((tmp_path, number), number) for number in range(40)]


@pytest.mark.long
def test_many_killed_workers_lose_nothing(tmp_path):
    tasks = [(tmp_path, number) for number in range(600)]
    ended = []
    for kill, (task, result) in enumerate(run_tasks(work.note, tasks, workers=2)):
        ended.append(task)
        assert result == task[1]
        if kill % 60 == 30:
            (file,) = [tmp_path / f"{task[1]}.txt"]
            os.kill(int(file.read_text().split()[-1]), signal.SIGKILL)
    assert sorted(ended) == tasks


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_of_the_work_ends_the_run_and_keeps_what_it_says(workers, capfd):
    with pytest.raises(OSError, match="No space left") as caught:
        list(run_tasks(work.fail_on_three, range(50), workers=workers))
    assert (caught.value.errno, caught.value.filename) == (28, "audio/3.flac")
    assert capfd.readouterr() == ("", "")


def test_a_negative_number_of_workers_is_refused():
    with pytest.raises(ValueError, match="workers must be 0 or more, got -1"):
        list(run_tasks(work.square, [1], workers=-1))


def test_there_is_at_least_one_core():
    assert available_cores() >= 1


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads Linux's list of sockets")
def test_nobody_else_can_hand_the_workers_work():
    ((_, addresses),) = run_tasks(work.listening, [1], workers=1)
    assert addresses
    assert {address.split(":")[0] for address in addresses} == {"0100007F"}  # 127.0.0.1

    others = set(work.listening(0))  # servers of other tests
    results = run_tasks(work.listening, [1] * 3, workers=1)
    next(results)
    found = set(work.listening(0)) - others
    assert found
    assert {_ask(int(address.split(":")[1], 16)) for address in found} <= {"closed", "404"}
    results.close()


def _ask(port):
    """Return what a port says to somebody without the run's key."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(b"GET /info/main/workers.html HTTP/1.0\r\n\r\n")
        try:
            answer = connection.recv(100)
        except ConnectionResetError:
            return "closed"
    return answer.split()[1].decode() if answer.startswith(b"HTTP") else "closed" if not answer else repr(answer)


def test_settings_for_other_clusters_change_nothing(tmp_path):
    (tmp_path / "dask.yaml").write_text(
        "distributed: {worker: {preload: [nosuch], memory: {terminate: 0.0001}}, scheduler: {preload: [nosuch]}}\n"
        "temporary-directory: /nosuch\n"
    )
    code = (
        "from curation.engine import run_tasks\nfrom tests.curation.workers import square\n"
        "print(sum(result for _, result in run_tasks(square, range(10), workers=1)))"
    )
    process = run(
        code, cwd=tmp_path, DASK_CONFIG=str(tmp_path), DASK_DISTRIBUTED__WORKER__MULTIPROCESSING_METHOD="fork"
    )
    assert process.communicate(timeout=60) == ("285\n", "")
    assert [path.name for path in tmp_path.iterdir()] == ["dask.yaml"]


def test_importing_it_loads_no_dask():
    code = "import sys, curation.engine; print({'dask', 'distributed', 'numpy', 'soundfile'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def interrupted_after(seconds, tmp_path):
    """Press Ctrl-C: every process of the terminal's group hears of it."""
    process = run(SLOW, cwd=tmp_path)
    if seconds is None:
        assert process.stdout.readline() == "0.01\n"
    else:
        time.sleep(seconds)
    os.killpg(process.pid, signal.SIGINT)
    started = time.monotonic()
    _, said = process.communicate(timeout=30)
    return process, said, time.monotonic() - started


def test_an_interrupt_ends_everything_quickly_and_quietly(tmp_path):
    process, said, seconds = interrupted_after(None, tmp_path)
    assert (process.returncode, said) == (130, "")
    assert seconds < 10  # far below the 60 s that the workers' tasks take
    assert is_ended(process.pid)


@pytest.mark.long
@pytest.mark.parametrize("tenths", range(2, 21))
def test_an_interrupt_at_any_moment(tenths, tmp_path):
    process, said, _ = interrupted_after(tenths / 10, tmp_path)
    assert "distributed" not in said
    assert said.count("Traceback") <= 1  # one where it comes before our code is loaded
    assert is_ended(process.pid)


def test_a_killed_parent_leaves_no_worker_behind(tmp_path):
    process = run(SLOW, cwd=tmp_path)
    process.stdout.readline()
    assert len(group(process.pid)) >= 3
    process.kill()
    process.communicate(timeout=10)  # workers inherit stdout: it ends when the last of them has
    assert is_ended(process.pid)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_in_this_process_waits_for_the_end_of_a_task(tmp_path):
    tasks = [(tmp_path, number) for number in range(3)]
    with pytest.raises(KeyboardInterrupt):
        list(run_tasks(work.interrupted, tasks, workers=0))
    assert [path.name for path in tmp_path.iterdir()] == ["0.txt"]


class Broken(Executor):
    """Machines whose answers are lost on their way."""

    def submit(self, function, /, *arguments, **options):
        future = Future()
        future.set_exception(ValueError("not enough values to unpack (expected 3, got 1)"))
        return future


def no_workers():
    raise NoWorkersError("this machine: no workers for 15 s")


@pytest.mark.parametrize("slots", [lambda: 1, no_workers])
def test_what_machines_lose_is_done_one_by_one(monkeypatch, slots):
    machines = Machines(executor=Broken(), slots=slots, deaths=(ValueError,))
    monkeypatch.setattr(engine, "_machines", lambda workers, scheduler: nullcontext(machines))
    done = dict(run_tasks(work.die_on_seven, range(5, 9), workers=2))
    assert {number: result for number, result in done.items() if number != 7} == {5: 25, 6: 36, 8: 64}
    assert isinstance(done[7], WorkerDied)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_of_the_work_is_never_taken_for_a_death(workers):
    with pytest.raises(ValueError, match="no number"):
        list(run_tasks(work.refuse, range(3), workers=workers))


def test_an_error_of_the_work_alone_is_never_taken_for_a_death():
    machines = Machines(executor=ThreadPoolExecutor(1), slots=lambda: 1, deaths=(ValueError,))
    with pytest.raises(ValueError, match="no number"):
        engine._run_alone(machines, work.refuse, 1)
