"""Engines, tools and other things that go."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from demo.effects.family import PITCH, SPEED, SWEEP, Words, family
from demo.synthesis import Studio, Waveform, harmonics, unit

ENGINE: Words = {"low": ("large", "big", "heavy"), "high": ("small", "little", "light")}
RUN: Words = {
    "idling": ("idling", "running at a constant speed", "ticking over"),
    "speeding up": ("speeding up", "revving up", "accelerating"),
    "slowing down": ("slowing down", "winding down", "decelerating"),
}
FLYING: Words = {
    "hovering": ("hovering", "staying in place"),
    "approaching": ("approaching", "coming closer"),
    "leaving": ("leaving", "flying away"),
}
KEYS: Words = {
    "computer": ("computer", "computer keyboard", "laptop"),
    "typewriter": ("typewriter", "mechanical typewriter", "old typewriter"),
}
STUFF: Words = {"wood": ("wood", "timber", "a plank"), "metal": ("metal", "steel", "a metal pipe")}


@family(
    title="{size} engine {run}",
    sentences=(
        "A {size} engine {run}",
        "{size} motor of a vehicle, {run}",
        "The sound of a {size} engine that is {run}",
    ),
    tags=("engine", "motor", "car", "vehicle", "machine"),
    size=ENGINE,
    run=RUN,
)
def engine(studio: Studio, size: str, run: str) -> Waveform:
    f0 = studio.vary({"low": 42, "high": 120}[size])
    seconds = studio.vary(2.2, 0.1)
    ends = {"idling": (1.0, 1.0), "speeding up": (0.8, 2.6), "slowing down": (2.6, 0.8)}[run]
    glide = [(0.0, f0 * ends[0]), (seconds, f0 * ends[1])]
    stroke = studio.tone(glide, seconds, harmonics(20, 0.45))
    rasp = studio.noise(seconds, 100, 1800) * np.maximum(studio.tone(glide, seconds), 0) ** 2
    return unit(stroke) + 0.5 * unit(rasp)


@family(
    title="{speed} {pitch} clock ticking",
    sentences=(
        "A clock ticking at a {speed} pace with a {pitch} tick",
        "{speed} ticking of a {pitch} clock",
        "The {pitch} tick and tock of a {speed} clock",
    ),
    tags=("clock", "tick", "ticking", "time", "watch"),
    pitch=PITCH,
    speed=SPEED,
)
def clock(studio: Studio, pitch: str, speed: str) -> Waveform:
    base = studio.vary({"low": 800, "high": 3300}[pitch])
    ticks = [studio.struck([(base * r, 1, 0.008), (base * r * 1.9, 0.6, 0.005)], 0.08) for r in (1.0, 0.8)]
    times = studio.steps(2.2, studio.vary({"slow": 0.62, "fast": 0.16}[speed]), jitter=0.0)
    return studio.mix(2.25, [(at, ticks[n % 2]) for n, at in enumerate(times)])


@family(
    title="{speed} {sweep} door creak",
    sentences=(
        "A door creaks with a {speed} {sweep} squeak",
        "{sweep} creak of an old wooden door, {speed}",
        "Rusty hinges, a {speed} creaking with a {sweep} pitch",
    ),
    tags=("door", "creak", "squeak", "hinge", "horror"),
    speed=SPEED,
    sweep=SWEEP,
)
def creak(studio: Studio, speed: str, sweep: str) -> Waveform:
    seconds = {"slow": 2.0, "fast": 0.6}[speed]
    low, high = (studio.vary(38), studio.vary(130))
    ends = (low, high) if sweep == "rising" else (high, low)
    glide = [(0.0, ends[0]), (seconds, ends[1])]
    voice = studio.tone(glide, seconds, harmonics(60, 0.1)) * studio.wobble(seconds, 25, 0.5, 1.0)

    def wood(freq: NDArray[Any]) -> NDArray[Any]:
        total = np.full_like(freq, 0.03)
        for peak in (640.0, 1250.0, 2300.0, 3600.0):
            total += np.exp(-(((freq - peak) / (0.07 * peak)) ** 2))
        return total

    squeal = studio.tone([(at, 11 * value) for at, value in glide], seconds, (1, 0.5, 0.4))
    squeak = (unit(studio.shape(voice, wood)) + 0.7 * squeal) * studio.curve(
        [(0, 0), (0.05, 1), (seconds - 0.1, 1), (seconds, 0)], seconds
    )
    return studio.mix(seconds + 0.4, [(0.15, squeak)])


@family(
    title="{speed} {machine} typing",
    sentences=(
        "{speed} typing on a {machine}",
        "Someone types at a {speed} pace on a {machine}",
        "Keys of a {machine} pressed in {speed} typing",
    ),
    tags=("typing", "keyboard", "keys", "office", "writing"),
    speed=SPEED,
    machine=KEYS,
)
def typing(studio: Studio, speed: str, machine: str) -> Waveform:
    interval = {"slow": 0.36, "fast": 0.1}[speed]
    events: list[tuple[float, Waveform]] = []
    for at in studio.steps(1.8, interval, jitter=0.45):
        if machine == "computer":
            key = 0.5 * studio.burst(2500, 7000, 0.004)
        else:
            key = studio.mix(0.1, [(0, studio.burst(700, 6000, 0.009)), (0.035, 0.4 * studio.burst(300, 2500, 0.01))])
        events.append((at, key * studio.vary(0.8, 0.25)))
    if machine == "typewriter":
        events.append((1.85, 3.0 * studio.struck([(2100, 1, 0.18), (4300, 0.5, 0.1)], 0.6)))
    return studio.mix(2.4 if machine == "typewriter" else 1.9, events)


@family(
    title="{speed} sawing {stuff}",
    sentences=(
        "{speed} sawing through {stuff}",
        "A hand saw cuts {stuff} with {speed} strokes",
        "Someone saws {stuff}, {speed} back and forth",
    ),
    tags=("saw", "sawing", "tool", "workshop", "cut"),
    speed=SPEED,
    stuff=STUFF,
)
def saw(studio: Studio, speed: str, stuff: str) -> Waveform:
    stroke_s = studio.vary({"slow": 0.55, "fast": 0.16}[speed])
    events: list[tuple[float, Waveform]] = []
    for n, at in enumerate(studio.steps(2.1, stroke_s * 1.12, jitter=0.02)):
        tilt = 1.25 if n % 2 else 1.0
        band = (500 * tilt, 2400 * tilt) if stuff == "wood" else (3200 * tilt, 6800 * tilt)
        rasp = studio.noise(stroke_s, *band) * (0.55 + 0.45 * studio.tone(75 * tilt, stroke_s))
        if stuff == "metal":
            rasp += 1.2 * studio.tone(2700 * tilt, stroke_s)
        shape = studio.curve([(0, 0), (stroke_s * 0.5, 1), (stroke_s, 0)], stroke_s)
        events.append((at, rasp * shape))
    return studio.mix(2.3, events)


@family(
    title="{speed} helicopter {motion}",
    sentences=(
        "A helicopter {motion}, its rotor {speed}",
        "{speed} chop of a helicopter's blades, {motion}",
        "Helicopter with a {speed} rotor, {motion}",
    ),
    tags=("helicopter", "rotor", "aircraft", "chopper", "flying"),
    speed=SPEED,
    motion=FLYING,
)
def helicopter(studio: Studio, speed: str, motion: str) -> Waveform:
    seconds = studio.vary(2.3, 0.1)
    interval = 1 / studio.vary({"slow": 7.0, "fast": 17.0}[speed])
    chop = studio.mix(0.2, [(0, studio.burst(60, 900, 0.022)), (0, 0.4 * studio.burst(900, 3000, 0.012))])
    sound = studio.mix(seconds, [(at, chop) for at in studio.steps(seconds, interval, jitter=0.0)])
    sound = unit(sound) + 0.12 * studio.noise(seconds, 500, 4000)
    start, end = {"hovering": (1.0, 1.0), "approaching": (0.03, 1.0), "leaving": (1.0, 0.03)}[motion]
    return sound * np.exp(studio.curve([(0, np.log(start)), (seconds, np.log(end))], seconds))


FAMILIES = (engine, clock, creak, typing, saw, helicopter)
