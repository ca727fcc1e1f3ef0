"""Turns an audio file into blocks of samples, or says why it gives no whole sound.

libsndfile (soundfile) decodes; PyAV, where it is installed, does what libsndfile cannot: AAC, ALAC, WMA, Speex, and
MP3, FLAC or Ogg files that libsndfile would leave before their end. PyAV is second because FFmpeg takes no notice of
damage: it skips what it cannot read, and so makes a shorter sound of a broken file. For the same reason a file that
breaks while libsndfile decodes it is not tried again.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import soundfile

from curation import headers
from curation.errors import AudioError
from curation.filters import DropReason
from curation.flac import Waveform

_BLOCK = 2**17  # samples of all channels together: a file of 1,024 channels takes no more memory than a mono one
_MISSING = 0.01  # share of a file's declared data that may be missing before it counts as truncated
_UNKNOWN = 2**62  # libsndfile's number of samples where none is declared is beyond it

_BETTER_WORDS = {
    "File does not exist": "no MPEG frames found",  # said of every MP3 without
    "Internal error : SF_INFO": "the header gives no sample rate",
}

# What FFmpeg may take a file for: no playlists or lists of files, which name other files and addresses to be opened.
_DEMUXERS = "aac,ac3,aiff,amr,asf,au,caf,flac,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mp3,ogg,w64,wav,wv"
_SHORTEST_LOSS_S = 0.1  # by which an encoder's padding may make a declared duration wrong


class UnusableAudioError(AudioError):
    """A file that gives no whole sound; ``reason`` says which kind, ``problem`` what was found, without the path."""

    def __init__(self, path: Path, reason: DropReason, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.reason = reason
        self.problem = problem


class Receiver(Protocol):
    """Takes a file's sound block by block."""

    num_samples: int
    """Taken since ``begin``, per channel."""

    def begin(self, sample_rate: int, channels: int) -> None:
        """Make ready. Called again where another decoder starts over: what came before is void."""

    def add(self, block: Waveform) -> None:
        """Take samples (S, C); their memory is used again for the next block."""


@dataclass(frozen=True, slots=True)
class Source:
    """What is known of a decoded file besides its samples."""

    subtype: str
    missing: float
    """Share of the declared data that is not there, at most 0.01."""


def decode_into(receiver: Receiver, path: Path) -> Source:
    """Decode a file; its content decides, not its name.

    Raises:
        UnusableAudioError: missing_audio, not_audio, undecodable, empty_audio or truncated.
        Exception: What the receiver raises.
    """
    with _opened(path) as file:
        before = os.fstat(file.fileno())
        try:
            source = _decode(file, receiver, path)
        except UnusableAudioError:
            if file.error is None and _is_same(before, os.fstat(file.fileno())):
                raise
            source = None  # what was found is of no account
        if file.error is not None:
            raise UnusableAudioError(path, DropReason.MISSING_AUDIO, f"cannot be read: {file.error.strerror}")
        if source is None or not _is_same(before, os.fstat(file.fileno())):
            problem = "changed while it was being read; run again when nothing writes to it"
            raise UnusableAudioError(path, DropReason.MISSING_AUDIO, problem)
    return source


def unopened(path: Path, error: soundfile.LibsndfileError) -> AudioError:
    """Return the error for a file that libsndfile could not open."""
    if not path.is_file():
        return AudioError(f"{path}: no such file")
    with path.open("rb") as file:
        head = file.read(headers.HEAD)
    if headers.begins_like_audio(head):
        return UnusableAudioError(path, DropReason.UNDECODABLE, f"undecodable: {said(error)}")
    return UnusableAudioError(path, DropReason.NOT_AUDIO, headers.describe_head(head))


def said(error: soundfile.LibsndfileError) -> str:
    """Return libsndfile's words, or better ones."""
    words = str(error.error_string).rstrip(".") or f"libsndfile error {error.code}"
    return next((better for begin, better in _BETTER_WORDS.items() if words.startswith(begin)), words)


def av_version() -> str:
    """Return the version of PyAV, "" where it is not installed."""
    try:
        return version("av")
    except PackageNotFoundError:
        return ""


