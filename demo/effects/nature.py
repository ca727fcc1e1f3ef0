"""Weather, water and fire."""

from __future__ import annotations

import numpy as np

from demo.effects.family import COUNT, PITCH, SPEED, SWELL, Words, family
from demo.synthesis import Studio, Waveform, unit

RAIN: Words = {"light": ("light", "gentle", "thin"), "heavy": ("heavy", "pouring", "dense")}
MOTION: Words = {"steady": ("steady", "constant", "even"), "gusting": ("gusting", "gusty", "swelling and sinking")}
THUNDER: Words = {
    "crack": ("sharp crack", "sudden crack", "crackling strike"),
    "rumble": ("rolling rumble", "soft rolling rumble", "slow rumble"),
}
SURF: Words = {"gentle": ("gentle", "calm", "mild"), "crashing": ("crashing", "rough", "violent")}
FIRE: Words = {"small": ("small", "little", "modest"), "large": ("large", "big", "roaring")}


def _swell(studio: Studio, swell: str, seconds: float) -> Waveform:
    """A level over time: 30 dB from one end to the other, unless steady."""
    start, end = {"steady": (1.0, 1.0), "growing": (0.03, 1.0), "fading": (1.0, 0.03)}[swell]
    return np.exp(studio.curve([(0, np.log(start)), (seconds, np.log(end))], seconds))


@family(
    title="{swell} {amount} rain",
    sentences=(
        "{amount} rain falling, {swell}",
        "The {swell} sound of {amount} rainfall on the ground",
        "{swell} shower of {amount} rain",
    ),
    tags=("rain", "weather", "water", "shower", "storm"),
    amount=RAIN,
    swell=SWELL,
)
def rain(studio: Studio, amount: str, swell: str) -> Waveform:
    seconds = studio.vary(2.2, 0.1)
    grain = studio.burst(2500, 7500, 0.002)
    if amount == "heavy":
        sound = unit(studio.noise(seconds, 500, 9000)) + unit(studio.scatter(seconds, 900.0, grain))
    else:
        sound = unit(studio.scatter(seconds, 45.0, grain)) + 0.04 * studio.noise(seconds, 2000, 8000)
    return sound * _swell(studio, swell, seconds)


@family(
    title="{motion} {pitch} wind",
    sentences=(
        "{motion} wind with a {pitch} howl",
        "A {pitch} wind blowing, {motion}",
        "The {pitch} moan of a {motion} wind",
    ),
    tags=("wind", "weather", "blowing", "howling", "storm"),
    pitch=PITCH,
    motion=MOTION,
)
def wind(studio: Studio, pitch: str, motion: str) -> Waveform:
    seconds = studio.vary(2.3, 0.1)
    center = studio.vary({"low": 260, "high": 1300}[pitch])
    width = center * 0.12
    if motion == "steady":
        glide, level = [(0.0, center), (seconds, center)], studio.curve([(0, 0.9), (seconds, 1)], seconds)
    else:
        times = np.arange(0, seconds + 0.7, studio.vary(0.7))
        turn = [(float(at), n % 2) for n, at in enumerate(times)]
        glide = [(at, center * (0.75 + 0.7 * up)) for at, up in turn]
        level = studio.curve([(at, 0.15 + 0.85 * up) for at, up in turn], seconds)
    howl = studio.tone(glide, seconds) * studio.noise(seconds, 0.01, width)
    return (unit(howl) + 0.15 * studio.noise(seconds, 80, 500)) * level


