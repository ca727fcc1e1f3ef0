"""Hears, resamples and writes sound: the face of everything that opens audio files.

``listen`` is the way from any file to a clip: decoded in blocks (``curation.decoding``), mixed to mono, resampled by
soxr HQ (-0.01 dB at 20 kHz, aliases at -137 dB), kept in memory up to 64 MiB and in a temporary file from there on,
then written as FLAC: 16 bits, rounded without dither, so that 16-bit mono sound at 44.1 kHz comes through bit for bit.
DC offset and silence at the ends are kept; sound above full scale is scaled to fit, not clipped.

Channels are mixed by their mean, and the manifest says so. The mean can never exceed full scale and treats all
channels alike. A mix that keeps energy (a sum over the root of N) makes a mono recording stored in two channels 3 dB
louder than itself, and clips; the left channel alone loses what was recorded on the right. Its one weakness, stereo in
opposite phase, which cancels, is found and named: see ``ClipSound.downmix``.
"""

from __future__ import annotations

import hashlib
import math
import os
import struct
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import soundfile
import soxr

from curation.decoding import UnusableAudioError, av_version, decode_into, said, unopened
from curation.errors import AudioError
from curation.filters import DropReason
from curation.flac import SAMPLE_RATE, Bits, Waveform, Written, dbfs, to_pcm, write_blocks, write_flac

__all__ = [
    "AUDIO_VERSION",
    "SAMPLE_RATE",
    "ClipSound",
    "UnusableAudioError",
    "Waveform",
    "Written",
    "decoder_notes_off",
    "listen",
    "load_waveform",
    "read_clip",
    "resample",
    "to_pcm",
    "write_flac",
]

AUDIO_VERSION = (
    f"2 soundfile {soundfile.__version__} {soundfile.__libsndfile_version__} soxr {soxr.__version__} av {av_version()}"
)
"""What a finished clip depends on besides its file: raise the number when other bytes or verdicts come out."""

_RATES = (1_000, 768_000)  # Hz; a header that says less or more is broken
_IN_MEMORY = 2**26  # bytes of sound; 6 minutes
_BLOCK = 2**16  # samples read back at once
_LARGEST = 1e30  # times full scale; beyond it the sum of channels may be infinite


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClipSound:
    """The sound of a file, mono at the target rate, for as long as its ``listen`` lasts."""

    sample_rate: int
    channels: int
    """Of the file, before the mix."""
    subtype: str
    """As libsndfile names it: PCM_16, MPEG_LAYER_III, ...; as FFmpeg does, in capitals, where PyAV decoded."""
    pcm_sha256: str
    """Of rate, channel count and the samples as little-endian float32, channels interleaved. Float32 holds integers of
    up to 24 bits exactly, so a 16-bit WAV, its AIFF and its FLAC agree."""
    missing: float
    """Share of the declared data that the file lacks; 0 where it is whole, never above 0.01."""
    highest: float
    lowest: float
    """Largest and smallest sample after mix and resampling; 1.0 is full scale."""
    channel_peak: float
    """Largest absolute sample of any channel, before the mix."""
    spool: _Spool

    @property
    def num_samples(self) -> int:
        """Samples after resampling."""
        return self.spool.num_samples

    @property
    def peak_dbfs(self) -> float:
        """Peak after mix and resampling, before scaling to fit; dB re full scale, -200 for digital silence."""
        return dbfs(max(self.highest, -self.lowest))

    @property
    def downmix(self) -> str:
        """What the manifest and a dropped clip's detail say about channels: "mean of 2 channels"; "" for mono.

        Where the mix is 20 dB quieter than one channel among silent ones would be, the channels cancel each other.
        """
        if self.channels == 1:
            return ""
        mixed = f"mean of {self.channels} channels"
        if max(self.highest, -self.lowest) * 10 * self.channels >= self.channel_peak:
            return mixed
        loudest = f"the loudest peaks at {dbfs(self.channel_peak):.1f} dBFS"
        return f"{mixed}, which cancel each other (opposite phase): {loudest}, the mean at {self.peak_dbfs:.1f} dBFS"

    def blocks(self) -> Iterator[Waveform]:
        """Yield the samples, float32 (S,); again from the start at every call. Not to be written to."""
        return self.spool.blocks()

    def write_flac(self, path: Path, *, bits: Bits = 16) -> Written:
        """Write the sound as FLAC, whole or not at all, scaled to fit if it does not.

        Raises:
            OSError: If the file cannot be written, as on a full disk.
        """
        return write_blocks(path, self.blocks(), highest=self.highest, lowest=self.lowest, bits=bits)


