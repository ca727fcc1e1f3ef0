"""For all tests: one thread a process, since the suite runs on every core; seeds; and the longest files first."""

from __future__ import annotations

import os
import random

import numpy as np
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; what tests start inherits it

_FIRST = ("tests/test_readme.py", "tests/demo/test_demo.py")  # minutes: begun last, they run while other cores idle


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, so that with --no-loadscope-reorder all workers end at about the same time."""
    items.sort(key=lambda item: not item.nodeid.startswith(_FIRST))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Seed what is drawn from, so that a test's models and sounds do not depend on the tests before it."""
    import torch

    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
