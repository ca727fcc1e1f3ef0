"""Families of synthesised sound effects: one choice of parameters makes both the sound and its words."""

from __future__ import annotations

from demo.effects import animals, machines, nature, people, signals
from demo.effects.family import Family

FAMILIES: tuple[Family, ...] = (
    *signals.FAMILIES,
    *nature.FAMILIES,
    *animals.FAMILIES,
    *machines.FAMILIES,
    *people.FAMILIES,
)
