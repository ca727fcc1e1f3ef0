"""What people do, and what they break."""

from __future__ import annotations

import numpy as np

from demo.effects.family import COUNT, LEVEL, SPEED, SWELL, Words, family
from demo.synthesis import Studio, Waveform, unit

GROUND: Words = {
    "gravel": ("gravel", "loose gravel", "small stones"),
    "wood": ("wood", "a wooden floor", "floorboards"),
    "metal": ("metal", "a metal stairway", "a steel grating"),
}
KNOCKS: Words = {"2": ("twice", "two times"), "3": ("three times", "thrice"), "5": ("five times", "5 times")}
DOOR: Words = {"wood": ("wooden", "wood"), "metal": ("metal", "steel")}
SIZE: Words = {"small": ("small", "modest", "minor"), "large": ("large", "huge", "massive")}
RUBBLE: Words = {
    "clean": ("without debris", "with no debris"),
    "debris": ("with debris", "with rubble raining down", "followed by falling debris"),
}
GUN: Words = {"pistol": ("pistol", "handgun", "small pistol"), "rifle": ("rifle", "heavy rifle", "hunting rifle")}
CROWD: Words = {"small": ("small", "sparse", "modest"), "large": ("large", "huge", "packed")}
PANE: Words = {"small": ("small", "little", "thin"), "large": ("large", "big", "heavy")}
BREAK: Words = {"breaks": ("breaks", "shatters", "smashes"), "clinks": ("clinks", "is tapped", "chimes")}


@family(
    title="{speed} {level} heartbeat",
    sentences=(
        "A {speed} heartbeat, {level}",
        "{level} beating of a human heart at a {speed} rate",
        "The {speed} thump of a heart, {level}",
    ),
    tags=("heartbeat", "heart", "pulse", "body", "medical"),
    speed=SPEED,
    level=LEVEL,
)
def heartbeat(studio: Studio, speed: str, level: str) -> Waveform:
    f0 = studio.vary(62)
    lub = studio.tone([(0.0, f0 * 1.3), (0.1, f0)], 0.22, (1, 0.5, 0.1)) * studio.decay(0.22, 0.05, attack=0.012)
    dub = 0.75 * studio.tone([(0.0, f0 * 1.7), (0.1, f0 * 1.3)], 0.2, (1, 0.4)) * studio.decay(0.2, 0.04, attack=0.012)
    period, between = {"slow": (1.05, 0.3), "fast": (0.42, 0.15)}[speed]
    times = studio.steps(2.6, studio.vary(period), jitter=0.02)
    return studio.mix(2.75, [event for at in times for event in ((at, lub), (at + between, dub))])


@family(
    title="{speed} footsteps on {ground}",
    sentences=(
        "{speed} footsteps on {ground}",
        "A person walks over {ground} with {speed} steps",
        "Someone's {speed} steps across {ground}",
    ),
    tags=("footsteps", "walking", "steps", "shoes", "person"),
    speed=SPEED,
    ground=GROUND,
)
def footsteps(studio: Studio, speed: str, ground: str) -> Waveform:
    interval = studio.vary({"slow": 0.62, "fast": 0.25}[speed])
    events = []
    for at in studio.steps(2.2, interval):
        if ground == "gravel":
            crunch = studio.scatter(0.18, 700.0, studio.burst(1800, 7500, 0.003))
            step = unit(crunch) * studio.curve([(0, 0.3), (0.05, 1), (0.18, 0)], 0.18)
        elif ground == "wood":
            scale = studio.vary(1.0)
            step = 4 * studio.struck([(95 * scale, 1, 0.05), (210 * scale, 0.7, 0.03), (480 * scale, 0.3, 0.015)], 0.3)
        else:
            scale = studio.vary(1.0, 0.1)
            step = studio.struck([(f * scale, 1, 0.11) for f in (540, 1270, 2050, 3300, 4600)], 0.5)
        events.append((at, step * studio.vary(0.9)))
    return studio.mix(2.3, events)


@family(
    title="{level} knock on {door} door {count}",
    sentences=(
        "A {level} knock on a {door} door, {count}",
        "Someone knocks {count} on a {door} door, {level}",
        "{level} knocking at a {door} door, {count}",
    ),
    tags=("knock", "door", "knocking", "visitor"),
    level=LEVEL,
    door=DOOR,
    count=KNOCKS,
)
def knock(studio: Studio, level: str, door: str, count: str) -> Waveform:
    scale, gap = studio.vary(1.0, 0.03), studio.vary(0.23)
    modes = {
        "wood": [(170, 1, 0.03), (330, 0.9, 0.025), (720, 0.5, 0.012), (1500, 0.2, 0.006)],
        "metal": [(260, 0.8, 0.16), (690, 1, 0.14), (1130, 0.8, 0.12), (1890, 0.5, 0.08)],
    }[door]
    rap = studio.struck([(freq * scale, amplitude, tau) for freq, amplitude, tau in modes], 0.5)
    return studio.mix(gap * int(count) + 0.7, [(0.1 + n * gap, rap * studio.vary(0.9)) for n in range(int(count))])


