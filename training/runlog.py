"""What a run says while it runs: metrics.jsonl for programs, one line or a bar on stderr for people.

metrics.jsonl holds one object a line: ``kind`` is "train" (loss, scale, lr, pairs_per_s, data_wait: a share of the
time) or "val" (both directions' metrics); all have step and epoch, counted from 1. A line that a kill has cut off is
removed when the run goes on; readers pass over it (``read_log``).

Of several processes the first speaks and writes, and data_wait is its own; the others are told to be quiet.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from crawler.items import open_whole
from curation.errors import WavTextError
from training.trackers import Tracker

if TYPE_CHECKING:
    import torch

_SECONDS_BETWEEN_LINES = (5.0, 60.0)
"""At first, and once a run is long; in between a hundredth of its time, so that a log of days stays readable."""

_is_quiet = False

Item = TypeVar("Item")


class TrainingError(WavTextError):
    """A run that cannot go on; the message says what to change."""


class ProcessError(TrainingError):
    """The same, of one process of several, which alone knows it."""


class RunLog:
    """Appends to metrics.jsonl, each line at once, and hands it on to trackers."""

    def __init__(self, file: Path | None, *, step: int = 0, trackers: Sequence[Tracker] = ()) -> None:
        """Open the log of a run that is at ``step``; lines of later steps, which will be repeated, are removed.

        Args:
            file: metrics.jsonl. None: nothing is written, as in all processes of a run but the first.
            step: Of the checkpoint that the run goes on from.
            trackers: Opened for the same step.
        """
        self.file, self.trackers = file, list(trackers)
        if file is None:
            return
        kept = [json.dumps(line) + "\n" for line in read_log(file) if line["step"] <= step] if file.exists() else []
        with open_whole(file, "w") as whole:
            whole.writelines(kept)

    def write(self, kind: str, *, step: int, epoch: int, **values: Any) -> None:
        """Append one line. A tracker that fails is said and left out from then on."""
        if self.file is not None:
            line = json.dumps({"kind": kind, "step": step, "epoch": epoch, **values})
            with self.file.open("a", encoding="utf-8") as log:
                log.write(line + "\n")
        for tracker in list(self.trackers):
            try:
                tracker.write(kind, step=step, epoch=epoch, **values)
            except Exception as error:  # noqa: BLE001  others' code, which is not to end a run of days
                self._leave_out(tracker, error)

    def close(self) -> None:
        """Close the trackers."""
        for tracker in list(self.trackers):
            try:
                tracker.close()
            except Exception as error:  # noqa: BLE001  as above
                self._leave_out(tracker, error)
        self.trackers = []

    def _leave_out(self, tracker: Tracker, error: Exception) -> None:
        self.trackers.remove(tracker)
        name, reason = type(tracker).__name__, f"{type(error).__name__}: {error}"
        say(f"warning: {name} failed ({reason}) and is left out; the run goes on, and metrics.jsonl has every line")


def read_log(file: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a metrics.jsonl, in order.

    A run may be writing the file, or may have been killed at it: what is cut off, or no line of ours, is passed over.
    """
    lines = []
    for text in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        kinds = {"kind": str, "step": int, "epoch": int}
        if isinstance(line, dict) and all(isinstance(line.get(key), kind) for key, kind in kinds.items()):
            lines.append(line)
    return lines


class Progress:
    """A tqdm bar on a terminal; elsewhere a plain line every few seconds, later every minute."""

    def __init__(self, *, total: int, done: int, unit: str, label: str) -> None:
        """Start at ``done`` of ``total`` units of work."""
        self.total, self.done, self.unit, self.label = total, done, unit, label
        self._begun, self._begun_at, self._last = done, time.monotonic(), time.monotonic()
        self._bar: Any = None
        if sys.stderr.isatty() and not _is_quiet:
            from tqdm import tqdm

            self._bar = tqdm(total=total, initial=done, unit=unit, desc=label, dynamic_ncols=True)

    def advance(self, note: str = "", *, by: int = 1) -> None:
        """Count work as done; ``note`` says how it goes."""
        self.done += by
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(by)
        elif (now := time.monotonic()) - self._last >= self._pause(now):
            self._last = now
            left = (now - self._begun_at) / (self.done - self._begun) * (self.total - self.done)
            note = f"  {note}" if note else ""
            say(f"{self.label}  {self.unit} {self.done} of {self.total}{note}  {duration(left)} left")

    def _pause(self, now: float) -> float:
        """Return the seconds between lines by now."""
        shortest, longest = _SECONDS_BETWEEN_LINES
        return min(max((now - self._begun_at) / 100, shortest), longest)

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
        """Take in one step's loss, of ``pairs`` pairs over all processes; every few steps, write a line."""
        self.losses.append(loss)
        if step % self.every == 0:
            self.check(loss, step, None)
            seconds = max(time.monotonic() - self.since, 1e-9)
            mean = sum(loss.item() for loss in self.losses) / len(self.losses)
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
    """Print one line of the log to stderr, clear of a bar; nothing in a process that is to be quiet."""
    if _is_quiet:
        return
    if sys.stderr.isatty():
        from tqdm import tqdm

        tqdm.write(message, file=sys.stderr)
    else:
        print(message, file=sys.stderr, flush=True)


def set_quiet(is_quiet: bool) -> None:
    """Keep this process from saying anything, or let it again: of several that train together one speaks."""
    global _is_quiet
    _is_quiet = is_quiet


def duration(seconds: float) -> str:
    """Return a time as people say it: 42 s, 3 min 05 s, 2 h 40 min, 3 d 04 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    minutes = round(seconds / 60)
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24:02} h"
