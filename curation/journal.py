"""The journal of finished clips: ``<out>/.work/<clip_id>.json``, one whole file a clip.

A journal that cannot be read, of an older build or edited by hand, counts as none: the clip is worked on again.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
import math
import re
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crawler.items import open_whole
from curation.filters import Drop, DropReason
from curation.fingerprints import is_fingerprint
from curation.storage import is_local, write_whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What listening to a clip's source gives; names as in the manifest's columns."""

    pcm_sha256: str
    num_samples: int
    heard_peak_dbfs: float
    """After downmix and resampling, before it is scaled to fit; above 0 where it did not. The limits judge by it."""
    source_sample_rate: int
    source_channels: int
    source_subtype: str
    modifications: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sound(Heard):
    """What a build needs to know of a finished clip's sound."""

    sha256: str
    flac_bytes: int
    source_sha256: str
    fingerprint: bytes
    peak_dbfs: float
    rms_dbfs: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """What the journal says about one clip."""

    code: str
    """Versions that the outcome depends on."""
    limits: dict[str, float]
    """Those it was judged by."""
    expected_sha256: str
    source_version: list[int | str]
    """What changes when the source file does; its size in bytes comes first."""
    source_sha256: str
    outcome: Sound | Drop


_TYPES = {kind: typing.get_type_hints(kind) for kind in (Sound, Drop, JournalEntry)}


def read_journal(file: Path) -> JournalEntry | None:
    """Return a journal's entry, or None if there is none: no such file, or one that no build wrote or a hand edited."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError, ValueError, RecursionError):
        return None
    if not isinstance(values, dict):
        return None
    values["outcome"] = _outcome(values.pop("sound", None), values.pop("drop", None))
    return JournalEntry(**values) if _is_made_of(values, JournalEntry) else None


def write_journal(file: Path, entry: JournalEntry) -> None:
    """Write a journal, whole or not at all.

    Raises:
        OSError: As the file system says.
    """
    values = dataclasses.asdict(entry)
    outcome = values.pop("outcome")
    if isinstance(entry.outcome, Sound):
        outcome["fingerprint"] = base64.b64encode(entry.outcome.fingerprint).decode()
    values["sound" if isinstance(entry.outcome, Sound) else "drop"] = outcome
    content = json.dumps(values).encode()
    if not is_local(file):
        write_whole(file, content)
        return
    with open_whole(file, sync=False) as whole:  # one that a power cut shortens is none, and its clip is done again
        whole.write(content)


def _outcome(sound: Any, drop: Any) -> Sound | Drop | None:
    if isinstance(sound, dict) and isinstance(sound.get("fingerprint"), str):
        try:
            sound["fingerprint"] = base64.b64decode(sound["fingerprint"], validate=True)
        except binascii.Error:
            return None
        return Sound(**sound) if _is_made_of(sound, Sound) and _is_possible(Sound(**sound)) else None
    if _is_made_of(drop, Drop):
        return Drop(DropReason(drop["reason"]), drop["detail"])
    return None


def _is_possible(sound: Sound) -> bool:
    """Return whether a build may have written this: what a hand edited is refused here, not in the manifest."""
    hashes = (sound.sha256, sound.source_sha256, sound.pcm_sha256)
    levels = (sound.heard_peak_dbfs, sound.peak_dbfs, sound.rms_dbfs)
    counts = (sound.num_samples, sound.flac_bytes, sound.source_sample_rate, sound.source_channels)
    return (
        all(re.fullmatch("[0-9a-f]{64}", text) for text in hashes)
        and all(map(math.isfinite, levels))
        and sound.rms_dbfs <= sound.peak_dbfs + 1e-3 <= 1e-3
        and all(0 < number < 2**31 for number in counts[2:])
        and all(0 < number < 2**62 for number in counts[:2])
        and sound.source_channels < 2**15
        and is_fingerprint(sound.fingerprint)
    )


def _is_made_of(values: object, kind: type[Sound | Drop | JournalEntry]) -> bool:
    """Return whether values are a dictionary of a dataclass's fields, each of its type."""
    fields = _TYPES[kind]
    return (
        isinstance(values, dict)
        and values.keys() == fields.keys()
        and all(_is_a(values[name], field) for name, field in fields.items())
    )


def _is_a(value: object, kind: Any) -> bool:
    if kind is DropReason:
        return value in list(DropReason)
    if typing.get_origin(kind) is list:
        (inner,) = typing.get_args(kind)
        return isinstance(value, list) and all(_is_a(item, inner) for item in value)
    if typing.get_origin(kind) is dict:
        return isinstance(value, dict) and all(_is_a(item, int | float) for item in value.values())
    return isinstance(value, kind) and not isinstance(value, bool)
