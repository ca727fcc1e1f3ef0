"""Bells, horns, alarms and other sounds that are made to be heard."""

from __future__ import annotations

import numpy as np

from demo.effects.family import COUNT, LENGTH, PITCH, SPEED, SWEEP, Words, family
from demo.synthesis import Studio, Waveform, harmonics, unit

RINGS: Words = {
    "1": ("one ring", "a single ring"),
    "2": ("two rings", "a pair of rings"),
    "3": ("three rings", "3 rings"),
}
DIGITS: Words = {"3": ("three", "3"), "5": ("five", "5"), "7": ("seven", "7")}


@family(
    title="{pitch} bell {count}",
    sentences=(
        "A {pitch} bell struck {count}, fading slowly",
        "{pitch} church bell that tolls {count} and rings out",
        "Someone strikes a {pitch} metal bell {count}",
    ),
    tags=("bell", "church", "metal", "ring", "toll"),
    pitch=PITCH,
    count=COUNT,
)
def bell(studio: Studio, pitch: str, count: str) -> Waveform:
    base = studio.vary({"low": 240, "high": 1000}[pitch])
    ratios = (0.5, 1.0, 1.19, 1.5, 2.0, 2.65, 3.0, 4.1)
    modes = [(base * ratio, 1 / (1 + 0.4 * n), 0.42 / ratio**0.6) for n, ratio in enumerate(ratios)]
    gap = studio.vary(0.62)
    strike = studio.struck(modes, 1.5)
    return studio.mix(gap * (int(count) - 1) + 1.5, [(n * gap, strike) for n in range(int(count))])


@family(
    title="{pitch} telephone {count}",
    sentences=(
        "An old telephone with a {pitch} bell, {count}",
        "{pitch} ringing of a rotary phone, {count}",
        "{count} of a {pitch} telephone on a desk",
    ),
    tags=("telephone", "phone", "ringing", "call", "old"),
    pitch=PITCH,
    count=RINGS,
)
def telephone(studio: Studio, pitch: str, count: str) -> Waveform:
    base = studio.vary({"low": 700, "high": 1700}[pitch])
    seconds = 0.6
    hits = studio.steps(seconds, 1 / studio.vary(20), jitter=0.0)
    clapper = [
        studio.struck([(base * r, a, 0.05), (base * r * 2.7, a / 2, 0.03)], 0.2) for r, a in ((1, 1), (1.26, 0.8))
    ]
    ring = studio.mix(seconds + 0.2, [(at, clapper[n % 2]) for n, at in enumerate(hits)])
    return studio.mix(1.0 * int(count), [(n * 1.0, ring) for n in range(int(count))])


@family(
    title="{speed} phone keypad {count} digits",
    sentences=(
        "Touch tones of a phone, {count} digits in a {speed} row",
        "{speed} dialing of {count} digits on a telephone keypad",
        "Someone dials {count} numbers at a {speed} pace, dual tones",
    ),
    tags=("phone", "dial", "keypad", "touch tone", "dtmf"),
    count=DIGITS,
    speed=SPEED,
)
def keypad(studio: Studio, count: str, speed: str) -> Waveform:
    on, off = {"slow": (0.24, 0.2), "fast": (0.1, 0.07)}[speed]
    period = studio.vary(on + off, 0.04)
    events = []
    for n in range(int(count)):
        low, high = studio.rng.choice((697, 770, 852, 941)), studio.rng.choice((1209, 1336, 1477))
        events.append((0.05 + n * period, studio.tone(float(low), on) + studio.tone(float(high), on)))
    return studio.mix(0.15 + int(count) * period, events)


@family(
    title="{speed} {pitch} siren",
    sentences=(
        "A {pitch} siren wailing in {speed} sweeps",
        "{speed} wail of a {pitch} police siren",
        "An emergency siren, {pitch} and {speed}, going up and down",
    ),
    tags=("siren", "police", "ambulance", "emergency", "alarm"),
    pitch=PITCH,
    speed=SPEED,
)
def siren(studio: Studio, pitch: str, speed: str) -> Waveform:
    low, high = {"low": (320, 700), "high": (900, 1900)}[pitch]
    period = studio.vary({"slow": 1.3, "fast": 0.28}[speed])
    times = np.arange(0, 2.4 + period, period / 2)
    points = [(float(at), float(low if n % 2 == 0 else high)) for n, at in enumerate(times)]
    return studio.tone(points, 2.4, (1, 0, 0.4, 0, 0.2))


@family(
    title="{speed} {pitch} alarm beeps",
    sentences=(
        "{speed} beeps of a {pitch} alarm clock",
        "An electronic alarm that beeps in a {speed} {pitch} pattern",
        "{pitch} digital beeping at a {speed} rate, to wake someone",
    ),
    tags=("alarm", "beep", "clock", "electronic", "wake up"),
    pitch=PITCH,
    speed=SPEED,
)
def alarm(studio: Studio, pitch: str, speed: str) -> Waveform:
    freq = studio.vary({"low": 620, "high": 2300}[pitch])
    on, period = {"slow": (0.32, 0.64), "fast": (0.07, 0.14)}[speed]
    beep = studio.tone(freq, on, (1, 0, 0.33, 0, 0.2))
    return studio.mix(2.1, [(at, beep) for at in studio.steps(2.1, studio.vary(period), jitter=0.0)])


