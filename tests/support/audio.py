"""Makes small real inputs for tests: tones, noise, silence, pages named as audio, files cut short.

Everything is a few kilobytes and the same on every run. A test that needs audio writes it with these, so that
no sound file is kept in the repository.
"""

from __future__ import annotations

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
