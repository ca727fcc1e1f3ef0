"""What a run says while it runs: metrics.jsonl for programs, one line or a bar on stderr for people.

metrics.jsonl holds one object a line: ``kind`` is "train" (loss, scale, lr, pairs_per_s, data_wait: a share of the
time) or "val" (both directions' metrics); all have step and epoch, counted from 1.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch

from crawler.items import open_whole
from curation.errors import WavTextError

_SECONDS_BETWEEN_LINES = 5.0


Item = TypeVar("Item")


class TrainingError(WavTextError):
    """A run that cannot go on; the message says what to change."""


class RunLog:
    """Appends to metrics.jsonl, each line at once."""

    def __init__(self, file: Path, *, step: int = 0) -> None:
        """Open the log of a run that is at ``step``; lines of later steps, which will be repeated, are removed."""
        self.file = file
        kept = []
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if file.exists() else []:
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line + "\n")
            except (ValueError, KeyError, TypeError):
                continue  # cut off by a kill, or no line of ours
        with open_whole(file, "w") as whole:
            whole.writelines(kept)

    def write(self, kind: str, *, step: int, epoch: int, **values: Any) -> None:
        """Append one line."""
        line = json.dumps({"kind": kind, "step": step, "epoch": epoch, **values})
        with self.file.open("a", encoding="utf-8") as log:
            log.write(line + "\n")


class Progress:
    """A tqdm bar on a terminal; elsewhere a plain line every few seconds."""

    def __init__(self, *, total: int, done: int, unit: str, label: str) -> None:
        """Start at ``done`` of ``total`` units of work."""
        self.total, self.done, self.unit, self.label = total, done, unit, label
        self._begun, self._begun_at, self._last = done, time.monotonic(), time.monotonic()
        self._bar: Any = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total, initial=done, unit=unit, desc=label, dynamic_ncols=True)

    def advance(self, note: str = "", *, by: int = 1) -> None:
        """Count work as done; ``note`` says how it goes."""
        self.done += by
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(by)
        elif time.monotonic() - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            left = (self._last - self._begun_at) / (self.done - self._begun) * (self.total - self.done)
            note = f"  {note}" if note else ""
            say(f"{self.label}  {self.unit} {self.done} of {self.total}{note}  {left:.0f} s left")

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.close()


class Meter:
    """Averages between log lines, and shows them."""

    def __init__(self, log: RunLog, every: int, total: int, done: int) -> None:
        self.log, self.every = log, every
        self.progress = Progress(total=total, done=done, unit="step", label="training")
        self.losses: list[torch.Tensor] = []
        self.waited, self.since, self.note = 0.0, time.monotonic(), ""

    def timed(self, batches: Iterator[Item]) -> Iterator[Item]:
        """Yield batches, measuring how long they are waited for."""
        while True:
            begun = time.monotonic()
            batch = next(batches, None)
            self.waited += time.monotonic() - begun
            if batch is None:
                return
            yield batch

    def count(
        self,
        loss: torch.Tensor,
        *,
        logit_scale: torch.Tensor,
        lr: float,
        step: int,
        epoch: int,
        pairs: int,
    ) -> None:
        """Take in one step's loss; every few steps, write a line."""
        self.losses.append(loss)
        if step % self.every == 0:
            self.check(loss, step, None)
            seconds = max(time.monotonic() - self.since, 1e-9)
            mean = torch.stack(self.losses).mean().item()
            scale, speed = logit_scale.exp().item(), pairs * len(self.losses) / seconds
            self.log.write(
                "train",
                step=step,
                epoch=epoch,
                loss=mean,
                scale=scale,
                lr=lr,
                pairs_per_s=round(speed, 1),
                data_wait=round(self.waited / seconds, 3),
            )
            wait = 100 * self.waited / seconds
            self.note = f"epoch {epoch}  loss {mean:.3f}  scale {scale:.1f}  {speed:.0f} pairs/s  wait {wait:.0f} %"
            self.losses, self.waited, self.since = [], 0.0, time.monotonic()
        self.progress.advance(self.note)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the time of the block out of the speed."""
        begun = time.monotonic()
        yield
        self.since += time.monotonic() - begun

    def check(self, loss: torch.Tensor, step: int, saved_step: int | None) -> None:
        """Refuse to go on with a loss that is not finite."""
        value = loss.item()
        if not math.isfinite(value):
            kept = "" if saved_step is None else f"; the last checkpoint is of step {saved_step}"
            raise TrainingError(
                f"step {step}: the loss is {value}; lower optimizer.lr, set optimizer.clip_norm=1, "
                f"or use run.precision=float32, under another run.name{kept}"
            )

    def close(self) -> None:
        """End the progress bar."""
        self.progress.close()


def say(message: str) -> None:
    """Print one line of the log to stderr, clear of a bar."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        tqdm.write(message, file=sys.stderr)
    else:
        print(message, file=sys.stderr, flush=True)