@family(
    title="{pitch} sonar ping {count}",
    sentences=(
        "A {pitch} submarine sonar that pings {count}",
        "Sonar sounding {count} under water, a {pitch} tone that trails off",
        "The {pitch} ping of a sonar, {count}",
    ),
    tags=("sonar", "submarine", "ping", "underwater"),
    pitch=PITCH,
    count=COUNT,
)
def sonar(studio: Studio, pitch: str, count: str) -> Waveform:
    freq = studio.vary({"low": 520, "high": 1350}[pitch])
    ping = studio.tone(freq, 0.9) * studio.decay(0.9, 0.22, attack=0.01)
    echo = np.float32(0.35) * ping
    events = [
        (n * 1.0 + at, sound)
        for n in range(int(count))
        for at, sound in ((0.0, ping), (0.33, echo), (0.6, np.float32(0.5) * echo))
    ]
    return studio.mix(1.0 * int(count) + 0.3, events)


@family(
    title="{length} train horn {count}",
    sentences=(
        "A train blows a {length} horn {count}",
        "{length} chord of a locomotive horn, sounded {count}",
        "The {length} blast of a railway horn, {count}",
    ),
    tags=("train", "horn", "locomotive", "railway", "blast"),
    length=LENGTH,
    count={key: COUNT[key] for key in ("1", "2")},
)
def train_horn(studio: Studio, length: str, count: str) -> Waveform:
    seconds = {"short": 0.4, "long": 1.3}[length]
    scale = studio.vary(1.0)
    chord = np.sum([studio.tone(scale * f, seconds, harmonics(9, 0.8)) for f in (277, 330, 392, 466)], axis=0)
    blast: Waveform = chord * studio.curve([(0, 0), (0.05, 1), (seconds - 0.08, 1), (seconds, 0)], seconds)
    period = seconds + 0.25
    return studio.mix(period * int(count) + 0.1, [(0.03 + n * period, blast) for n in range(int(count))])


@family(
    title="{length} {sweep} whistle",
    sentences=(
        "Someone whistles a {length} {sweep} note",
        "A {length} human whistle with a {sweep} pitch",
        "{sweep} whistle of a person, {length}",
    ),
    tags=("whistle", "whistling", "person", "mouth"),
    length=LENGTH,
    sweep=SWEEP,
)
def whistle(studio: Studio, length: str, sweep: str) -> Waveform:
    seconds = {"short": 0.5, "long": 1.8}[length]
    low, high = studio.vary(950), studio.vary(2500)
    ends = (low, high) if sweep == "rising" else (high, low)
    shape = studio.curve([(0, 0), (0.08, 1), (seconds - 0.1, 0.9), (seconds, 0)], seconds)
    note = studio.tone([(0.0, ends[0]), (seconds, ends[1])], seconds, (1, 0.04)) + 0.06 * studio.noise(
        seconds, 1500, 6000
    )
    return studio.mix(seconds + 0.5, [(0.2, note * shape)])


@family(
    title="{sweep} laser shot {count}",
    sentences=(
        "A laser gun fires {count}, with a {sweep} zap",
        "{sweep} science fiction laser blast, {count}",
        "Ray gun shot {count}, each a {sweep} sweep",
    ),
    tags=("laser", "zap", "blaster", "science fiction", "game"),
    sweep=SWEEP,
    count=COUNT,
)
def laser(studio: Studio, sweep: str, count: str) -> Waveform:
    seconds, gap = 0.28, studio.vary(0.42)
    curve = np.geomspace(4200, 250, 12)
    values = curve if sweep == "falling" else curve[::-1]
    points = [(seconds * n / 11, float(value)) for n, value in enumerate(values)]
    zap = studio.tone(points, seconds, (1, 0.7, 0.5)) * studio.curve([(0, 1), (seconds, 0.3)], seconds)
    return studio.mix(gap * (int(count) - 1) + 0.9, [(0.1 + n * gap, zap) for n in range(int(count))])


@family(
    title="{speed} {pitch} drum beat",
    sentences=(
        "A {pitch} drum played with {speed} beats",
        "{speed} drumming on a {pitch} drum",
        "{pitch} drum hits at a {speed} tempo",
    ),
    tags=("drum", "percussion", "beat", "rhythm", "music"),
    pitch=PITCH,
    speed=SPEED,
)
def drum(studio: Studio, pitch: str, speed: str) -> Waveform:
    if pitch == "low":
        hit = studio.tone([(0.0, 130.0), (0.06, 75.0)], 0.4, (1, 0.4, 0.15)) * studio.decay(0.4, 0.1)
        hit += 0.1 * studio.mix(0.4, [(0, unit(studio.burst(300, 1500, 0.006)))])
    else:
        hit = studio.struck([(230, 1, 0.05), (390, 0.5, 0.04)], 0.4)
        hit += 0.35 * studio.mix(0.4, [(0, studio.burst(1200, 8000, 0.045))])
    interval = studio.vary({"slow": 0.6, "fast": 0.14}[speed])
    return studio.mix(2.1, [(at, hit * studio.vary(0.9)) for at in studio.steps(2.0, interval)])


FAMILIES = (bell, telephone, keypad, siren, alarm, sonar, train_horn, whistle, laser, drum)
