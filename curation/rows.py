"""What a record and its sound say in the manifest, and what a dropped one says in its table; pure functions."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from crawler.items import CrawlRecord
from curation.clips import Sound, audio_path_of
from curation.filters import Drop
from curation.rules import SAMPLE_RATE
from curation.text import attribution, clean_tags, clean_text


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanText:
    """A record's text, cleaned."""

    title: str
    description: str
    tags: list[str]
    author: str


def clean_record(record: CrawlRecord) -> CleanText:
    """Return a record's text as the manifest has it."""
    return CleanText(
        title=clean_text(record.title),
        description=clean_text(record.description),
        tags=clean_tags(record.tags),
        author=clean_text(record.author),
    )


def manifest_row(record: CrawlRecord, text: CleanText, sound: Sound, *, clip_id: str) -> dict[str, Any]:
    """Return a clip's row, but for duplicate_group and split, which depend on other clips and on options."""
    page_url, license_url = _valid(record.page_url), _valid(record.license_url)
    measured = dataclasses.asdict(sound)
    del measured["flac_bytes"], measured["source_sha256"]
    return measured | {
        "clip_id": clip_id,
        "source": record.source,
        "source_id": record.source_id,
        "origin": record.source,
        "origin_id": record.source_id,
        "page_url": page_url,
        "audio_url": _valid(record.audio_url),
        "retrieved_at": _valid(record.retrieved_at),
        "title": text.title,
        "description": text.description,
        "tags": text.tags,
        "captions": [],
        "labels": [],
        "fold": -1,
        "author": text.author,
        "license": record.license,
        "license_url": license_url,
        "attribution": attribution(
            title=text.title,
            author=text.author,
            page_url=page_url,
            license_id=record.license,
            license_url=license_url,
        ),
        "audio_path": audio_path_of(clip_id),
        "sample_rate": SAMPLE_RATE,
        "duration_s": sound.num_samples / SAMPLE_RATE,
    }


def dropped_row(record: CrawlRecord, clip_id: str, drop: Drop) -> dict[str, Any]:
    """Return a record's row of dropped.parquet."""
    return {
        "clip_id": clip_id,
        "source": record.source,
        "source_id": record.source_id,
        "reason": str(drop.reason),
        "detail": _valid(drop.detail),
    }


def _valid(text: str) -> str:
    """Return the text without lone surrogates, which JSON can hold and Parquet cannot."""
    return text.encode("utf-8", "replace").decode().strip()
