"""What a benchmark says about the machine it ran on, and how it writes repeated figures."""

from __future__ import annotations

import os
import platform
import re
import statistics
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def cpu_model() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text("utf-8"), re.M)
    return found[1] if found else platform.machine()


def cores() -> int:
    return len(os.sched_getaffinity(0))


def versions(libraries: Iterable[str]) -> dict[str, str]:
    """Return the versions of those libraries that are installed, and Python's."""
    found = {"Python": platform.python_version()}
    for name in libraries:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Return "median (least-most)"."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"