@contextmanager
def listen(
    path: Path, *, max_duration_s: float = math.inf, sample_rate: int | None = SAMPLE_RATE
) -> Iterator[ClipSound]:
    """Hear a file: the sound is there until the block ends.

    Args:
        path: Any audio file; its content decides, not its name.
        max_duration_s: Decoding stops with too_long beyond it, so that disk and time stay bounded.
        sample_rate: Hz, to resample to; None keeps the file's own.

    Raises:
        UnusableAudioError: missing_audio, not_audio, undecodable, empty_audio, truncated, too_long or not_finite:
            whatever is wrong with the file.
        OSError: If the disk for temporary files (TMPDIR) is full.
    """
    ear = _Ear(path, max_duration_s, sample_rate)
    try:
        yield ear.hear()
    finally:
        ear.spool.close()


def load_waveform(path: Path, *, sample_rate: int = SAMPLE_RATE) -> Waveform:
    """Return any audio file as a mono waveform: float32 (S,) in [-1, 1], at the given rate, scaled to fit if need be.

    Raises:
        AudioError: If the file gives no sound; the message names it.
    """
    with listen(path, sample_rate=sample_rate) as sound:
        waveform: Waveform = np.concatenate([*sound.blocks(), np.empty(0, np.float32)])
        peak = max(sound.highest, -sound.lowest)
    return waveform if peak <= 1 else waveform * np.float32(1 / peak)


def resample(waveform: Waveform, *, source_rate: int, target_rate: int = SAMPLE_RATE) -> Waveform:
    """Return a waveform (S,) at another rate in Hz, of the same duration within one sample (soxr, HQ).

    To the last bit what ``listen`` makes of the same samples in blocks.
    """
    if source_rate == target_rate:
        return waveform
    resampled: Waveform = soxr.resample(waveform, source_rate, target_rate, "HQ")
    return resampled


def read_clip(path: Path, *, start: int = 0, num_samples: int | None = None) -> Waveform:
    """Return samples of a manifest's FLAC: float32 (S,) in [-1, 1).

    Args:
        path: A mono file at 44.1 kHz.
        start: First sample.
        num_samples: How many; fewer come back where the clip ends before. None: to the end.

    Raises:
        AudioError: If the file cannot be decoded, or is not mono at 44.1 kHz.
        ValueError: If start is outside the clip.
    """
    with _open(path) as file:
        if (file.samplerate, file.channels) != (SAMPLE_RATE, 1):
            raise AudioError(
                f"{path}: {file.samplerate} Hz, {file.channels} channels; a clip has {SAMPLE_RATE} Hz and 1"
            )
        if not 0 <= start <= file.frames:
            raise ValueError(f"start must be between 0 and the clip's {file.frames} samples, got {start}")
        try:
            file.seek(start)
            waveform: Waveform = file.read(-1 if num_samples is None else num_samples, dtype="float32")
        except soundfile.LibsndfileError as error:
            raise AudioError(f"{path}: {said(error)}") from error
    return waveform


class _Stderr:
    """The process's stderr while the decoder's notes are kept from it, by one thread or several."""

    lock = threading.Lock()
    blocks = 0
    """That are running now: the first puts stderr away, the last brings it back."""
    kept = -1
    """A file descriptor of the stderr that was put away."""


@contextmanager
def decoder_notes_off() -> Iterator[None]:
    """Keep libsndfile's MP3 decoder from writing to stderr: it comments on every odd header and names no file.

    The whole process's stderr is away while it lasts in any thread.
    """
    with _Stderr.lock:
        if _Stderr.blocks == 0:
            sys.stderr.flush()
            _Stderr.kept = os.dup(2)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 2)
            os.close(nowhere)
        _Stderr.blocks += 1
    try:
        yield
    finally:
        with _Stderr.lock:
            _Stderr.blocks -= 1
            if _Stderr.blocks == 0:
                os.dup2(_Stderr.kept, 2)
                os.close(_Stderr.kept)


