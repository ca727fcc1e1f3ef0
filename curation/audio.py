"""Decodes, resamples and writes sound; the only module that opens audio files.

libsndfile (soundfile) decodes; what it cannot (AAC, ALAC, WMA), PyAV does where it is installed. Samples are read in
blocks and never by the length a header declares: three real MP3s declare 80 to 120 million frames and hold 20
thousand. Channels are mixed to mono by their mean; soxr HQ resamples (-0.01 dB at 20 kHz, aliases at -137 dB); FLAC
holds 16 bits, rounded without dither, so that 16-bit mono sound at 44.1 kHz comes through bit for bit.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import itertools
import math
import os
import re
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from crawler.items import open_whole
from curation.errors import AudioError
from curation.filters import DropReason

SAMPLE_RATE = 44_100
"""Hz, of every clip in a manifest."""

AUDIO_VERSION = (
    f"1 soundfile {soundfile.__version__} {soundfile.__libsndfile_version__} soxr {soxr.__version__}"
    f" av {importlib.util.find_spec('av') is not None}"
)
"""What a finished clip depends on besides its file: raise the number when this module writes other bytes."""

Waveform = npt.NDArray[np.float32]
Pcm = npt.NDArray[np.int16]

_BLOCK = 65_536  # frames
_LARGEST = 32_767 / 32_768  # of full scale, in 16 bits
_FLOOR_DBFS = -200.0  # stands for digital silence, whose level is minus infinity
_MISSING = 0.01  # share of a file's declared data that may be missing before it counts as truncated
_STREAMED = 0x7FFF_F000  # a declared length from here on means "not known when the header was written"

# MP4, ASF (WMA), Matroska, AAC, Ogg (Speex): what FFmpeg reads and libsndfile does not.
_FFMPEG_MAGIC = re.compile(rb"....ftyp|\x30\x26\xb2\x75|\x1a\x45\xdf\xa3|\xff[\xf0\xf1\xf8\xf9]|OggS", re.DOTALL)
_AUDIO_MAGIC = re.compile(rb"\0*(?:RIFF|RIFX|RF64|riff|FORM|fLaC|ID3|\.snd|caff|wvpk|\xff[\xe0-\xff])")
_LARGEST_OGG_PAGE = 65_307  # bytes
# libsndfile's log names the chunk that holds the samples in each container: WAV and CAF, AIFF, AU, RF64, W64.
_SHORT_DATA = re.compile(r"^\s*(?:data|SSND|Data Size|Riff size|riff)\s*:\s*(\d+) \(should be (\d+)\)", re.MULTILINE)


class UnusableAudioError(AudioError):
    """A file that gives no whole sound; ``reason`` says which kind, ``problem`` what was found, without the path."""

    def __init__(self, path: Path, reason: DropReason, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.reason = reason
        self.problem = problem


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioInfo:
    """What a file's header says; num_samples is a claim, not a count."""

    sample_rate: int
    channels: int
    num_samples: int
    subtype: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decoded:
    """A decoded file, mixed to mono at its own rate."""

    waveform: Waveform
    """(S,), 1.0 is full scale; lossy formats and float files may go beyond."""
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


def probe(path: Path) -> AudioInfo:
    """Return what libsndfile reads in a file's header.

    Raises:
        AudioError: If it is not audio that libsndfile knows.
    """
    _refuse_text(path)
    with _open(path) as file:
        return AudioInfo(
            sample_rate=file.samplerate, channels=file.channels, num_samples=file.frames, subtype=file.subtype
        )


def decode(path: Path, *, max_duration_s: float = math.inf) -> Decoded:
    """Return the sound of a file.

    Args:
        path: Any audio file; its content decides, not its name.
        max_duration_s: Decoding stops with too_long beyond it, so that memory stays bounded.

    Raises:
        UnusableAudioError: not_audio, undecodable, empty_audio, truncated, too_long or not_finite.
        OSError: If the file cannot be read.
    """
    _refuse_text(path)
    try:
        return _decode_soundfile(path, max_duration_s)
    except UnusableAudioError as error:
        if error.reason not in (DropReason.UNDECODABLE, DropReason.EMPTY_AUDIO) or not _has_av():
            raise
        return _decode_av(path, max_duration_s)


def resample(waveform: Waveform, *, source_rate: int, target_rate: int = SAMPLE_RATE) -> Waveform:
    """Return a waveform (S,) at another rate in Hz, of the same duration within one sample (soxr, HQ)."""
    if source_rate == target_rate:
        return waveform
    resampled: Waveform = soxr.resample(waveform, source_rate, target_rate, "HQ")
    return resampled


