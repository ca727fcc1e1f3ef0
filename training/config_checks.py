"""Checks of single settings that several sections of the config share."""

from __future__ import annotations

import math
from typing import Any

from curation.errors import ConfigError


def positive(section: Any, place: str, *names: str) -> None:
    """Refuse settings, or members of them, that are not greater than 0 and finite."""
    for name in names:
        value = getattr(section, name)
        many = value if isinstance(value, tuple) else (value,)
        if not many or not all(0 < number < math.inf for number in many):
            shown = list(many) if many is value else value
            raise ConfigError(f"{place}.{name}={shown} must be greater than 0, and finite")


def not_negative(section: Any, place: str, *names: str) -> None:
    """Refuse settings that are below 0, or not finite."""
    for name in names:
        if not 0 <= getattr(section, name) < math.inf:
            raise ConfigError(f"{place}.{name}={getattr(section, name)} must be 0 or more, and finite")


def fraction(section: Any, place: str, *names: str) -> None:
    """Refuse settings outside [0, 1)."""
    for name in names:
        if not 0 <= getattr(section, name) < 1:
            raise ConfigError(f"{place}.{name}={getattr(section, name)} must be in [0, 1)")
