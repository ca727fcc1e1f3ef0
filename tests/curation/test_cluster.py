"""The work done by processes that share nothing but an object store, each started as its users start it."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from curation import cluster as cluster_module
from curation import machines
from curation.build import BuildOptions, build
from curation.engine import WorkerDied, run_tasks
from curation.errors import ConfigError
from curation.machines import EngineError
from tests.curation import workers as work
from tests.curation.support import add_noises, command, contents
from tests.support.cluster import dask_cluster, is_ended, kill_all
from tests.support.store import other_program, s3_server

CLIPS = 12
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cluster") / "raw"
    add_noises(folder, CLIPS, seconds=0.5)
    return folder


@pytest.fixture(scope="module")
def whole(raw):
    """What one process makes of it on a local disk."""
    out = raw.parent / "whole"
    build(raw, out, options=BuildOptions(workers=0))
    return contents(out)


@pytest.fixture(scope="module")
def store(raw):
    with s3_server() as variables:
        client = other_program(variables)
        for file in raw.rglob("*"):
            if file.is_file():
                client.upload_file(str(file), "bucket", f"raw/{file.relative_to(raw)}")
        yield Store(client, variables)


class Store:
    def __init__(self, client, variables):
        self._client = client
        self.variables = variables

    def contents(self, out):
        """Return what a reader finds in a manifest's folder, journal apart."""
        return {
            name: self._client.get_object(Bucket="bucket", Key=f"{out}/{name}")["Body"].read()
            for name in self._listed(out)
            if not name.startswith(".work/")
        }

    def journal(self, out):
        """Return what changes when a finished clip's journal is written again."""
        return {
            name: found["LastModified"]
            for name, found in self._listed(out).items()
            if name.startswith(".work/") and name.endswith(".json")
        }

    def _listed(self, out):
        found = self._client.list_objects_v2(Bucket="bucket", Prefix=f"{out}/").get("Contents", [])
        return {entry["Key"].removeprefix(f"{out}/"): entry for entry in found}

    def start_build(self, out, address, folder):
        folder.mkdir(exist_ok=True)
        return subprocess.Popen(
            command(
                "build", "--raw", "s3://bucket/raw", "--out", f"s3://bucket/{out}", "--scheduler", address, "--json"
            ),
            cwd=folder,
            env=os.environ | self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def build(self, out, address, folder):
        process = self.start_build(out, address, folder)
        said, problems = process.communicate(timeout=120)
        assert process.returncode == 0, problems
        assert list(folder.iterdir()) == []
        return json.loads(said)


def wait_until(condition, process):
    while process.poll() is None and not condition():
        time.sleep(0.02)


@pytest.fixture(scope="module")
def two_workers(store, tmp_path_factory):
    with dask_cluster(tmp_path_factory.mktemp("dask"), workers=2, **store.variables) as cluster:
        yield cluster


def test_a_cluster_that_shares_only_the_store_makes_the_same_bytes(store, two_workers, whole, tmp_path):
    report = store.build("same", two_workers.address, tmp_path / "client")
    assert (report["clips"], report["worked"], report["up_to_date"]) == (CLIPS, CLIPS, False)
    assert store.contents("same") == whole
    again = store.build("same", two_workers.address, tmp_path / "client")
    assert (again["clips"], again["worked"], again["up_to_date"]) == (CLIPS, 0, True)
    assert "ERROR" not in two_workers.logs()


def test_relative_folders_are_the_clients(raw, two_workers, whole):
    arguments = ["--raw", raw.name, "--out", "relative", "--scheduler", two_workers.address]
    done = subprocess.run(command("build", *arguments), cwd=raw.parent, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert contents(raw.parent / "relative") == whole


def test_a_killed_client_goes_on_where_it_was(store, two_workers, whole, tmp_path):
    kill_clients_until_done(store, two_workers, whole, tmp_path, marks=(4,))


@pytest.mark.long
@pytest.mark.parametrize("step", [1, 2, 5])
def test_many_killed_clients(step, store, two_workers, whole, tmp_path):
    kill_clients_until_done(store, two_workers, whole, tmp_path, marks=range(0, CLIPS, step))


def kill_clients_until_done(store, cluster, whole, folder, *, marks):
    out = f"killed-{folder.name}"
    for mark in marks:
        before = store.journal(out)
        process = store.start_build(out, cluster.address, folder / "client")
        wait_until(lambda mark=mark: len(store.journal(out)) > mark, process)
        process.kill()
        process.communicate()
        time.sleep(0.5)  # workers end what they are at
        assert {name: changed for name, changed in store.journal(out).items() if name in before} == before
    finished = store.journal(out)
    report = store.build(out, cluster.address, folder / "client")
    assert report["worked"] == CLIPS - len(finished)
    assert store.contents(out) == whole
    assert {name: changed for name, changed in store.journal(out).items() if name in finished} == finished


def test_a_killed_worker_loses_nothing(store, two_workers, whole, tmp_path):
    kill_workers(store, two_workers, whole, tmp_path, marks=(3,))


@pytest.mark.long
def test_many_killed_workers(store, two_workers, whole, tmp_path):
    kill_workers(store, two_workers, whole, tmp_path, marks=range(0, CLIPS, 2))


def kill_workers(store, cluster, whole, folder, *, marks):
    out, choice = f"worker-{folder.name}", random.Random(0)
    process = store.start_build(out, cluster.address, folder / "client")
    for mark in marks:
        wait_until(lambda mark=mark: len(store.journal(out)) > mark, process)
        if workers := cluster.working():
            os.kill(choice.choice(workers), signal.SIGKILL)
    said, problems = process.communicate(timeout=120)
    assert process.returncode == 0, problems
    assert json.loads(said)["clips"] == CLIPS
    assert store.contents(out) == whole


@pytest.mark.long
def test_a_scheduler_that_goes_away_costs_no_finished_clip(store, two_workers, whole, tmp_path):
    with dask_cluster(tmp_path / "first", workers=1, **store.variables) as cluster:
        process = store.start_build("lost", cluster.address, tmp_path / "client")
        wait_until(lambda: len(store.journal("lost")) > 2, process)
        kill_all(cluster.scheduler)
        said, problems = process.communicate(timeout=120)
    assert (process.returncode, said) == (1, "")
    assert problems.splitlines()[-1] == (
        f"error: {cluster.address}: the scheduler is gone or does not answer; finished clips are kept: "
        "start it again, then run the same command again"
    )
    finished = len(store.journal("lost"))
    assert finished > 2
    assert store.build("lost", two_workers.address, tmp_path / "client")["worked"] == CLIPS - finished
    assert store.contents("lost") == whole


@pytest.mark.long
def test_only_the_task_that_kills_its_worker_fails(two_workers, capfd):
    tasks = range(20)
    results = dict(run_tasks(work.die_on_seven, tasks, workers=0, scheduler=two_workers.address))
    assert isinstance(results.pop(7), WorkerDied)
    assert results == {number: number**2 for number in tasks if number != 7}
    assert capfd.readouterr().out == ""


def test_an_interrupt_leaves_the_cluster_and_ends_the_client(two_workers, tmp_path):
    code = (
        "import sys\nfrom curation.engine import run_tasks\nfrom tests.curation.workers import note\n"
        "from pathlib import Path\n"
        "try:\n"
        "    tasks = [(Path(sys.argv[1]), number) for number in range(2000)]\n"
        "    for _ in run_tasks(note, tasks, workers=0, scheduler=sys.argv[2]):\n"
        "        print('one', flush=True)\n"
        "except KeyboardInterrupt: sys.exit(130)\n"
    )
    process = subprocess.Popen(
        [*command()[:1], "-c", code, str(tmp_path), two_workers.address],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)
    _, problems = process.communicate(timeout=30)
    assert (process.returncode, problems) == (130, "")
    assert is_ended(process.pid)
    assert dict(run_tasks(work.square, range(3), workers=0, scheduler=two_workers.address)) == {0: 0, 1: 1, 2: 4}
    done = len(list(tmp_path.iterdir()))
    time.sleep(0.3)
    assert len(list(tmp_path.iterdir())) == done < 1000


def test_what_a_cluster_must_have_to_be_given_work(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(machines, "_SAY_NO_WORKERS_S", 0.1)
    with dask_cluster(tmp_path / "dask", workers=0) as cluster:

        def square_three():
            return list(run_tasks(work.square, [3], workers=0, scheduler=cluster.address))

        with monkeypatch.context() as context:
            context.setattr(machines, "_NO_WORKERS_S", 0.5)
            with pytest.raises(
                EngineError, match=r"no workers for 0 s \(start some: dask worker tcp://.* --nthreads 1"
            ):
                square_three()
        assert f"{cluster.address}: no workers; waiting for one" in capfd.readouterr().err

        lacking = cluster.add_worker(PYTHONPATH=str(without_package(tmp_path / "lacking")))
        with pytest.raises(ConfigError, match=r"a worker says: No module named 'curation.*; install this package"):
            square_three()
        assert lacking.poll() is None
        kill_all(lacking)

        changed = cluster.add_worker(PYTHONPATH=str(with_other_code(tmp_path / "changed")))
        with pytest.raises(
            ConfigError, match=r"this package's code [0-9a-f]{8} \(here [0-9a-f]{8}\).*: install the same"
        ):
            square_three()
        kill_all(changed)

        cluster.add_worker(PYTHONPATH=str(ROOT))
        assert square_three() == [(3, 9)]


def without_package(folder):
    folder.mkdir()
    (folder / "sitecustomize.py").write_text("import sys\nsys.modules['curation'] = None\n")
    return folder


def with_other_code(folder):
    for package in ("curation", "crawler", "tests"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / "curation" / "audio.py").open("a") as file:
        file.write("# changed\n")
    return folder


def test_a_scheduler_that_goes_away_midway_is_an_error(tmp_path):
    with dask_cluster(tmp_path, workers=1, PYTHONPATH=str(ROOT)) as cluster:
        results = run_tasks(work.sleep, [0.01] * 5000, workers=0, scheduler=cluster.address)
        next(results)
        kill_all(cluster.scheduler)
        with pytest.raises(EngineError, match=f"{cluster.address}: the scheduler is gone.*; finished clips are kept"):
            list(results)


@pytest.mark.parametrize(
    "address",
    ["localhost", "127.0.0.1:8786", "tcp:/127.0.0.1:9", "http://127.0.0.1:8787", "inproc://x", "tcp://h:1/x", " "],
)
def test_what_is_no_address_is_refused(address):
    with pytest.raises(ConfigError, match="must be a Dask scheduler's address, such as tcp://"):
        list(run_tasks(work.square, [1], workers=0, scheduler=address))


def test_a_scheduler_that_is_not_there_is_an_error_soon(monkeypatch):
    monkeypatch.setattr(cluster_module, "_CONNECT_S", 1)
    with pytest.raises(ConfigError, match=r"--scheduler tcp://127.0.0.1:9: no Dask scheduler answers there"):
        list(run_tasks(work.square, [1], workers=0, scheduler="tcp://127.0.0.1:9"))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ConfigError, match=r"no Dask scheduler answers there \(it says nothing\)"):
            list(run_tasks(work.square, [1], workers=0, scheduler=address))
    with pytest.raises(ConfigError, match="name your certificates in Dask's configuration"):
        list(run_tasks(work.square, [1], workers=0, scheduler="tls://127.0.0.1:9"))


def test_a_scheduler_of_another_dask_is_refused():
    ours = {"python": "3.11.7.final.0", "dask": "2026.8.0", "distributed": "2026.8.0", "cloudpickle": "3.1.2"}
    cluster_module.check_versions(ours | {"python": "3.11.9.final.0"}, ours, "tcp://h:1")
    with pytest.raises(ConfigError, match=r"--scheduler tcp://h:1: it runs distributed 2025.1.0 \(here 2026.8.0\)"):
        cluster_module.check_versions(ours | {"distributed": "2025.1.0"}, ours, "tcp://h:1")
