"""Makes small real inputs for tests: tones, noise, silence, pages named as audio, files cut short.

Everything is a few kilobytes and the same on every run. A test that needs audio writes it with these, so that
no sound file is kept in the repository.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import soundfile


def write_waveform(path: Path, waveform: np.ndarray, *, sample_rate: int = 44_100, subtype: str | None = None) -> Path:
    """Write samples as they are; the container follows from the extension.

    Args:
        path: The file: .wav, .flac, .ogg, .mp3, .aiff. Its folder is made if it is missing.
        waveform: Float samples in [-1, 1], (S,) or, channels last, (S, C).
        sample_rate: Hz.
        subtype: soundfile's name of the sample format ("PCM_16", "PCM_24", "FLOAT", "VORBIS", ...); None takes the
            container's usual one.

    Returns:
        The path, for use in an expression.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, waveform, sample_rate, subtype=subtype)
    return path


def write_tone(
    path: Path,
    *,
    seconds: float = 0.5,
    sample_rate: int = 44_100,
    channels: int = 1,
    subtype: str | None = None,
    freq: float = 440.0,
    amplitude: float = 0.5,
) -> Path:
    """Write a sine of ``freq`` Hz, the same in every channel."""
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    tone = amplitude * np.sin(2 * np.pi * freq * time)
    return write_waveform(path, _spread(tone, channels), sample_rate=sample_rate, subtype=subtype)


def write_noise(
    path: Path,
    *,
    seconds: float = 0.5,
    sample_rate: int = 44_100,
    channels: int = 1,
    subtype: str | None = None,
    amplitude: float = 0.5,
    seed: int = 0,
) -> Path:
    """Write uniform white noise of peak ``amplitude``, its own in every channel; another seed, other samples."""
    noise = np.random.default_rng(seed).uniform(-amplitude, amplitude, (round(seconds * sample_rate), channels))
    return write_waveform(path, noise, sample_rate=sample_rate, subtype=subtype)


def write_silence(
    path: Path, *, seconds: float = 0.5, sample_rate: int = 44_100, channels: int = 1, subtype: str | None = None
) -> Path:
    """Write digital silence; 0 seconds gives a valid file that holds no samples."""
    silence = np.zeros(round(seconds * sample_rate))
    return write_waveform(path, _spread(silence, channels), sample_rate=sample_rate, subtype=subtype)


def write_html(path: Path, *, title: str = "Sorry") -> Path:
    """Write a small page under any name: what a site sends with status 200 where audio was asked for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    page = f"<!DOCTYPE html>\n<html><head><title>{title}</title></head><body><p>{title}.</p></body></html>\n"
    path.write_text(page, encoding="utf-8")
    return path


def truncate(path: Path, keep: int | float = 0.5) -> Path:
    """Cut a file in place, as a broken connection does.

    Args:
        path: The file.
        keep: What stays: a whole number of bytes, or a share between 0 and 1.
    """
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(len(content) * keep)])
    return path


def _spread(mono: np.ndarray, channels: int) -> np.ndarray:
    return np.repeat(mono[:, None], channels, axis=1)


def patch(path: Path, offset: int, layout: str, *values: int) -> Path:
    """Overwrite bytes of a file in place: a header that lies.

    Args:
        path: The file.
        offset: Of the first byte.
        layout: Of the values, as ``struct`` writes it: "<I" for the size of a WAV chunk.
        values: What is to stand there.
    """
    content = bytearray(path.read_bytes())
    struct.pack_into(layout, content, offset, *values)
    path.write_bytes(content)
    return path


def write_riff(path: Path, chunks: list[tuple[bytes, bytes]], *, magic: bytes = b"RIFF") -> Path:
    """Write a WAV file chunk by chunk, for headers that no library would write; RIFX is big-endian."""
    order = ">" if magic == b"RIFX" else "<"
    body = b"".join(
        name + struct.pack(f"{order}I", len(content)) + content + bytes(len(content) % 2) for name, content in chunks
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(magic + struct.pack(f"{order}I", 4 + len(body)) + b"WAVE" + body)
    return path


def wav_format(
    sample_rate: int = 44_100, channels: int = 1, bits: int = 16, *, tag: int = 1, order: str = "<"
) -> bytes:
    """Return the content of a WAV file's ``fmt`` chunk; tag 1 is PCM, 3 floating point."""
    frame = channels * ((bits + 7) // 8)
    return struct.pack(
        f"{order}HHIIHH", tag, channels, sample_rate, sample_rate * frame & 0xFFFFFFFF, frame & 0xFFFF, bits
    )


def write_with_ffmpeg(
    path: Path,
    codec: str,
    *,
    seconds: float = 1.0,
    sample_rate: int = 44_100,
    channels: int = 1,
    options: dict[str, str] | None = None,
) -> np.ndarray:
    """Write noise in a format that libsndfile does not write, by PyAV, and return its samples (S, C)."""
    import av

    layout = {1: "mono", 2: "stereo"}[channels]
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (round(seconds * sample_rate), channels)).astype(np.float32)
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=sample_rate, layout=layout)
        frame_size = stream.codec_context.frame_size or None
        packed = av.AudioResampler(format=stream.format.name, layout=layout, rate=sample_rate, frame_size=frame_size)
        frame = av.AudioFrame.from_ndarray(noise.T.copy(), format="fltp", layout=layout)
        frame.sample_rate, frame.pts = sample_rate, 0
        for part in [*packed.resample(frame), *packed.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return noise
