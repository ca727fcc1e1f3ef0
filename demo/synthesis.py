"""Building blocks of synthesised sound effects: tones, shaped noise, struck objects, rooms.

A Studio makes samples at one rate with one generator, so that a seed decides every sample. Waveforms here are mono,
(S,) float32, of any level: the caller scales the finished effect. Noise is shaped in the frequency domain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Waveform = NDArray[np.float32]
Points = Sequence[tuple[float, float]]
"""A curve through (seconds, value), straight between its points and level outside them."""


class Studio:
    """Makes sounds at one sample rate (Hz) with one random generator."""

    def __init__(self, sample_rate: int, rng: np.random.Generator) -> None:
        self.sample_rate = sample_rate
        self.rng = rng

    def count(self, seconds: float) -> int:
        """Return the number of samples of a time."""
        return round(seconds * self.sample_rate)

    def curve(self, points: Points, seconds: float) -> Waveform:
        """Return a curve as samples."""
        times, values = zip(*points, strict=True)
        at = np.arange(self.count(seconds), dtype=np.float64) / self.sample_rate
        curve: Waveform = np.interp(at, times, values).astype(np.float32)
        return curve

    def vary(self, value: float, share: float = 0.06) -> float:
        """Return a value up to ``share`` above or below the given one: no two clips are the same."""
        return value * float(self.rng.uniform(1 - share, 1 + share))

    def decay(self, seconds: float, tau: float, attack: float = 0.002) -> Waveform:
        """Return an envelope that rises within ``attack`` and falls to 1/e in each ``tau`` seconds."""
        at = np.arange(self.count(seconds), dtype=np.float32) / np.float32(self.sample_rate)
        envelope: Waveform = np.minimum(at / np.float32(attack), 1) * np.exp(-at / np.float32(tau))
        return envelope

    def tone(self, freq: float | Points, seconds: float, partials: Sequence[float] = (1.0,)) -> Waveform:
        """Return a tone whose frequency (Hz) may glide.

        Args:
            freq: One frequency, or a curve of it.
            seconds: How long.
            partials: Amplitudes of the fundamental and of the harmonics above it. What lies above 0.45 of the
                sample rate is left out, so nothing folds back.
        """
        hertz = self.curve([(0.0, freq)] if isinstance(freq, (int, float)) else freq, seconds)
        phase = 2 * np.pi * np.cumsum(hertz, dtype=np.float64) / self.sample_rate
        top = float(hertz.max(initial=1.0))
        result = np.zeros(len(phase), dtype=np.float32)
        for number, amplitude in enumerate(partials, start=1):
            if amplitude and number * top < 0.45 * self.sample_rate:
                result += np.float32(amplitude) * np.sin((number * phase % (2 * np.pi)).astype(np.float32))
        return result

    def noise(self, seconds: float, low: float, high: float) -> Waveform:
        """Return noise between two frequencies (Hz), of unit standard deviation, with soft edges."""
        num_samples = self.count(seconds)
        white = self.rng.standard_normal(num_samples, dtype=np.float32)
        return unit(self.shape(white, lambda f: 1 / (1 + (low / np.maximum(f, 1)) ** 6 + (f / high) ** 6)))

    def shape(self, waveform: Waveform, gain: Callable[[NDArray[Any]], NDArray[Any]]) -> Waveform:
        """Return a waveform filtered by a gain for each frequency (Hz), without a change of phase."""
        size = _fast_length(len(waveform))
        spectrum = np.fft.rfft(waveform, size)
        spectrum *= gain(np.fft.rfftfreq(size, 1 / self.sample_rate))
        return np.fft.irfft(spectrum, size)[: len(waveform)].astype(np.float32)

    def struck(self, modes: Sequence[tuple[float, float, float]], seconds: float) -> Waveform:
        """Return a struck object: the sum of decaying tones, each (Hz, amplitude, tau in seconds)."""
        at = np.arange(self.count(seconds), dtype=np.float32) / np.float32(self.sample_rate)
        result = np.zeros(len(at), dtype=np.float32)
        for freq, amplitude, tau in modes:
            if freq < 0.45 * self.sample_rate:
                length = min(len(at), self.count(7 * tau))
                part = at[:length]
                wave = np.sin(np.float32(2 * np.pi * freq) * part)
                result[:length] += np.float32(amplitude) * np.exp(-part / np.float32(tau)) * wave
        fade = min(len(result), self.count(0.001) + 1)
        result[:fade] *= np.linspace(0, 1, fade, dtype=np.float32)
        return result

    def burst(self, low: float, high: float, tau: float) -> Waveform:
        """Return a short burst of noise that decays."""
        seconds = 6 * tau
        return self.noise(seconds, low, high) * self.decay(seconds, tau, attack=0.001)

    def wobble(self, seconds: float, per_second: float, low: float, high: float) -> Waveform:
        """Return a slow random curve between two values, with about ``per_second`` new values a second."""
        times = np.arange(0, seconds + 1 / per_second, 1 / per_second)
        values = self.rng.uniform(low, high, len(times))
        return self.curve(list(zip(times.tolist(), values.tolist(), strict=True)), seconds)

    def mix(self, seconds: float, events: Sequence[tuple[float, Waveform]]) -> Waveform:
        """Return sounds laid over each other, each from its time on; what is past the end is cut."""
        result = np.zeros(self.count(seconds), dtype=np.float32)
        for at, sound in events:
            start = self.count(at)
            part = sound[: max(0, len(result) - start)]
            result[start : start + len(part)] += part
        return result

    def scatter(self, seconds: float, density: float | Points, grain: Waveform) -> Waveform:
        """Return copies of a grain at random times and levels, ``density`` (may change) of them a second."""
        per_second = self.curve([(0.0, density)] if isinstance(density, (int, float)) else density, seconds)
        hit = self.rng.random(len(per_second), dtype=np.float32) < per_second / self.sample_rate
        impulses = np.where(hit, self.rng.uniform(0.2, 1.0, len(hit)), 0).astype(np.float32)
        return convolve(impulses, grain)[: len(impulses)]

    def steps(self, seconds: float, interval: float, jitter: float = 0.04) -> list[float]:
        """Return the times of a steady beat within a time; ``jitter`` is a share of the interval."""
        times, at = [], 0.03
        while at < seconds - 0.08:
            times.append(at)
            at += self.vary(interval, jitter)
        return times

    def distant(self, waveform: Waveform) -> Waveform:
        """Return a sound as from afar: dull, and a little blurred."""
        dull = self.shape(waveform, lambda f: 1 / (1 + (f / 1500) ** 1.5))
        return unit(dull) + 0.5 * unit(convolve(dull, self._tail(0.25))[: len(dull)])

    def hall(self, waveform: Waveform) -> Waveform:
        """Return a sound as in a large hall: its echo goes on for three quarters of a second after it."""
        tail = self._tail(0.75)
        wet = convolve(waveform, tail)
        dry = np.pad(waveform, (0, len(wet) - len(waveform)))
        return dry / max(float(np.abs(dry).max()), 1e-9) + 0.7 * wet / max(float(np.abs(wet).max()), 1e-9)

    def _tail(self, seconds: float) -> Waveform:
        return self.noise(seconds, 120, 5000) * self.decay(seconds, seconds / 4)


def unit(waveform: Waveform) -> Waveform:
    """Return a waveform scaled to unit standard deviation; silence stays silence."""
    deviation = float(waveform.std()) if len(waveform) else 0.0
    return waveform / np.float32(deviation) if deviation > 0 else waveform


def convolve(waveform: Waveform, other: Waveform) -> Waveform:
    """Return the full convolution of two waveforms."""
    size = _fast_length(len(waveform) + len(other) - 1)
    product = np.fft.rfft(waveform, size) * np.fft.rfft(other, size)
    return np.fft.irfft(product, size)[: len(waveform) + len(other) - 1].astype(np.float32)


def harmonics(number: int, power: float = 1.0) -> list[float]:
    """Return amplitudes of ``number`` harmonics that fall with their number: 1 a sawtooth, 2 a soft horn."""
    return [1 / k**power for k in range(1, number + 1)]


def _fast_length(length: int) -> int:
    """The next length that is a power of two, or three quarters of one: what the FFT is quick at."""
    power = 1 << max(0, length - 1).bit_length()
    return power * 3 // 4 if power * 3 // 4 >= length and power >= 4 else power
