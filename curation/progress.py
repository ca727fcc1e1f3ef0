"""Shows on stderr how far a command is: a bar on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

from tqdm import tqdm

_EVERY_S = 5.0


class Progress:
    """A context in which calls say how far the work is."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._bar: Any = None
        self._started = self._said = time.monotonic()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, done: int, total: int, dropped: int = 0) -> None:
        """Show that ``done`` of ``total`` clips are through, ``dropped`` of them not kept."""
        note = f"dropped {dropped}" if dropped else ""
        if sys.stderr.isatty():
            if self._bar is None:
                self._bar = tqdm(total=total, desc=self._what, unit="clip", file=sys.stderr)
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(done - self._bar.n)
            return
        now = time.monotonic()
        if done == total or now - self._said >= _EVERY_S:
            self._said = now
            rate = done / max(now - self._started, 1e-6)
            print(
                ", ".join(filter(None, [f"{self._what}: {done} of {total} clips", note, f"{rate:.0f} clips/s"])),
                file=sys.stderr,
            )


def line(verb: str, count: int, noun: str, details: list[str]) -> str:
    """Return one line of a command's result: "wrote        9 clips      0.03 h    data/curated/manifest.parquet"."""
    return f"{verb}{count:>{max(13 - len(verb), len(str(count)) + 1)}} {noun:<11}{'    '.join(details)}"
