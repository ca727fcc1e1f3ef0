"""A Dask cluster as its users start it: a scheduler and workers, each a process in a folder of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_START_S = 60


class Cluster:
    """Processes on 127.0.0.1 that share nothing but what their environment points them to."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder = folder
        self._environment = environment
        self._processes: list[subprocess.Popen[bytes]] = []
        self.scheduler = self._start(
            "scheduler",
            "scheduler",
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--scheduler-file",
            folder / "scheduler.json",
        )
        self.address = self._address()

    def add_worker(self, **environment: str) -> subprocess.Popen[bytes]:
        """Start a worker: a nanny, and the process that works as its child."""
        options = ["--nthreads", "1", "--memory-limit", "0", "--host", "127.0.0.1"]
        return self._start(f"worker-{len(self._processes)}", "worker", self.address, *options, **environment)

    def working(self) -> list[int]:
        """Return the processes that do the work: each nanny's child that is no tracker of resources."""
        nannies = [process.pid for process in self._processes if process is not self.scheduler]
        return [pid for nanny in nannies for pid in group(nanny) if "spawn_main" in _command_of(pid)]

    def logs(self) -> str:
        """Return what all of them said."""
        return "".join(file.read_text(errors="replace") for file in sorted(self._folder.glob("*/log")))

    def stop(self) -> None:
        """Kill all of them."""
        for process in self._processes:
            kill_all(process)

    def _start(self, name: str, *arguments: object, **environment: str) -> subprocess.Popen[bytes]:
        folder = self._folder / name
        folder.mkdir(parents=True)
        command = [sys.executable, "-m", "dask", *map(str, arguments), "--no-dashboard", "--dashboard-address"]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [*command, "127.0.0.1:0"],
                cwd=folder,
                env=os.environ | {"TMPDIR": str(folder), "HOME": str(folder)} | self._environment | environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def _address(self) -> str:
        file = self._folder / "scheduler.json"
        give_up = time.monotonic() + _START_S
        while time.monotonic() < give_up and self.scheduler.poll() is None:
            if file.exists() and (text := file.read_text()):
                return str(json.loads(text)["address"])
            time.sleep(0.05)
        raise RuntimeError(f"the scheduler did not start: {self.logs()}")


def _command_of(pid: int) -> str:
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_text()
    return ""


@contextmanager
def dask_cluster(folder: Path, *, workers: int, **environment: str) -> Iterator[Cluster]:
    """Run a scheduler and so many workers while the block lasts."""
    cluster = Cluster(folder, environment)
    try:
        for _ in range(workers):
            cluster.add_worker()
        yield cluster
    finally:
        cluster.stop()


def kill_all(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and the ones it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def group(leader: int) -> set[int]:
    """Return the processes of a group that still run; what has ended and was not fetched yet is left out."""
    found = set()
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            state, _, of_group = file.read_text().rpartition(")")[2].split()[:3]
            if int(of_group) == leader and state != "Z":
                found.add(int(file.parent.name))
    return found


def is_ended(leader: int, *, within_s: float = 5.0) -> bool:
    """Return whether all processes of a group end within so many seconds."""
    give_up = time.monotonic() + within_s
    while group(leader):
        if time.monotonic() >= give_up:
            return False
        time.sleep(0.02)
    return True
