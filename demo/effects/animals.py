"""Animals: voices with a glide, pulses or formants."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from demo.effects.family import COUNT, LENGTH, PITCH, SPEED, SWEEP, Words, family
from demo.synthesis import Studio, Waveform, harmonics, unit

CHIRPS: Words = {"2": ("two", "2"), "3": ("three", "3"), "6": ("six", "6")}
DOG: Words = {"low": ("big", "large", "deep-voiced"), "high": ("small", "little", "tiny")}
CAT: Words = {"low": ("grown", "adult", "full-grown"), "high": ("young", "tiny", "baby")}
FLIGHT: Words = {
    "hovering": ("hovering", "circling nearby", "staying near"),
    "passing": ("passing", "flying past", "flying by"),
}


def _formants(studio: Studio, voice: Waveform, peaks: tuple[float, ...], width: float) -> Waveform:
    """A voice through a mouth: gain 1 at the peaks (Hz), little between them."""

    def gain(freq: NDArray[Any]) -> NDArray[Any]:
        total = np.full_like(freq, 0.02)
        for n, peak in enumerate(peaks):
            total += np.exp(-(((freq - peak) / (width * peak)) ** 2)) / (1 + n)
        return total

    return unit(studio.shape(voice, gain))


@family(
    title="bird chirps {count} {sweep} notes",
    sentences=(
        "A bird chirps {count} {sweep} notes",
        "{count} {sweep} chirps of a small bird",
        "Birdsong of {count} whistled notes, each {sweep}",
    ),
    tags=("bird", "chirp", "birdsong", "tweet", "nature"),
    count=CHIRPS,
    sweep=SWEEP,
)
def bird(studio: Studio, count: str, sweep: str) -> Waveform:
    low, high = studio.vary(2800), studio.vary(5600)
    ends = (low, high) if sweep == "rising" else (high, low)
    seconds, gap = 0.13, studio.vary(0.24)
    chirp = studio.tone([(0.0, ends[0]), (seconds, ends[1])], seconds, (1, 0.1))
    chirp = chirp * studio.curve([(0, 0), (0.02, 1), (0.1, 0.8), (seconds, 0)], seconds)
    return studio.mix(gap * int(count) + 0.5, [(0.1 + n * gap, chirp) for n in range(int(count))])


@family(
    title="{size} dog barks {count}",
    sentences=(
        "A {size} dog barks {count}",
        "{count} the bark of a {size} dog is heard",
        "Barking {count}, a {size} dog",
    ),
    tags=("dog", "bark", "animal", "pet"),
    size=DOG,
    count=COUNT,
)
def dog(studio: Studio, size: str, count: str) -> Waveform:
    f0 = studio.vary({"low": 170, "high": 520}[size])
    peaks = {"low": (450.0, 950.0, 2300.0), "high": (1150.0, 2100.0, 3800.0)}[size]
    seconds = {"low": 0.24, "high": 0.13}[size]
    glide = [(0.0, f0 * 0.8), (seconds * 0.35, f0 * 1.35), (seconds, f0 * 0.7)]
    voice = studio.tone(glide, seconds, harmonics(24, 0.5)) + 0.6 * studio.noise(seconds, 300, 5000)
    bark = _formants(studio, voice, peaks, 0.22) * studio.curve(
        [(0, 0), (0.02, 1), (seconds * 0.6, 0.7), (seconds, 0)], seconds
    )
    gap = studio.vary(0.5)
    return studio.mix(gap * int(count) + 0.5, [(0.08 + n * gap, bark * studio.vary(0.95)) for n in range(int(count))])


@family(
    title="{length} {age} cat meow {count}",
    sentences=(
        "A {age} cat gives a {length} meow, {count}",
        "{length} meow of a {age} cat, {count}",
        "{count} a {age} cat meows, {length}",
    ),
    tags=("cat", "meow", "animal", "pet"),
    age=CAT,
    length=LENGTH,
    count={key: COUNT[key] for key in ("1", "2")},
)
def cat(studio: Studio, age: str, length: str, count: str) -> Waveform:
    f0 = studio.vary({"low": 430, "high": 880}[age])
    seconds = {"short": 0.45, "long": 1.15}[length]
    glide = [(0.0, f0 * 0.85), (seconds * 0.3, f0 * 1.35), (seconds * 0.7, f0 * 1.2), (seconds, f0 * 0.75)]
    voice = studio.tone(glide, seconds, harmonics(12, 0.7))
    throat = {"low": 0.8, "high": 1.5}[age]
    nasal = _formants(studio, voice, (900.0 * throat, 1400.0 * throat), 0.3)
    mouth = _formants(studio, voice, (1900.0 * throat, 3300.0 * throat), 0.3)
    opening = studio.curve([(0, 0), (seconds * 0.35, 1), (seconds, 0)], seconds)
    meow = (nasal * (1 - opening) + mouth * opening) * studio.curve(
        [(0, 0), (0.08, 0.7), (seconds * 0.5, 1), (seconds, 0)], seconds
    )
    gap = seconds + 0.25
    return studio.mix(gap * int(count) + 0.3, [(0.1 + n * gap, meow) for n in range(int(count))])


@family(
    title="{speed} {pitch} crickets",
    sentences=(
        "Crickets chirping at night, {pitch} and {speed}",
        "{speed} chirps of a {pitch} cricket",
        "A {pitch} cricket sings with {speed} trills",
    ),
    tags=("cricket", "insect", "night", "nature", "chirping"),
    pitch=PITCH,
    speed=SPEED,
)
def crickets(studio: Studio, pitch: str, speed: str) -> Waveform:
    freq = studio.vary({"low": 2900, "high": 5600}[pitch], 0.04)
    period, pulses = {"slow": (0.7, 6), "fast": (0.2, 3)}[speed]
    pulse = studio.tone(freq, 0.025) * studio.curve([(0, 0), (0.012, 1), (0.025, 0)], 0.025)
    events = [(at + n * 0.037, pulse) for at in studio.steps(2.2, studio.vary(period)) for n in range(pulses)]
    return studio.mix(2.3, events)


@family(
    title="{pitch} frog croaks {count}",
    sentences=(
        "A frog with a {pitch} voice croaks {count}",
        "{pitch} croak of a frog in a pond, {count}",
        "A frog calls {count}, a {pitch} croaking",
    ),
    tags=("frog", "croak", "pond", "animal", "nature"),
    pitch=PITCH,
    count=COUNT,
)
def frog(studio: Studio, pitch: str, count: str) -> Waveform:
    freq = studio.vary({"low": 380, "high": 1700}[pitch])
    pulse = studio.struck([(freq, 1, 0.007), (freq * 1.8, 0.5, 0.005)], 0.05)
    times = studio.steps(0.55, 1 / studio.vary({"low": 28, "high": 42}[pitch]), jitter=0.02)
    croak = studio.mix(0.6, [(at, pulse * (0.4 + at)) for at in times])
    gap = studio.vary(0.8, 0.04)
    return studio.mix(gap * int(count) + 0.2, [(0.05 + n * gap, croak) for n in range(int(count))])


@family(
    title="{pitch} owl hoots {count}",
    sentences=(
        "An owl hoots {count} in a {pitch} voice",
        "{pitch} hoot of an owl at night, {count}",
        "A {pitch} hooting owl, heard {count}",
    ),
    tags=("owl", "hoot", "bird", "night", "forest"),
    pitch=PITCH,
    count=COUNT,
)
def owl(studio: Studio, pitch: str, count: str) -> Waveform:
    f0 = studio.vary({"low": 290, "high": 640}[pitch])
    seconds, gap = 0.42, studio.vary(0.75)
    hoot = studio.tone([(0.0, f0 * 0.9), (0.12, f0), (seconds, f0 * 0.88)], seconds, (1, 0.12))
    hoot = hoot * studio.curve([(0, 0), (0.1, 1), (0.3, 0.8), (seconds, 0)], seconds)
    hoot += 0.03 * studio.noise(seconds, 300, 1500) * studio.curve([(0, 0), (0.1, 1), (seconds, 0)], seconds)
    return studio.mix(gap * int(count) + 0.4, [(0.08 + n * gap, hoot) for n in range(int(count))])


@family(
    title="{pitch} bee {flight}",
    sentences=(
        "A bee buzzing, {pitch} and {flight}",
        "{pitch} buzz of an insect {flight}",
        "The {pitch} hum of a bee, {flight}",
    ),
    tags=("bee", "insect", "buzz", "fly", "nature"),
    pitch=PITCH,
    flight=FLIGHT,
)
def bee(studio: Studio, pitch: str, flight: str) -> Waveform:
    f0 = studio.vary({"low": 130, "high": 300}[pitch])
    seconds = 2.1
    if flight == "passing":
        glide = [(0.0, f0 * 1.12), (0.9, f0 * 1.1), (1.2, f0 * 0.88), (seconds, f0 * 0.86)]
        level: Waveform = np.exp(-((studio.curve([(0, -1.05), (seconds, 1.05)], seconds) / 0.42) ** 2))
    else:
        times = np.arange(0, seconds + 0.15, 0.12)
        glide = [(float(at), studio.vary(f0, 0.05)) for at in times]
        level = studio.wobble(seconds, 8, 0.6, 1.0)
    buzz: Waveform = studio.tone(glide, seconds, harmonics(14, 0.6)) * level
    return buzz


FAMILIES = (bird, dog, cat, crickets, frog, owl, bee)
