"""Work for the engine's tests: in a module of its own, since worker processes import it by name."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


def square(number: int) -> int:
    return number * number


def process_id(number: int) -> int:
    time.sleep(0.05)
    return os.getpid()


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def die_on_seven(number: int) -> int:
    if number % 100 == 7:
        os._exit(9)
    return number * number


def die_once(task: tuple[Path, int]) -> int:
    folder, number = task
    if number == 3 and not (folder / "died").exists():
        (folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def refuse(number: int) -> int:
    raise ValueError(f"{number} is no number")


def fail_on_three(number: int) -> int:
    if number == 3:
        raise OSError(28, "No space left on device", "audio/3.flac")
    return number


def interrupted(task: tuple[Path, int]) -> int:
    """Be interrupted half way, and say when all is done."""
    folder, number = task
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(1000):  # a handler that raises would do so here
        pass
    (folder / f"{number}.txt").touch()
    return number


def note(task: tuple[Path, int]) -> int:
    """Leave a line in a folder that all workers see, after a little while."""
    folder, number = task
    time.sleep(0.05)
    with (folder / f"{number}.txt").open("a") as file:
        file.write(f"{os.getpid()}\n")
    return number


def listening(number: int) -> list[str]:
    """Return the addresses at which this process and the one that started it listen for connections."""
    sockets = {str(file.readlink()) for pid in (os.getpid(), os.getppid()) for file in _files(pid)}
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    lines += [line.split() for line in Path("/proc/net/tcp6").read_text().splitlines()[1:]]
    return [line[1] for line in lines if line[3] == "0A" and f"socket:[{line[9]}]" in sockets]


def _files(pid: int) -> list[Path]:
    files = Path(f"/proc/{pid}/fd").iterdir()
    return [file for file in files if file.is_symlink()]