class _Ear:
    """A decoder's receiver: checks blocks, hashes them as they are, keeps their mean over channels at another rate."""

    def __init__(self, path: Path, max_duration_s: float, target_rate: int | None) -> None:
        self.path, self.max_duration_s, self.target_rate = path, max_duration_s, target_rate
        self.spool = _Spool()

    def hear(self) -> ClipSound:
        """Decode the file."""
        source = decode_into(self, self.path)
        if self._resampler is not None:
            self._keep(self._resampler.resample_chunk(np.empty(0, np.float32), last=True))
        return ClipSound(
            sample_rate=self.sample_rate,
            channels=self.channels,
            subtype=source.subtype,
            pcm_sha256=self._hash.hexdigest(),
            missing=source.missing,
            highest=self._highest,
            lowest=self._lowest,
            channel_peak=self._channel_peak,
            spool=self.spool,
        )

    def begin(self, sample_rate: int, channels: int) -> None:
        if not _RATES[0] <= sample_rate <= _RATES[1]:
            problem = f"undecodable: the header says {sample_rate} Hz; sound has {_RATES[0]} to {_RATES[1]}"
            raise UnusableAudioError(self.path, DropReason.UNDECODABLE, problem)
        self.sample_rate, self.channels, self.num_samples = sample_rate, channels, 0
        self.spool.clear()
        self._hash = hashlib.sha256(struct.pack("<II", sample_rate, channels))
        self._highest = self._lowest = self._channel_peak = 0.0
        self._resampler = None
        if self.target_rate not in (None, sample_rate):
            self._resampler = soxr.ResampleStream(sample_rate, self.target_rate, 1, "float32", "HQ")

    def add(self, block: Waveform) -> None:
        peak = max(float(block.max()), -float(block.min()))
        if not peak <= _LARGEST:  # NaN, which max and min pass on, is not
            first = self.num_samples + int((np.abs(block) <= _LARGEST).all(axis=1).argmin())
            problem = f"NaN, infinite or absurdly large samples, the first is sample {first}"
            raise UnusableAudioError(self.path, DropReason.NOT_FINITE, problem)
        self._channel_peak = max(self._channel_peak, peak)
        self._hash.update(np.ascontiguousarray(block, dtype="<f4").data)
        self.num_samples += len(block)
        if self.num_samples > self.max_duration_s * self.sample_rate:
            problem = f"too long: more than {self.max_duration_s:g} s"
            raise UnusableAudioError(self.path, DropReason.TOO_LONG, problem)
        mono = _mean(block)
        self._keep(mono if self._resampler is None else self._resampler.resample_chunk(mono))

    def _keep(self, block: Waveform) -> None:
        if len(block):
            self._highest = max(self._highest, float(block.max()))
            self._lowest = min(self._lowest, float(block.min()))
            self.spool.add(block)


class _Spool:
    """Keeps blocks of samples in memory, and all of them in a temporary file without a name once they are many."""

    def __init__(self) -> None:
        self.num_samples = 0
        self._is_closed = False
        self._blocks: list[Waveform] = []
        self._file: IO[bytes] | None = None

    def add(self, block: Waveform) -> None:
        self.num_samples += len(block)
        self._blocks.append(block)
        if self._file is not None or self.num_samples * 4 > _IN_MEMORY:
            try:
                self._file = self._file or tempfile.TemporaryFile(prefix="wavtext5k-")  # noqa: SIM115, closed by close
                for held in self._blocks:
                    self._file.write(held.data)
                self._file.flush()
            except OSError as error:
                error.filename = error.filename or tempfile.gettempdir()  # which disk is full
                raise
            self._blocks = []

    def blocks(self) -> Iterator[Waveform]:
        if self._is_closed:
            raise ValueError("the sound is there only until its listen block ends")
        yield from self._blocks
        if self._file is not None:
            for start in range(0, self.num_samples, _BLOCK):
                self._file.seek(start * 4)
                yield np.frombuffer(self._file.read(_BLOCK * 4), np.float32)

    def clear(self) -> None:
        if self._file is not None:
            self._file.close()
        self.num_samples, self._blocks, self._file = 0, [], None

    def close(self) -> None:
        num_samples, self._is_closed = self.num_samples, True
        self.clear()
        self.num_samples = num_samples


@contextmanager
def _open(path: Path) -> Iterator[soundfile.SoundFile]:
    try:
        # soundfile itself encodes a name and knows no bytes that are not UTF-8; on Windows it wants the name.
        file = soundfile.SoundFile(path if sys.platform == "win32" else os.fsencode(path))
    except soundfile.LibsndfileError as error:
        raise unopened(path, error) from error
    with file:
        yield file


def _mean(block: Waveform) -> Waveform:
    """Return the mean of channels (S,), a new array; column by column, 30 times as fast as numpy's mean of rows."""
    if block.shape[1] == 1:
        return block[:, 0].copy()
    total: Waveform = block[:, 0] + block[:, 1]
    for channel in range(2, block.shape[1]):
        total += block[:, channel]
    total /= np.float32(block.shape[1])
    return total
