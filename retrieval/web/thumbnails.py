"""Draws a clip as a picture: the waveform above, the spectrogram below, one time axis for both.

A column of the picture shows one stretch of the clip. Of a stretch that is longer than 0.4 s the first 0.4 s are read
and the rest is skipped, so a clip of an hour costs little more than one of three minutes: its picture is then a
sample. Colours are of medium lightness on a transparent ground, so that one picture reads on white and on black; what
tells levels apart is the hue and how much of the ground shows through.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from curation.errors import AudioError

THUMBNAIL_VERSION = "1"
"""Raise it when other pictures come out: browsers keep them."""

_PIECE = 2**14  # samples read of a column's stretch
_IN_MEMORY = 2**21  # samples up to which a clip is read whole
_FRAMES = 3  # spectra of a column
_LOWEST_HZ, _HIGHEST_HZ = 45.0, 18_000.0
_RANGE_DB = 66.0  # of levels that are told apart, below the loudest
_TILT_DB = 3.0  # an octave, which most sound falls by: without it the picture is dark above 2 kHz
_SILENT = 1e-4  # of full scale, -80 dBFS: below it nothing is drawn but the line
_WAVE_SHARE = 0.4  # of the height
_GAP = 4  # pixels
_WAVE = (86, 126, 214)
_LEVELS = ((104, 108, 196), (132, 92, 204), (184, 70, 168), (214, 66, 102), (220, 86, 28))  # quiet to loud
_SHADES, _TONES = 32, 64  # of the wave and of the spectrogram in the palette; more double the picture's bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Columns:
    """What is drawn, a value a column: (W,), and levels (W, rows) from 0 to 1, lowest frequency first."""

    low: np.ndarray
    high: np.ndarray
    rms: np.ndarray
    levels: np.ndarray


def draw_thumbnail(path: Path, *, width: int = 480, height: int = 120) -> bytes:
    """Return a PNG of a file's sound; the same bytes for the same sound.

    Raises:
        AudioError: If the file cannot be decoded, or holds no samples.
        ValueError: If the picture would have no room for both parts.
    """
    if width < 1 or height < 24:
        raise ValueError(f"width must be at least 1 and height at least 24, got {width} and {height}")
    wave_height = round(height * _WAVE_SHARE)
    try:
        with soundfile.SoundFile(os.fsencode(path)) as sound:
            columns = _listen(sound, width, height - wave_height - _GAP)
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{path}: {error.error_string}") from error
    if columns is None:
        raise AudioError(f"{path}: no samples in it")
    picture = np.zeros((height, width), np.uint8)
    picture[:wave_height] = np.rint(_wave(columns, wave_height) * (_SHADES - 1))
    levels = np.rint(columns.levels.T[::-1] * _TONES)
    picture[wave_height + _GAP :] = np.where(levels > 0, levels + _SHADES - 1, 0)
    return _png(picture)


def _listen(sound: soundfile.SoundFile, width: int, rows: int) -> _Columns | None:
    if sound.frames < 1:
        return None
    window = _window(sound.frames / sound.samplerate)
    low, high, rms = (np.zeros(width, np.float32) for _ in range(3))
    spectra = np.zeros((width, rows), np.float32)
    bands = _bands(sound.samplerate, len(window), rows)
    for column, (piece, stretch) in enumerate(_pieces(sound, width, len(window) // 2)):
        low[column], high[column] = stretch.min(), stretch.max()
        rms[column] = math.sqrt(float(np.square(stretch, dtype=np.float64).mean()))
        count = _FRAMES if len(stretch) > len(window) // 4 else 1
        starts = [int(len(stretch) * (number + 0.5) / count) for number in range(count)]
        frames = np.stack([piece[start : start + len(window)] for start in starts]) * window
        power = np.square(np.abs(np.fft.rfft(frames)), dtype=np.float64).mean(axis=0)
        spectra[column] = power @ bands
    return _Columns(low=low, high=high, rms=rms, levels=_levels(spectra, max(high.max(), -low.min())))


def _pieces(sound: soundfile.SoundFile, width: int, margin: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield each column's samples with a margin on both sides, silence where the clip has none, and without it."""
    num_samples = sound.frames
    whole = sound.read(dtype="float32", always_2d=True).mean(axis=1) if num_samples <= _IN_MEMORY else None
    for column in range(width):
        start = num_samples * column // width
        length = min(max(1, num_samples * (column + 1) // width - start), _PIECE)
        first, last = max(0, start - margin), min(num_samples, start + length + margin)
        if whole is None:
            sound.seek(first)
            found = sound.read(last - first, dtype="float32", always_2d=True).mean(axis=1)
        else:
            found = whole[first:last]
        piece = np.zeros(length + 2 * margin, np.float32)
        piece[first - start + margin :][: len(found)] = found
        yield piece, piece[margin : margin + length]


def _window(duration_s: float) -> np.ndarray:
    """Return a Hann window (S,), shorter for clips of which a long one would blur all."""
    size = 2048 if duration_s > 1.5 else 1024 if duration_s > 0.4 else 512
    return np.hanning(size).astype(np.float32)


def _bands(sample_rate: int, size: int, rows: int) -> np.ndarray:
    """Return weights (bins, rows) of overlapping triangles, as wide as their spacing but at least two bins."""
    highest = min(_HIGHEST_HZ, sample_rate / 2)
    centres = np.geomspace(min(_LOWEST_HZ, highest / 2), highest, rows)
    bins = np.fft.rfftfreq(size, 1 / sample_rate)
    reach = np.maximum(np.gradient(centres) if rows > 1 else highest, sample_rate / size)
    weights = np.maximum(0, 1 - np.abs(bins[:, None] - centres) / reach)
    tilt = 10 ** (_TILT_DB / 10 * np.log2(centres / centres[0]))
    scaled: np.ndarray = weights / weights.sum(axis=0) * tilt
    return scaled


def _levels(spectra: np.ndarray, peak: float) -> np.ndarray:
    if peak < _SILENT:
        return np.zeros_like(spectra)
    decibels = 10 * np.log10(np.maximum(spectra, spectra.max() * 1e-12))
    levels: np.ndarray = np.clip((decibels - decibels.max()) / _RANGE_DB + 1, 0, 1)
    return levels


def _wave(columns: _Columns, height: int) -> np.ndarray:
    """Return how much ink each pixel (height, W) of the wave gets: full for the RMS, less for what only peaks reach."""
    peak = max(float(columns.high.max()), -float(columns.low.min()))
    scale = 0 if peak < _SILENT else (height - 1) / 2 / peak
    middle = height // 2 + 0.5  # of a row of pixels, which the line of a silence fills
    above, below = np.maximum(columns.high * scale, 0), np.maximum(-columns.low * scale, 0)
    peaks = _cover(middle - above - 0.5, middle + below + 0.5, height)
    body = _cover(
        middle - np.minimum(columns.rms * scale, above), middle + np.minimum(columns.rms * scale, below), height
    )
    ink: np.ndarray = np.maximum(0.55 * peaks, body)
    return ink


def _cover(top: np.ndarray, bottom: np.ndarray, height: int) -> np.ndarray:
    """Return the share of each pixel (height, W) that lies between two lines (W,)."""
    rows = np.arange(height)[:, None]
    covered: np.ndarray = np.clip(np.minimum(bottom, rows + 1) - np.maximum(top, rows), 0, 1)
    return covered


def _png(picture: np.ndarray) -> bytes:
    share = np.linspace(0, 1, _TONES)
    stops = np.linspace(0, 1, len(_LEVELS))
    levels = np.stack([np.interp(share, stops, channel) for channel in zip(*_LEVELS, strict=True)], axis=1)
    colours = np.concatenate([np.tile(_WAVE, (_SHADES, 1)), levels])
    alpha = np.concatenate([np.linspace(0, 1, _SHADES), 0.03 + 0.97 * share**1.5])
    image = Image.fromarray(picture)
    image.putpalette(np.rint(colours).astype(np.uint8).tobytes())
    file = io.BytesIO()
    image.save(file, "png", transparency=np.rint(alpha * 255).astype(np.uint8).tobytes(), compress_level=9)
    return file.getvalue()
