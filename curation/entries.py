"""What curation works on: one clip before its audio is opened, wherever it comes from.

A crawl's record and a row of a caption data set both become an Entry; everything after (``curation.build``) knows
only entries. Text in an Entry is cleaned already.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST_KEY = 128  # characters of a clip_id behind the source


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One clip as its source describes it; names as in the manifest's columns. A missing text is "", never None."""

    source: str
    """The site or data set: ``[a-z0-9_]+``."""
    source_id: str
    """Its own key there, unique within the source; any text."""
    origin: str = ""
    """Where the recording itself comes from: soundbible, freesound, youtube, bbc, ...; "" where not known."""
    origin_id: str = ""
    """Its key there; "" where not known."""
    page_url: str = ""
    audio_url: str = ""
    retrieved_at: str = ""
    title: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()
    """What annotators wrote; empty for crawled clips."""
    labels: tuple[str, ...] = ()
    fold: int = -1
    author: str = ""
    license: str = "unknown"
    """One of ``crawler.items.LICENSES``."""
    license_url: str = ""
    split: str = ""
    """The data set's own split; "": by hash."""
    audio_file: str = ""
    """Relative to the collection's root, "/" only; "" where the source names no file."""
    expected_sha256: str = ""
    """Of the audio file, where the source says it; else ""."""
    expected_bytes: int = -1
    """Of the audio file, where the source says it; else -1."""

    @property
    def clip_id(self) -> str:
        """``<source>-<key>``: the key is the source_id where that is safe as a file name, else made from it."""
        return f"{self.source}-{safe_key(self.source_id)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """Entries, and where their audio lies."""

    entries: Sequence[Entry]
    root: Path | None
    """Folder that audio_file is relative to; None: only text was read."""
    keep_duplicates: bool = False
    """True for a published data set, whose clips and splits stay as published: equal sound is grouped, not dropped."""
    notes: Sequence[str] = ()
    """What a user should know of how the source was read, one sentence each."""


def safe_key(source_id: str) -> str:
    """Return a source_id as the last part of a clip_id: itself where it is safe, else cleaned, with a hash of it.

    The hash keeps apart what the cleaning makes equal ("a b.wav" and "a_b.wav").
    """
    cleaned = _UNSAFE.sub("_", source_id).lstrip("._-")
    if cleaned and cleaned == source_id and len(cleaned) <= _LONGEST_KEY:
        return cleaned
    digest = hashlib.sha256(source_id.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{cleaned[: _LONGEST_KEY - 9]}-{digest}"
