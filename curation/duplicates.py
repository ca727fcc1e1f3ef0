"""Finds clips that are the same: same bytes as served, same samples once decoded; pure functions.

Of equal clips the first by clip_id stays, whatever its source or text. Near-same sound is not dropped; it shares a
duplicate_group, which the splits keep on one side.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from curation.filters import Drop, DropReason


class Hashed(Protocol):
    """What a finished clip tells about its source."""

    @property
    def source_sha256(self) -> str:
        """Of the file as served."""

    @property
    def pcm_sha256(self) -> str:
        """Of its decoded samples, rate and channel count."""


def find_duplicates(sounds: Mapping[str, Hashed]) -> dict[str, Drop]:
    """Return the clips to drop, by clip_id; the detail names the clip that stays.

    Args:
        sounds: By clip_id, in any order.
    """
    first_of: dict[tuple[DropReason, str], str] = {}
    drops: dict[str, Drop] = {}
    for clip_id in sorted(sounds):
        sound = sounds[clip_id]
        keys = (
            (DropReason.DUPLICATE_BYTES, sound.source_sha256),
            (DropReason.DUPLICATE_PCM, sound.pcm_sha256),
        )
        for key in keys:
            if key in first_of:
                drops[clip_id] = Drop(key[0], f"same as {first_of[key]}")
                break
        else:
            first_of.update(dict.fromkeys(keys, clip_id))
    return drops


def duplicate_groups(sounds: Mapping[str, Hashed]) -> dict[str, str]:
    """Return the duplicate group of each kept clip, by clip_id: the clip_id of the group's first member.

    Each clip stands alone so far: equal sound is dropped before, and near-same sound is not looked for yet.
    """
    return {clip_id: clip_id for clip_id in sounds}