class _SourceFile(io.FileIO):
    """The file as both libraries read it: through callbacks, which must not raise, so an error is kept and ends it."""

    error: OSError | None = None
    start = 0
    """Bytes before it are not there for who reads: see headers.find_mp3."""
    unset_size: int | None = None
    """Where 4 bytes read as 0xFFFFFFFF, "as long as the file": see headers.find_unset_data_size."""

    def readinto(self, buffer: Any, /) -> int:
        try:
            count = super().readinto(buffer) or 0
        except OSError as error:
            self.error = error
            return 0
        if self.unset_size is not None:
            at = self.tell() - count
            for offset in range(max(self.unset_size, at), min(self.unset_size + 4, at + count)):
                memoryview(buffer)[offset - at : offset - at + 1] = b"\xff"
        return count

    def read(self, size: int | None = -1, /) -> bytes:
        try:
            return super().read(size) or b""
        except OSError as error:
            self.error = error
            return b""

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return super().seek(offset + (self.start if whence == os.SEEK_SET else 0), whence) - self.start

    def tell(self) -> int:
        return super().tell() - self.start

    def is_at_end(self) -> bool:
        """Return whether everything has been read."""
        return super().tell() >= os.fstat(self.fileno()).st_size


class _Forwards(soundfile.SoundFile):  # type: ignore[misc]
    """Reads without seeking. soundfile seeks to where it is after every read: then the last bits of an MP3 depend on
    the size of blocks, and FLAC of undeclared length fails at its end."""

    def seekable(self) -> bool:
        return False


class _BeyondLibsndfileError(UnusableAudioError):
    """A file that PyAV may decode."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(path, DropReason.UNDECODABLE, f"undecodable: {problem}")


@contextmanager
def _opened(path: Path) -> Iterator[_SourceFile]:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnusableAudioError(path, DropReason.MISSING_AUDIO, "not a regular file")  # a pipe would never end
        file = _SourceFile(path, "rb")
    except OSError as error:
        raise UnusableAudioError(path, DropReason.MISSING_AUDIO, (error.strerror or str(error)).lower()) from error
    with file:
        yield file


def _is_same(before: os.stat_result, after: os.stat_result) -> bool:
    return (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)


def _decode(file: _SourceFile, receiver: Receiver, path: Path) -> Source:
    head = file.read(headers.HEAD)
    if not head:
        raise UnusableAudioError(path, DropReason.EMPTY_AUDIO, "empty: 0 bytes")
    if problem := headers.why_not_audio(head):
        raise UnusableAudioError(path, DropReason.NOT_AUDIO, problem)
    if not headers.begins_like_audio(head) and (start := headers.find_mp3(file)):
        file.start = start
        file.seek(0)
        head = file.read(headers.HEAD)
    try:
        return _decode_soundfile(file, head, receiver, path)
    except _BeyondLibsndfileError as error:
        if not av_version():
            problem = f'{error.problem}; PyAV may decode it: pip install "wavtext5k[av]"'
            raise UnusableAudioError(path, error.reason, problem) from error
        if headers.has_overlong_chunk(file):
            raise
        return _decode_av(file, receiver, path, error.problem)


def _decode_soundfile(file: _SourceFile, head: bytes, receiver: Receiver, path: Path) -> Source:
    with _sound_of(file, head, path) as sound:
        at = file.tell()
        missing = headers.missing_share(file, sound.format, sound.extra_info)
        if missing > _MISSING:
            raise _truncated(path, f"{1 - missing:.2%} of the declared data is there")
        if sound.format == "OGG" and headers.is_ogg_cut(file):
            raise _truncated(path, "the last Ogg page is missing")
        file.seek(at)
        receiver.begin(sound.samplerate, sound.channels)
        block = np.empty((max(1, _BLOCK // sound.channels), sound.channels), np.float32)
        try:
            while count := len(sound.read(out=block)):
                receiver.add(block[:count])
        except soundfile.LibsndfileError as error:
            problem = f"decoding stops after sample {receiver.num_samples} of {_declared(sound)}"
            if sound.format == "FLAC" and file.is_at_end():
                raise _truncated(path, problem) from error
            raise UnusableAudioError(path, DropReason.UNDECODABLE, f"undecodable: {problem}: {said(error)}") from error
        if receiver.num_samples == sound.frames and headers.goes_on(file, sound.format, file.tell()):
            raise _BeyondLibsndfileError(path, f"libsndfile stops after {sound.frames} samples though sound follows")
        if sound.format != "MP3" and sound.frames < _UNKNOWN:
            missing = max(missing, 1 - receiver.num_samples / max(sound.frames, 1))
            if missing > _MISSING and receiver.num_samples:
                raise _truncated(path, f"{receiver.num_samples} of the declared {sound.frames} samples are there")
        if receiver.num_samples == 0:
            raise UnusableAudioError(path, DropReason.EMPTY_AUDIO, "empty: no samples in it")
        return Source(sound.subtype, missing)


@contextmanager
def _sound_of(file: _SourceFile, head: bytes, path: Path) -> Iterator[soundfile.SoundFile]:
    try:
        file.seek(0)
        sound = _Forwards(file)
        if sound.frames == 0 and sound.format in ("WAV", "WAVEX"):
            file.unset_size = headers.find_unset_data_size(file)
            file.seek(0)
            sound.close()
            sound = _Forwards(file)
    except soundfile.LibsndfileError as error:
        if headers.begins_like_audio(head):
            raise _BeyondLibsndfileError(path, said(error)) from error
        raise UnusableAudioError(path, DropReason.NOT_AUDIO, headers.describe_head(head)) from error
    with sound:
        yield sound


def _decode_av(file: _SourceFile, receiver: Receiver, path: Path, problem: str) -> Source:
    """Decode through FFmpeg's libraries; ``problem`` is why libsndfile did not."""
    import av

    file.seek(0)
    options = {"format_whitelist": _DEMUXERS, "protocol_whitelist": "none"}
    begun = False
    try:
        with av.open(file, container_options=options, metadata_errors="ignore") as container:
            if not container.streams.audio:
                raise UnusableAudioError(path, DropReason.NOT_AUDIO, "not audio: no audio stream in it")
            for sample_rate, block in _av_blocks(container, path):
                if not begun:
                    receiver.begin(sample_rate, block.shape[1])
                    begun = True
                receiver.add(block)
            codec = container.streams.audio[0].codec_context.name.upper()
            declared_s = _declared_duration_s(container)
    except av.FFmpegError as error:
        if begun and file.is_at_end():
            raise _truncated(path, f"decoding stops after sample {receiver.num_samples}: {error.strerror}") from error
        where = f" after sample {receiver.num_samples}" if begun else ""
        problem = f"{problem}; FFmpeg{where}: {error.strerror}"
        raise UnusableAudioError(path, DropReason.UNDECODABLE, problem) from error
    if not begun:
        raise UnusableAudioError(path, DropReason.EMPTY_AUDIO, "empty: no samples in it")
    missing = headers.missing_share(file, container.format.name, "")
    if declared_s - receiver.num_samples / sample_rate > _SHORTEST_LOSS_S:
        missing = max(missing, 1 - receiver.num_samples / sample_rate / declared_s)
    if missing > _MISSING:
        raise _truncated(path, f"{1 - missing:.2%} of the declared sound is there")
    return Source(codec, missing)


