"""Puts each clip into train, val or test by a hash of the group it must not be parted from; a pure function.

A hash instead of a shuffle: a clip keeps its split when other clips come or go, on every machine, for ever. The shares
are therefore met on average, not to the clip.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from curation.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitFractions:
    """Shares of the clips, between 0 and 1; train gets the rest."""

    val: float = 0.1
    test: float = 0.1

    def __post_init__(self) -> None:
        if not (self.val >= 0 and self.test >= 0 and self.val + self.test <= 1):
            raise ConfigError(
                f"val_fraction={self.val} and test_fraction={self.test} must be 0 or more and make 1 or less together"
            )


def split_of(group: str, fractions: SplitFractions) -> str:
    """Return "test", "val" or "train" for every clip of a group: near-same sounds, and parts of one recording.

    Test comes first on the line from 0 to 1, so that a change of the val share moves no clip into or out of test.
    """
    digest = hashlib.sha256(f"split:{group}".encode()).digest()
    place = int.from_bytes(digest[:8]) / 2**64
    if place < fractions.test:
        return "test"
    return "val" if place < fractions.test + fractions.val else "train"
