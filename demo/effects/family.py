"""A family of effects: its parameters, the words for each of their values, and the function that makes the sound.

A choice gives every parameter one of its values. The same choice goes to the synthesiser and fills the sentences, so
the text cannot say what the sound does not do. Every sentence names every parameter; synonyms and several sentences
a family keep the text from being one fixed string.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable, Mapping

import numpy as np

from demo.synthesis import Studio, Waveform

Words = Mapping[str, tuple[str, ...]]
"""A parameter: its values, and for each the phrases that mean it, the first one for titles."""
Choice = Mapping[str, str]

PITCH: Words = {"low": ("low", "deep", "low-pitched"), "high": ("high", "high-pitched", "bright")}
SPEED: Words = {"slow": ("slow", "unhurried", "leisurely"), "fast": ("fast", "quick", "rapid")}
LENGTH: Words = {"short": ("short", "brief"), "long": ("long", "drawn-out")}
LEVEL: Words = {"soft": ("soft", "quiet", "gentle"), "loud": ("loud", "hard", "forceful")}
SWEEP: Words = {"rising": ("rising", "upward", "climbing"), "falling": ("falling", "downward", "descending")}
COUNT: Words = {"1": ("once", "one time"), "2": ("twice", "two times"), "3": ("three times", "thrice")}
SWELL: Words = {
    "steady": ("steady", "constant", "even"),
    "growing": ("growing", "swelling", "strengthening"),
    "fading": ("fading", "dying", "weakening"),
}
SETTING: Words = {
    "close": ("",),
    "distant": ("distant", "heard from a distance", "far away", "in the distance"),
    "hall": ("echoing", "echoing in a large hall", "with a long echo", "in a reverberant hall"),
}
"""Every family has this one beside its own: where the sound is heard."""

LEVELS = {"soft": 0.12, "loud": 1.0}
"""Gain of the parameter LEVEL; 18 dB apart."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One kind of sound effect; make one with the decorator ``family``."""

    name: str
    title: str
    """Such as "{pitch} bell {count}"."""
    sentences: tuple[str, ...]
    """At least three; each names every parameter, and ends without a full stop."""
    tags: tuple[str, ...]
    words: Mapping[str, Words]
    synthesise: Callable[..., Waveform]
    """Takes a Studio and one value for each parameter of ``words``."""

    def choices(self) -> list[dict[str, str]]:
        """Return every combination of the parameters' values, the setting among them."""
        words = {**self.words, "setting": SETTING}
        return [dict(zip(words, values, strict=True)) for values in itertools.product(*words.values())]

    def play(self, studio: Studio, choice: Choice) -> Waveform:
        """Return the effect as (S,) float32, its peak below full scale: 0.8 or so, less where it is soft or far."""
        own = {name: value for name, value in choice.items() if name != "setting"}
        waveform = self.synthesise(studio, **own)
        if choice["setting"] == "hall":
            waveform = studio.hall(waveform)
        elif choice["setting"] == "distant":
            waveform = studio.distant(waveform)
        peak = studio.vary(0.8, 0.1) * LEVELS[choice.get("level", "loud")]
        if choice["setting"] == "distant":
            peak *= 0.25
        fade = min(len(waveform), studio.count(0.01))
        waveform[len(waveform) - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
        return waveform * np.float32(peak / max(float(np.abs(waveform).max()), 1e-9))

    def describe(self, choice: Choice, rng: np.random.Generator) -> str:
        """Return a sentence that is true of the choice."""
        sentence = self.sentences[rng.integers(len(self.sentences))]
        filled = sentence.format(**{name: _pick(words[choice[name]], rng) for name, words in self.words.items()})
        if choice["setting"] != "close":
            filled += ", " + _pick(SETTING[choice["setting"]][1:], rng)
        return _article(filled[0].upper() + filled[1:]) + "."

    def title_of(self, choice: Choice) -> str:
        """Return the title of a choice, such as "Distant Low Bell Twice"."""
        title = self.title.format(**{name: words[choice[name]][0] for name, words in self.words.items()})
        return " ".join(f"{SETTING[choice['setting']][0]} {title}".split()).title()

    def tags_of(self, choice: Choice) -> tuple[str, ...]:
        """Return the family's tags and the first words of the choice."""
        phrases = [words[choice[name]][0] for name, words in self.words.items()]
        return tuple(tag for tag in dict.fromkeys((*self.tags, *phrases, SETTING[choice["setting"]][0])) if tag)


def family(
    *, title: str, sentences: tuple[str, ...], tags: tuple[str, ...], **words: Words
) -> Callable[[Callable[..., Waveform]], Family]:
    """Return a decorator that makes a Family of a function ``(studio, **choice) -> waveform``."""

    def make(function: Callable[..., Waveform]) -> Family:
        name = function.__name__.rstrip("_").replace("_", " ")
        return Family(name=name, title=title, sentences=sentences, tags=tags, words=words, synthesise=function)

    return make


def _pick(phrases: tuple[str, ...], rng: np.random.Generator) -> str:
    return phrases[rng.integers(len(phrases))]


def _article(sentence: str) -> str:
    return re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", sentence)
