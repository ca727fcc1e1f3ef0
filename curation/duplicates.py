"""Finds clips that are the same, and which clips belong together; pure functions.

Same means the same bytes as served, or the same samples once decoded. Of the same clips the first by clip_id stays,
whatever its source or text; in a published data set all stay. Near-same sound (``curation.fingerprints``) is never
dropped. What stays shares a duplicate_group, which the splits keep on one side.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
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
    return {clip_id: Drop(reason, f"same as {first}") for clip_id, first, reason in _repeats(sounds)}


def duplicate_pairs(sounds: Mapping[str, Hashed]) -> list[tuple[str, str]]:
    """Return each clip that ``find_duplicates`` would drop with the one that would stay: they form one group."""
    return [(clip_id, first) for clip_id, first, _ in _repeats(sounds)]


def duplicate_groups(clip_ids: Iterable[str], pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the duplicate group of each clip, by clip_id: the smallest clip_id of all that pairs connect it to.

    Neither the order of the pairs nor that within a pair matters.

    Raises:
        ValueError: If a pair names a clip that is not among the clip_ids.
    """
    first = {clip_id: clip_id for clip_id in clip_ids}

    def root(clip_id: str) -> str:
        while first[clip_id] != clip_id:
            first[clip_id] = first[first[clip_id]]
            clip_id = first[clip_id]
        return clip_id

    for pair in pairs:
        if unknown := [clip_id for clip_id in pair if clip_id not in first]:
            raise ValueError(f"pairs must be of the clips given, got {unknown[0]!r}")
        least, most = sorted(map(root, pair))
        first[most] = least
    return {clip_id: root(clip_id) for clip_id in first}


def _repeats(sounds: Mapping[str, Hashed]) -> Iterator[tuple[str, str, DropReason]]:
    """Yield each clip that repeats an earlier one, that one, and what is the same."""
    first_of: dict[tuple[DropReason, str], str] = {}
    for clip_id in sorted(sounds):
        sound = sounds[clip_id]
        keys = (
            (DropReason.DUPLICATE_BYTES, sound.source_sha256),
            (DropReason.DUPLICATE_PCM, sound.pcm_sha256),
        )
        for key in keys:
            if key in first_of:
                yield clip_id, first_of[key], key[0]
                break
        else:
            first_of.update(dict.fromkeys(keys, clip_id))
