"""Work for the engine's tests: in a module of its own, since worker processes import it by name."""

from __future__ import annotations

import os
import time
from pathlib import Path


def square(number: int) -> int:
    return number * number


def process_id(number: int) -> int:
    time.sleep(0.05)
    return os.getpid()


def die_on_seven(number: int) -> int:
    if number == 7:
        os._exit(9)
    return number * number


def die_once(task: tuple[Path, int]) -> int:
    folder, number = task
    if number == 3 and not (folder / "died").exists():
        (folder / "died").touch()
        os._exit(9)
    return number


def fail_on_three(number: int) -> int:
    if number == 3:
        raise OSError(28, "No space left on device", "audio/3.flac")
    return number
