"""Which clips of a manifest may leave this machine: their licence, their authors' wishes, the splits asked for.

Judges rows, writes nothing. A licence is redistributable where it lets anyone pass the whole recording on, if only
without profit: whether a reader may use it commercially is another question, which the licence column answers. Not so
the BBC's RemArc licence (section 4h: "Sharing our content", links apart, is ruled out), personal-use and unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import pyarrow as pa

from crawler.items import LICENSES, address_key
from curation.errors import ConfigError
from curation.text import render_caption

NON_COMMERCIAL = frozenset({"cc-by-nc-3.0", "cc-by-nc-4.0", "cc-sampling-plus-1.0"})
"""Redistributable, but not for profit. Sampling Plus 1.0 allows that for the whole work, and profit for parts of it."""

REDISTRIBUTABLE = NON_COMMERCIAL | {"cc0-1.0", "public-domain", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0"}

POLICIES = ("redistributable", "all")

_NAMES = ("clip_id", "page_url", "audio_url")  # what an opt-out may call a clip
_TEXTS = ("title", "description", "tags", "captions", "labels")


class LeftOutReason(StrEnum):
    """Closed list: why a clip of the manifest is not in an export."""

    OPTED_OUT = "opted_out"
    OTHER_SPLIT = "other_split"  # of a split that was not asked for
    LICENSE_EXCLUDED = "license_excluded"
    NO_TEXT = "no_text"  # and the format has no clips without text


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """Why one clip is not in an export."""

    reason: LeftOutReason
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What may be exported."""

    licenses: str = "redistributable"
    """One of POLICIES."""
    include: tuple[str, ...] = ()
    """Licences besides those."""
    exclude: tuple[str, ...] = ()
    """Licences of those that are not wanted after all."""
    splits: tuple[str, ...] = ()
    """Empty: every split."""
    opted_out: frozenset[str] = field(default_factory=frozenset)
    """clip_ids and addresses of pages or audio whose authors asked to be left out; kept as their address keys."""

    def __post_init__(self) -> None:
        if self.licenses not in POLICIES:
            raise ConfigError(f"license policy is {self.licenses!r}, must be one of {', '.join(POLICIES)}")
        for name, those in (("include", self.include), ("exclude", self.exclude)):
            if unknown := sorted(set(those) - set(LICENSES)):
                raise ConfigError(f"licence to {name}: {', '.join(unknown)} is not one of {', '.join(LICENSES)}")
        if both := sorted(set(self.include) & set(self.exclude)):
            raise ConfigError(f"licences both to include and to exclude: {', '.join(both)}")
        object.__setattr__(self, "opted_out", frozenset(map(address_key, self.opted_out)))

    @property
    def allowed(self) -> frozenset[str]:
        """The licences whose clips are exported."""
        chosen = frozenset(LICENSES) if self.licenses == "all" else REDISTRIBUTABLE
        return (chosen | set(self.include)) - set(self.exclude)


def judge(table: pa.Table, policy: Policy, *, template: str, needs_text: bool) -> tuple[dict[int, LeftOut], int]:
    """Return why rows of a manifest stay out, by row number, and how many lines of the opt-out list name no clip.

    Args:
        table: With the columns of ``curation.manifest.SCHEMA``.
        policy: What may be exported.
        template: As ``texts_of`` takes it.
        needs_text: Whether a clip without any text stays out too.

    Raises:
        ConfigError: If the policy names a split that the manifest has not.
    """
    there = sorted(set(table["split"].to_pylist()))
    if unknown := [split for split in policy.splits if split not in there]:
        raise ConfigError(f"no split {unknown[0]!r} in the manifest; it has {', '.join(there) or 'no clips'}")
    left_out: dict[int, LeftOut] = {}
    met: set[str] = set()
    row = 0
    for batch in table.select([*_NAMES, "license", "split", *_TEXTS]).to_batches(max_chunksize=10_000):
        for clip in batch.to_pylist():
            names = {address_key(clip[name]): clip[name] for name in _NAMES}
            met |= (found := policy.opted_out & names.keys())
            if found:
                left_out[row] = LeftOut(
                    reason=LeftOutReason.OPTED_OUT, detail=f"{names[min(found)]} is on the opt-out list"
                )
            elif policy.splits and clip["split"] not in policy.splits:
                left_out[row] = LeftOut(reason=LeftOutReason.OTHER_SPLIT, detail=f"split is {clip['split']}")
            elif clip["license"] not in policy.allowed:
                left_out[row] = LeftOut(reason=LeftOutReason.LICENSE_EXCLUDED, detail=f"license is {clip['license']}")
            elif needs_text and not texts_of(clip, template):
                left_out[row] = LeftOut(reason=LeftOutReason.NO_TEXT, detail="no caption, title, tag or label")
            row += 1
    return left_out, len(policy.opted_out - met)


def texts_of(clip: Mapping[str, Any], template: str) -> list[str]:
    """Return what a model may be trained with: the annotators' captions; else one caption that the template makes.

    A clip that only has classes is called by them. The list is empty where there is no text of any kind.
    """
    if captions := [caption for caption in clip["captions"] if caption]:
        return captions
    made = render_caption(template, title=clip["title"], description=clip["description"], tags=clip["tags"])
    made = made or ", ".join(clip["labels"]).replace("_", " ")
    return [made] if made else []