@family(
    title="{size} explosion {rubble}",
    sentences=(
        "A {size} explosion {rubble}",
        "{size} blast of a bomb, {rubble}",
        "Something blows up in a {size} detonation {rubble}",
    ),
    tags=("explosion", "bomb", "blast", "boom", "war"),
    size=SIZE,
    rubble=RUBBLE,
)
def explosion(studio: Studio, size: str, rubble: str) -> Waveform:
    seconds, tau, top = {"small": (1.2, 0.14, 2500), "large": (2.4, 0.55, 900)}[size]
    boom = studio.noise(seconds, 45, top) * studio.decay(seconds, tau, attack=0.008)
    boom += 1.2 * studio.noise(seconds, 40, 110) * studio.decay(seconds, tau * 1.4, attack=0.01)
    boom += 1.5 * studio.mix(seconds, [(0, studio.burst(500, 8000, 0.02))])
    if rubble == "debris":
        rain = studio.scatter(
            seconds + 0.6, [(0, 0), (0.35, 0), (0.5, 60), (seconds + 0.5, 6)], studio.burst(1800, 7000, 0.006)
        )
        return studio.mix(seconds + 0.6, [(0, boom), (0, 0.35 * unit(rain))])
    return boom


@family(
    title="{gun} shot {count}",
    sentences=(
        "A {gun} fired {count}",
        "Gunshot of a {gun}, {count}",
        "Someone shoots {count} with a {gun}",
    ),
    tags=("gun", "gunshot", "shot", "weapon", "war"),
    gun=GUN,
    count=COUNT,
)
def gunshot(studio: Studio, gun: str, count: str) -> Waveform:
    if gun == "pistol":
        shot = studio.mix(0.5, [(0, 2 * studio.burst(900, 8000, 0.012)), (0, 0.7 * studio.burst(400, 2500, 0.035))])
        gap = studio.vary(0.4)
    else:
        shot = studio.mix(1.1, [(0, 2 * studio.burst(150, 7000, 0.025)), (0, 1.3 * studio.burst(60, 700, 0.16))])
        gap = studio.vary(0.75)
    return studio.mix(gap * (int(count) - 1) + 1.1, [(0.05 + n * gap, shot) for n in range(int(count))])


@family(
    title="{swell} applause of a {crowd} crowd",
    sentences=(
        "A {crowd} crowd claps, {swell} applause",
        "{swell} applause from a {crowd} audience",
        "The {swell} clapping of a {crowd} crowd",
    ),
    tags=("applause", "clapping", "crowd", "audience", "hands"),
    crowd=CROWD,
    swell=SWELL,
)
def applause(studio: Studio, crowd: str, swell: str) -> Waveform:
    seconds = studio.vary(2.2, 0.1)
    most = {"small": 11.0, "large": 260.0}[crowd]
    level = {"steady": (1.0, 1.0), "growing": (0.03, 1.0), "fading": (1.0, 0.03)}[swell]
    clap = studio.burst(800, 2600, 0.012)
    sound = studio.scatter(seconds, most, clap)
    if crowd == "large":
        sound = unit(sound) + 0.3 * studio.noise(seconds, 700, 3500)
    return sound * np.exp(studio.curve([(0, np.log(level[0])), (seconds, np.log(level[1]))], seconds))


@family(
    title="{pane} glass {happening}",
    sentences=(
        "A {pane} glass {happening}",
        "{pane} piece of glass that {happening}",
        "The sound when a {pane} glass {happening}",
    ),
    tags=("glass", "fragile", "window", "bottle"),
    pane=PANE,
    happening=BREAK,
)
def glass(studio: Studio, pane: str, happening: str) -> Waveform:
    base = studio.vary({"small": 2900, "large": 1300}[pane], 0.1)
    if happening == "clinks":
        ring = studio.struck([(base, 1, 0.3), (base * 1.52, 0.6, 0.2), (base * 2.3, 0.4, 0.12)], 1.3)
        return studio.mix(1.5, [(0.05, ring)])
    pieces, spread = {"small": (22, 0.45), "large": (60, 1.2)}[pane]
    times = studio.rng.exponential(spread / 3, pieces)
    freqs = base * studio.rng.uniform(0.9, 3.0, pieces)
    events = [
        (0.05 + float(at), 0.5 * studio.struck([(float(f), 1, 0.05)], 0.3)) for at, f in zip(times, freqs, strict=True)
    ]
    crash = studio.burst(base, 8000, 0.05 if pane == "small" else 0.14)
    return studio.mix(spread + 0.7, [(0.05, 1.2 * crash), *events])


FAMILIES = (heartbeat, footsteps, knock, explosion, gunshot, applause, glass)
