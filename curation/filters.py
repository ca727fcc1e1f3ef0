"""Why a clip is not in the manifest: one check per reason; pure functions.

The reasons that only a decoder can find (not_audio to not_finite) are raised by ``curation.audio``; the two that
need other clips are found by ``curation.duplicates``; the rest is decided here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from crawler.items import LICENSES, address_key
from curation.errors import ConfigError


class DropReason(StrEnum):
    """Closed list; a new reason is added to CONTRACTS.md too."""

    MISSING_AUDIO = "missing_audio"  # the file is not there, cannot be read, or is not the one the record describes
    NOT_AUDIO = "not_audio"  # text, HTML, a Git LFS pointer, an image
    UNDECODABLE = "undecodable"  # begins like audio; no decoder makes sound of it
    EMPTY_AUDIO = "empty_audio"  # no bytes, or no samples
    TRUNCATED = "truncated"  # the end is missing
    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    TOO_LARGE = "too_large"
    SILENT = "silent"
    NOT_FINITE = "not_finite"  # NaN or infinite samples
    NO_TEXT = "no_text"  # title and description both empty
    REQUIRED_TEXT_MISSING = "required_text_missing"
    DUPLICATE_BYTES = "duplicate_bytes"
    DUPLICATE_PCM = "duplicate_pcm"
    OPTED_OUT = "opted_out"
    LICENSE_EXCLUDED = "license_excluded"


@dataclass(frozen=True, slots=True)
class Drop:
    """Why one record is not in the manifest, and what was found."""

    reason: DropReason
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What sound may be like. A change decodes those clips again that the old limits dropped."""

    min_duration_s: float = 0.1
    """Seconds, after resampling."""
    max_duration_s: float = 3600.0
    """Seconds. SoundBible has a recording of 45 minutes."""
    max_bytes: int = 2**30
    """Of the file as served; read before it is opened."""
    silent_peak_dbfs: float = -80.0
    """dB re full scale, after downmix and resampling; 16-bit sound at -80 has a peak of 3 steps."""

    def __post_init__(self) -> None:
        if not 0 < self.min_duration_s < self.max_duration_s < math.inf:
            raise ConfigError(
                f"min_duration_s={self.min_duration_s} and max_duration_s={self.max_duration_s} must satisfy "
                "0 < min_duration_s < max_duration_s < infinity"
            )
        if self.max_bytes <= 0:
            raise ConfigError(f"max_bytes={self.max_bytes} must be greater than 0")
        if not -200 < self.silent_peak_dbfs < 0:
            raise ConfigError(f"silent_peak_dbfs={self.silent_peak_dbfs} must be between -200 and 0 dB")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordRules:
    """Which records are wanted, judged before any audio is opened."""

    require: tuple[str, ...] = ()
    """Of "title" and "description": texts that must not be empty. The paper's 4,348 clips have both."""
    exclude_licenses: tuple[str, ...] = ()
    opted_out: frozenset[str] = field(default_factory=frozenset)
    """clip_ids and addresses of pages or audio whose authors asked to be left out; kept as their address keys."""

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.require) - {"title", "description"}):
            raise ConfigError(f"require: {', '.join(map(repr, unknown))} is not title or description")
        object.__setattr__(self, "opted_out", frozenset(map(address_key, self.opted_out)))
        if unknown := sorted(set(self.exclude_licenses) - set(LICENSES)):
            raise ConfigError(f"exclude_licenses: {', '.join(unknown)} is not one of {', '.join(LICENSES)}")


def check_record(
    rules: RecordRules,
    *,
    names: Sequence[str],
    title: str,
    description: str,
    license_id: str,
    has_other_text: bool = False,
) -> Drop | None:
    """Return why a record is not wanted, or None.

    Args:
        rules: What is wanted.
        names: What an opt-out may call it: its clip_id, the address of its page and that of its audio.
        title, description: Cleaned.
        license_id: One of ``crawler.items.LICENSES``.
        has_other_text: Captions of annotators or labels, which are text enough.
    """
    if out := [name for name in names if address_key(name) in rules.opted_out]:
        return Drop(DropReason.OPTED_OUT, f"{out[0]} is on the opt-out list")
    if license_id in rules.exclude_licenses:
        return Drop(DropReason.LICENSE_EXCLUDED, f"license is {license_id}")
    if not title and not description and not has_other_text:
        return Drop(DropReason.NO_TEXT, "title and description are empty")
    texts = {"title": title, "description": description}
    if missing := [name for name in rules.require if not texts[name]]:
        return Drop(DropReason.REQUIRED_TEXT_MISSING, f"{' and '.join(missing)} empty")
    return None


def check_source_bytes(limits: Limits, size: int) -> Drop | None:
    """Return why a file of that many bytes is not opened, or None."""
    if size > limits.max_bytes:
        return Drop(DropReason.TOO_LARGE, f"{size} bytes, more than {limits.max_bytes}")
    return None


def check_sound(limits: Limits, *, duration_s: float, peak_dbfs: float) -> Drop | None:
    """Return why a decoded sound is not wanted, or None. Both values are after downmix and resampling, unscaled."""
    if duration_s < limits.min_duration_s:
        return Drop(DropReason.TOO_SHORT, f"{duration_s:.4f} s, less than {limits.min_duration_s:g} s")
    if duration_s > limits.max_duration_s:
        # In the words of the decoder, which stops there and cannot know how much would follow.
        return Drop(DropReason.TOO_LONG, f"too long: more than {limits.max_duration_s:g} s")
    if peak_dbfs < limits.silent_peak_dbfs:
        return Drop(DropReason.SILENT, f"peak {peak_dbfs:.1f} dBFS, under {limits.silent_peak_dbfs:g} dBFS")
    return None