def to_pcm(waveform: Waveform) -> tuple[Pcm, float]:
    """Return a waveform (S,) as 16-bit samples, and the gain in dB that made it fit: 0.0 where it fits."""
    rounded = np.rint(waveform * np.float32(32_768))
    if len(rounded) == 0 or (rounded.max() <= 32_767 and rounded.min() >= -32_768):
        return rounded.astype(np.int16), 0.0
    gain = _LARGEST / float(np.abs(waveform).max())
    return np.rint(waveform * np.float32(gain * 32_768)).astype(np.int16), 20 * math.log10(gain)


def levels_dbfs(pcm: Pcm) -> tuple[float, float]:
    """Return peak and root mean square of 16-bit samples (S,), dB re full scale; -200 for digital silence."""
    if len(pcm) == 0:
        return _FLOOR_DBFS, _FLOOR_DBFS
    peak = int(np.abs(pcm.astype(np.int32)).max()) / 32_768
    rms = math.sqrt(float(np.mean(np.square(pcm, dtype=np.float64)))) / 32_768
    return _dbfs(peak), _dbfs(rms)


def write_flac(path: Path, pcm: Pcm) -> str:
    """Write 16-bit samples (S,) at 44.1 kHz as FLAC, whole or not at all, and return the sha256 of the file.

    Raises:
        OSError: If the disk is full. (Encoded in memory: libsndfile itself reports a full disk as "System error".)
    """
    encoded = io.BytesIO()
    soundfile.write(encoded, pcm, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    with open_whole(path) as file:
        file.write(encoded.getbuffer())
    return hashlib.sha256(encoded.getbuffer()).hexdigest()


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
            raise AudioError(f"{path}: {_said(error)}") from error
    return waveform


def load_waveform(path: Path, *, sample_rate: int = SAMPLE_RATE) -> Waveform:
    """Return any audio file as a mono waveform: float32 (S,) in [-1, 1], at the given rate, scaled to fit if need be.

    Raises:
        AudioError: If the file gives no sound; the message names it.
    """
    try:
        decoded = decode(path)
    except OSError as error:
        raise AudioError(f"{path}: {error.strerror or error}") from error
    waveform = resample(decoded.waveform, source_rate=decoded.sample_rate, target_rate=sample_rate)
    peak = float(np.abs(waveform).max(initial=0))
    return waveform if peak <= 1 else waveform * np.float32(1 / peak)


@contextmanager
def decoder_notes_off() -> Iterator[None]:
    """Keep libsndfile's MP3 decoder from writing to stderr: it comments on every odd header and names no file.

    For processes with one thread that reads audio; the process's stderr is away while it lasts.
    """
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _decode_soundfile(path: Path, max_duration_s: float) -> Decoded:
    with _open(path) as file:
        missing = _missing_share(file.extra_info)
        if missing > _MISSING:
            raise UnusableAudioError(
                path, DropReason.TRUNCATED, f"truncated: {missing:.0%} of the declared data is missing"
            )
        if file.format == "OGG" and _is_ogg_cut(path):
            raise UnusableAudioError(path, DropReason.TRUNCATED, "truncated: the last Ogg page is missing")
        mix = _Mix(path, file.samplerate, file.channels, max_duration_s)
        try:
            while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
                mix.add(block)
        except soundfile.LibsndfileError as error:
            if file.format == "FLAC" and mix.num_samples < file.frames:
                problem = f"truncated: decoding stops between sample {mix.num_samples} and {file.frames}"
                raise UnusableAudioError(path, DropReason.TRUNCATED, problem) from error
            raise UnusableAudioError(path, DropReason.UNDECODABLE, f"undecodable: {_said(error)}") from error
        return mix.decoded(file.subtype, missing)


def _decode_av(path: Path, max_duration_s: float) -> Decoded:
    """Decode through FFmpeg's libraries; only reached where PyAV is installed and libsndfile gives nothing."""
    import av

    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise UnusableAudioError(path, DropReason.NOT_AUDIO, "not audio: no audio stream in it")
            mix = None
            packed = av.AudioResampler(format="flt")  # sample format only: rate and channels stay
            for frame in itertools.chain(container.decode(audio=0), [None]):
                for block in packed.resample(frame):
                    # Of the decoded block: an HE-AAC header declares half the rate.
                    mix = mix or _Mix(path, block.sample_rate, block.layout.nb_channels, max_duration_s)
                    mix.add(block.to_ndarray().reshape(-1, mix.channels))
            if mix is None:
                raise UnusableAudioError(path, DropReason.EMPTY_AUDIO, "empty: no samples in it")
            return mix.decoded(container.streams.audio[0].codec_context.name.upper(), 0.0)
    except av.FFmpegError as error:
        raise UnusableAudioError(path, DropReason.UNDECODABLE, f"undecodable: {error.strerror}") from error


class _Mix:
    """Takes blocks (S, C), hashes them as they are and keeps their mean over channels."""

    def __init__(self, path: Path, sample_rate: int, channels: int, max_duration_s: float) -> None:
        self.path, self.sample_rate, self.channels = path, sample_rate, channels
        self.max_duration_s = max_duration_s
        self.num_samples = 0
        self._hash = hashlib.sha256(struct.pack("<II", sample_rate, channels))
        self._blocks: list[Waveform] = []

    def add(self, block: Waveform) -> None:
        if not np.isfinite(block).all():
            problem = f"NaN or infinite samples between {self.num_samples} and {self.num_samples + len(block)}"
            raise UnusableAudioError(self.path, DropReason.NOT_FINITE, problem)
        self._hash.update(np.ascontiguousarray(block, dtype="<f4").data)
        self._blocks.append(block[:, 0].copy() if self.channels == 1 else block.mean(axis=1, dtype=np.float32))
        self.num_samples += len(block)
        if self.num_samples > self.max_duration_s * self.sample_rate:
            problem = f"too long: more than {self.max_duration_s:g} s"
            raise UnusableAudioError(self.path, DropReason.TOO_LONG, problem)

    def decoded(self, subtype: str, missing: float) -> Decoded:
        if not self.num_samples:
            raise UnusableAudioError(self.path, DropReason.EMPTY_AUDIO, "empty: no samples in it")
        return Decoded(
            waveform=np.concatenate(self._blocks),
            sample_rate=self.sample_rate,
            channels=self.channels,
            subtype=subtype,
            pcm_sha256=self._hash.hexdigest(),
            missing=missing,
        )


@contextmanager
def _open(path: Path) -> Iterator[soundfile.SoundFile]:
    try:
        # soundfile itself encodes a name and knows no bytes that are not UTF-8; on Windows it wants the name.
        file = soundfile.SoundFile(path if sys.platform == "win32" else os.fsencode(path))
    except soundfile.LibsndfileError as error:
        raise _unopened(path, _said(error)) from error
    with file:
        yield file


def _refuse_text(path: Path) -> None:
    """Refuse what cannot be audio by its first bytes, before a tolerant decoder finds MPEG frames in a web page."""
    head = _head(path)
    if not head:
        raise UnusableAudioError(path, DropReason.EMPTY_AUDIO, "empty: 0 bytes")
    if not _AUDIO_MAGIC.match(head) and not re.search(rb"[\x00-\x08\x0e-\x1f\x7f]", head):
        raise _not_audio(path, head)


def _unopened(path: Path, said: str) -> AudioError:
    if not path.is_file():
        return AudioError(f"{path}: no such file")
    head = _head(path)
    if _FFMPEG_MAGIC.match(head):
        hint = "" if _has_av() else '; PyAV may decode it: pip install "wavtext5k[av]"'
        return UnusableAudioError(path, DropReason.UNDECODABLE, f"undecodable: {said}{hint}")
    if _AUDIO_MAGIC.match(head):
        return UnusableAudioError(path, DropReason.UNDECODABLE, f"undecodable: {said}")
    return _not_audio(path, head)


def _not_audio(path: Path, head: bytes) -> UnusableAudioError:
    shown = repr(head[:16].decode("latin-1"))
    what = "a Git LFS pointer; " if head.startswith(b"version https://git-lfs") else ""
    return UnusableAudioError(path, DropReason.NOT_AUDIO, f"not audio: {what}the first bytes are {shown}")


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(512)


def _missing_share(log: str) -> float:
    """Return the largest share of data that libsndfile found missing; it reads a cut file without complaint."""
    pairs = [(int(declared), int(found)) for declared, found in _SHORT_DATA.findall(log)]
    return max([1 - found / declared for declared, found in pairs if found < declared < _STREAMED], default=0.0)


def _is_ogg_cut(path: Path) -> bool:
    """Return whether an Ogg file ends before its last page, which carries a mark (RFC 3533, section 6)."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _LARGEST_OGG_PAGE))
        tail = file.read()
    page = tail[tail.rfind(b"OggS") :]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return True
    is_last = bool(page[5] & 4)
    return not is_last or len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]])


def _said(error: soundfile.LibsndfileError) -> str:
    # libsndfile says "File does not exist" of every MP3 in which mpg123 finds no frame.
    said = str(error.error_string).rstrip(".") or f"libsndfile error {error.code}"
    return "no MPEG frames found" if said.startswith("File does not exist") else said


def _has_av() -> bool:
    return importlib.util.find_spec("av") is not None


def _dbfs(amplitude: float) -> float:
    return 20 * math.log10(amplitude) if amplitude else _FLOOR_DBFS
