"""Decodes uploads in child processes: a few at once, each with a deadline, none left over.

A decoder is C code that was written for good files, so it runs where it can be killed. Starting Python and its
imports takes longer than most sounds take to decode, so one child is kept ready for the next upload; each is used once.
The upload and the samples are open files without names, passed over a socket: nothing is left on the disk, however
this ends, and a child that waits ends by itself when the server is gone.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import weakref
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from retrieval.web.errors import Refused

_EDGE_S = 0.02
"""At each end, where resampling makes a constant sound rise and fall."""
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadLimits:
    """What an upload may cost."""

    max_bytes: int = 50 * 2**20
    """Of the file."""
    min_duration_s: float = 0.05
    max_duration_s: float = 600.0
    """Of the sound."""
    silent_peak_dbfs: float = -80.0
    """Sound below it is silence, as it is for curation."""
    receive_timeout_s: float = 60.0
    decode_timeout_s: float = 20.0
    """By the clock, and of the processor."""
    decode_memory_bytes: int = 2**30
    """Address space of the child; with its libraries it begins at some 120 MB, 220 MB with PyAV."""
    decode_at_once: int = 2
    wait_s: float = 5.0
    """For one of those places."""


class Decoders:
    """The children of one app."""

    def __init__(self, limits: UploadLimits) -> None:
        self.limits = limits
        self._places = asyncio.Semaphore(limits.decode_at_once)
        self._ready: _Child | None = None

    def prepare(self) -> _Child:
        """Have a child start, if none is ready, while the upload still arrives."""
        if self._ready is None or not self._ready.is_alive():
            self._ready = _Child()
        return self._ready

    async def decode(self, upload: IO[bytes], *, sample_rate: int) -> np.ndarray:
        """Return a file's sound, mono at a rate in Hz, scaled to fit: float32 (S,) in [-1, 1].

        Cancelling kills the child.

        Raises:
            Refused: If the file gives no sound or nothing to hear, takes too much time or memory, or no place becomes
                free.
        """
        try:
            async with asyncio.timeout(self.limits.wait_s):
                await self._places.acquire()
        except TimeoutError as error:
            raise Refused(503, "Too many sounds at once. Wait a few seconds and try again.") from error
        try:
            with tempfile.TemporaryFile(prefix="wavtext5k-") as samples:
                await self._run(upload, samples, sample_rate)
                return await asyncio.to_thread(_read, samples, sample_rate, self.limits)
        finally:
            self._places.release()

    async def _run(self, upload: IO[bytes], samples: IO[bytes], sample_rate: int) -> None:
        limits = self.limits
        job = {
            "sample_rate": sample_rate,
            "max_duration_s": limits.max_duration_s,
            "timeout_s": limits.decode_timeout_s,
            "memory_bytes": limits.decode_memory_bytes,
        }
        child = self.prepare()
        self._ready = None
        try:
            async with asyncio.timeout(limits.decode_timeout_s):
                answer = await child.ask(job, upload, samples)
        except TimeoutError as error:
            raise Refused(422, f"This file takes more than {limits.decode_timeout_s:g} s to decode.") from error
        finally:
            code = child.end()
            self.prepare()
        if answer is None:
            _logger.warning("a decoder ended with code %s", code)
            raise Refused(
                422, "This file breaks the decoder, or takes too much of it. Convert it to WAV and try again."
            )
        if "problem" in answer:
            raise _unusable(answer["reason"], answer["problem"], limits)


class _Child:
    """A process that waits for its job, then does it and ends."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair()
        self._control.setblocking(False)
        search = os.pathsep.join(path for path in sys.path if path)  # so that it imports what we would
        threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        with theirs:
            self._process: subprocess.Popen[bytes] = subprocess.Popen(
                [sys.executable, "-P", "-m", "retrieval.web.decoder"],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # where MP3 decoders comment on every odd header
                env={**os.environ, **threads, "PYTHONPATH": search},
                start_new_session=True,
            )
        self._finalizer = weakref.finalize(self, _end, self._process, self._control)

    def is_alive(self) -> bool:
        """Return whether the process runs."""
        return self._process.poll() is None

    async def ask(self, job: dict[str, Any], upload: IO[bytes], samples: IO[bytes]) -> dict[str, Any] | None:
        """Return the answer to a job, None where the child died of it."""
        answer = b""
        with suppress(OSError):
            socket.send_fds(self._control, [json.dumps(job).encode()], [upload.fileno(), samples.fileno()])
            while part := await asyncio.get_running_loop().sock_recv(self._control, 2**16):
                answer += part
        try:
            found: dict[str, Any] = json.loads(answer)
        except ValueError:
            return None
        return found

    def end(self) -> int | None:
        """Kill the process if it still runs; return its exit code."""
        self._finalizer()
        return self._process.returncode


def _end(process: subprocess.Popen[bytes], control: socket.socket) -> None:
    control.close()
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _read(samples: IO[bytes], sample_rate: int, limits: UploadLimits) -> np.ndarray:
    """Return a decoder's samples, if there is something to hear in them."""
    samples.seek(0)
    waveform: np.ndarray = np.fromfile(samples, np.dtype("<f4")).astype(np.float32, copy=False)
    duration_s = len(waveform) / sample_rate
    if duration_s < limits.min_duration_s:
        least = f"{limits.min_duration_s:g} s"
        raise Refused(422, f"The sound is too short to search with: {duration_s:.3f} s, at least {least}.")
    faintest = 10 ** (limits.silent_peak_dbfs / 20)
    highest, lowest = float(waveform.max()), float(waveform.min())
    if max(highest, -lowest) < faintest:
        raise Refused(
            422, f"There is nothing to hear in this file: its sound stays below {limits.silent_peak_dbfs:g} dBFS."
        )
    edge = min(round(_EDGE_S * sample_rate), (len(waveform) - 1) // 2)
    inner = waveform[edge : len(waveform) - edge]
    highest, lowest = float(inner.max()), float(inner.min())
    if highest - lowest < 2 * faintest <= abs(highest + lowest):
        raise Refused(422, "There is nothing to hear in this file: all of its samples are one constant value.")
    return waveform


def _unusable(reason: str, problem: str, limits: UploadLimits) -> Refused:
    if reason == "disk":
        _logger.warning("no room for a decoder's sound: %s", problem)
        return Refused(507, "The server has no room for this sound.")
    if reason == "error":
        _logger.warning("a decoder failed: %s", problem)
        return Refused(422, "This file cannot be decoded. Convert it to WAV and try again.")
    if reason == "too_long":
        return Refused(422, f"The sound is longer than {limits.max_duration_s:g} s. Cut out the part that matters.")
    advice = " Send a WAV, FLAC, MP3, Ogg or AIFF file." if reason == "not_audio" else ""
    return Refused(415 if reason == "not_audio" else 422, f"There is no sound in this file: {problem}.{advice}")