def _av_blocks(container: Any, path: Path) -> Iterator[tuple[int, Waveform]]:
    """Yield rate and samples (S, C) of the first audio stream."""
    import av

    packed = av.AudioResampler(format="flt")  # sample format only: rate and channels stay
    first = None
    for frame in container.decode(audio=0):
        # Of the frame, not of the header: that of HE-AAC declares half the rate.
        found = (frame.sample_rate, frame.layout.nb_channels)
        first = first or found
        if found != first:
            problem = "undecodable: {} Hz, {} channels become {} Hz, {} channels".format(*first, *found)
            raise UnusableAudioError(path, DropReason.UNDECODABLE, problem)
        for block in packed.resample(frame):
            yield first[0], np.asarray(block.to_ndarray(), np.float32).reshape(-1, first[1])


def _declared_duration_s(container: Any) -> float:
    """Return the duration that a header declares, 0.0 where FFmpeg only estimates one or a picture may last longer."""
    stream = container.streams.audio[0]
    if container.format.name.startswith("mov") and stream.duration:
        return float(stream.duration * stream.time_base)
    if container.format.name.startswith(("matroska", "asf")) and len(container.streams) == 1 and container.duration:
        return float(container.duration) / 1_000_000
    return 0.0


def _declared(sound: soundfile.SoundFile) -> str:
    return str(sound.frames) if sound.frames < _UNKNOWN else "an undeclared number"


def _truncated(path: Path, problem: str) -> UnusableAudioError:
    return UnusableAudioError(path, DropReason.TRUNCATED, f"truncated: {problem}")
