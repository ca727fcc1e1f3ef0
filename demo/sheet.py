"""Draws one log-mel spectrogram of each family of effects, its description underneath: how we look at what we hear."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crawler.items import open_whole
from demo.effects import FAMILIES
from demo.synthesis import Studio, Waveform

SAMPLE_RATE = 44_100
F_MIN, F_MAX, N_MELS = 50.0, 8_000.0, 64
"""Hz, Hz, bands: what the models hear."""
N_FFT, HOP_LENGTH = 2048, 441
COLUMNS = 6


def draw_sheet(path: Path, *, seed: int = 0, family: str | None = None) -> int:
    """Draw the sheet as a PNG; return how many spectrograms it shows.

    Args:
        path: The file.
        seed: Decides which choice of parameters each family shows.
        family: Draw every choice of this family instead of one of each.

    Raises:
        ValueError: For an unknown family.
    """
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    shown = [(one, choice) for one in FAMILIES if one.name == family for choice in one.choices()]
    if family is None:
        rng = np.random.default_rng(seed)
        near = [[choice for choice in one.choices() if choice["setting"] == "close"] for one in FAMILIES]
        shown = [(one, choices[rng.integers(len(choices))]) for one, choices in zip(FAMILIES, near, strict=True)]
    if not shown:
        raise ValueError(f"family must be one of {', '.join(one.name for one in FAMILIES)}, got {family!r}")
    rows = -(-len(shown) // COLUMNS)
    figure, axes = plt.subplots(rows, COLUMNS, figsize=(4 * COLUMNS, 2.7 * rows), squeeze=False, layout="constrained")
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, (one, choice), number in zip(axes.flat, shown, range(len(shown)), strict=False):
        rng = np.random.default_rng((seed, number))
        waveform = one.play(Studio(SAMPLE_RATE, rng), choice)
        seconds = len(waveform) / SAMPLE_RATE
        axis.set_axis_on()
        axis.imshow(log_mel(waveform), origin="lower", aspect="auto", vmin=-80, vmax=0, extent=(0, seconds, 0, N_MELS))
        axis.set_title(one.name, fontsize=11)
        axis.set_xlabel("\n".join(textwrap.wrap(one.describe(choice, rng), 48)), fontsize=8)
        axis.set_xlim(0, 4)
        axis.set_yticks([])
    with open_whole(path) as file:
        figure.savefig(file, format="png", dpi=60)
    plt.close(figure)
    return len(shown)


def log_mel(waveform: Waveform) -> NDArray[np.float64]:
    """Return a log-mel spectrogram (M, T) in dB below its own loudest point, of a waveform at SAMPLE_RATE."""
    padded = np.pad(waveform, N_FFT // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, N_FFT)[::HOP_LENGTH]
    power: NDArray[np.float64] = np.abs(np.fft.rfft(frames * np.hanning(N_FFT), axis=1)) ** 2
    mel = power @ _mel_filters().T
    decibel: NDArray[np.float64] = 10 * np.log10(np.maximum(mel, 1e-10)).T
    decibel -= decibel.max()
    return decibel


def _mel_filters() -> NDArray[np.float64]:
    """Triangles (M, N_FFT // 2 + 1) evenly spaced in mel = 2595 log10(1 + f / 700)."""
    ends = 2595 * np.log10(1 + np.array([F_MIN, F_MAX]) / 700)
    edges = 700 * (10 ** (np.linspace(ends[0], ends[1], N_MELS + 2) / 2595) - 1)
    freq = np.fft.rfftfreq(N_FFT, 1 / SAMPLE_RATE)
    rise = (freq - edges[:-2, None]) / np.diff(edges)[:-1, None]
    fall = (edges[2:, None] - freq) / np.diff(edges)[1:, None]
    triangles: NDArray[np.float64] = np.maximum(0, np.minimum(rise, fall))
    return triangles
