"""One entry and its sound to one row of the manifest; pure functions."""

from __future__ import annotations

import dataclasses
from typing import Any

from curation.clips import audio_path_of
from curation.entries import Entry
from curation.filters import Drop
from curation.journal import Sound
from curation.rules import SAMPLE_RATE
from curation.text import attribution, valid_text

_NOT_COLUMNS = ("flac_bytes", "source_sha256", "fingerprint", "heard_peak_dbfs")
_OF_THE_SOURCE = ("audio_file", "expected_sha256", "expected_bytes")


def manifest_row(entry: Entry, sound: Sound, *, duplicate_group: str, split: str) -> dict[str, Any]:
    """Return a clip's row."""
    described, measured = dataclasses.asdict(entry), dataclasses.asdict(sound)
    for name in _OF_THE_SOURCE:
        del described[name]
    for name in _NOT_COLUMNS:
        del measured[name]
    clip_id = entry.clip_id
    return {
        **described,
        **measured,
        "clip_id": clip_id,
        "tags": list(entry.tags),
        "captions": list(entry.captions),
        "labels": list(entry.labels),
        "attribution": attribution(
            title=entry.title,
            author=entry.author,
            page_url=entry.page_url,
            license_id=entry.license,
            license_url=entry.license_url,
        ),
        "audio_path": audio_path_of(clip_id),
        "duplicate_group": duplicate_group,
        "sample_rate": SAMPLE_RATE,
        "duration_s": sound.num_samples / SAMPLE_RATE,
        "split": split,
    }


def dropped_row(entry: Entry, drop: Drop) -> dict[str, Any]:
    """Return an entry's row of dropped.parquet."""
    return {
        "clip_id": entry.clip_id,
        "source": entry.source,
        "source_id": entry.source_id,
        "reason": str(drop.reason),
        "detail": valid_text(drop.detail),
    }