@family(
    title="thunder {kind} {count}",
    sentences=(
        "Thunder with a {kind}, {count}",
        "A {kind} of thunder heard {count} in a storm",
        "Lightning strikes {count}, thunder follows as a {kind}",
    ),
    tags=("thunder", "storm", "lightning", "weather"),
    kind=THUNDER,
    count={key: COUNT[key] for key in ("1", "2")},
)
def thunder(studio: Studio, kind: str, count: str) -> Waveform:
    if kind == "crack":
        seconds = 1.3
        bolt = studio.mix(seconds, [(0, 1.5 * studio.burst(200, 7000, 0.05)), (0.09, studio.burst(200, 6000, 0.05))])
        bolt += 0.7 * studio.noise(seconds, 50, 350) * studio.decay(seconds, 0.35)
    else:
        seconds = 1.6
        swell = studio.curve([(0, 0), (0.45, 1), (0.9, 0.7), (seconds, 0)], seconds)
        bolt = studio.noise(seconds, 45, 170) * swell * studio.wobble(seconds, 9, 0.3, 1.0)
    return studio.mix(seconds * int(count), [(n * seconds, bolt) for n in range(int(count))])


@family(
    title="{speed} {pitch} water drips",
    sentences=(
        "{speed} dripping of water with {pitch} drops",
        "{pitch} water drops falling into a basin at a {speed} pace",
        "A tap drips at a {speed} rate, each drop {pitch}",
    ),
    tags=("water", "drip", "drop", "tap", "leak"),
    pitch=PITCH,
    speed=SPEED,
)
def drips(studio: Studio, pitch: str, speed: str) -> Waveform:
    base = {"low": 420, "high": 1500}[pitch]
    interval = studio.vary({"slow": 0.75, "fast": 0.17}[speed])
    events = []
    for at in studio.steps(2.2, interval, jitter=0.12):
        start = studio.vary(base, 0.1)
        drop = studio.tone([(0.0, start), (0.09, start * 1.9)], 0.12) * studio.decay(0.12, 0.03)
        events.append((at, drop + 0.2 * studio.mix(0.12, [(0, studio.burst(3000, 7000, 0.002))])))
    return studio.mix(2.3, events)


@family(
    title="{strength} ocean waves {count}",
    sentences=(
        "{strength} ocean waves roll onto the beach {count}",
        "A {strength} sea, the surf breaks {count}",
        "Waves wash ashore {count}, {strength} surf",
    ),
    tags=("ocean", "sea", "waves", "beach", "surf", "water"),
    strength=SURF,
    count={key: COUNT[key] for key in ("1", "2")},
)
def waves(studio: Studio, strength: str, count: str) -> Waveform:
    seconds = studio.vary(1.6)
    if strength == "gentle":
        swell = studio.curve([(0, 0), (0.8, 1), (seconds, 0.02)], seconds)
        wash = studio.noise(seconds, 120, 900) * swell
    else:
        swell = studio.curve([(0, 0.03), (0.45, 0.2), (0.5, 1), (0.8, 0.5), (seconds, 0.03)], seconds)
        wash = (studio.noise(seconds, 150, 6500) + studio.noise(seconds, 60, 250)) * swell
    return studio.mix(seconds * int(count), [(n * seconds, wash) for n in range(int(count))])


@family(
    title="{swell} {size} fire",
    sentences=(
        "A {size} fire crackling, {swell}",
        "{swell} crackle of a {size} wood fire",
        "The {swell} burning of logs in a {size} fireplace blaze",
    ),
    tags=("fire", "crackling", "burning", "flames", "wood"),
    size=FIRE,
    swell=SWELL,
)
def fire(studio: Studio, size: str, swell: str) -> Waveform:
    seconds = studio.vary(2.2, 0.1)
    if size == "small":
        crackle = studio.scatter(seconds, 9.0, studio.burst(900, 6000, 0.006))
        sound = unit(crackle) + 0.03 * studio.noise(seconds, 80, 350)
    else:
        crackle = studio.scatter(seconds, 30.0, studio.burst(500, 6000, 0.008))
        sound = unit(crackle) + 0.9 * studio.noise(seconds, 60, 420) * studio.wobble(seconds, 7, 0.4, 1.0)
    return sound * _swell(studio, swell, seconds)


FAMILIES = (rain, wind, thunder, drips, waves, fire)
