"""What goes out of a manifest and what stays, and the numbers that say so; reads the manifest, opens no audio."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.arrow_tables import features, parquet_bytes
from curation.errors import ConfigError, ManifestError
from curation.exports.policy import NON_COMMERCIAL, REDISTRIBUTABLE, LeftOut, LeftOutReason, Policy, judge
from curation.exports.shards import Shard
from curation.manifest import manifest_file, manifest_folder, manifest_hash, read_manifest
from curation.rules import SAMPLE_RATE
from curation.text import parse_template

FORMATS = ("parquet", "webdataset")
EXPORT_VERSION = "2"
"""Raised when the same inputs give other files; older exports are then written anew."""

_SPLIT_NAME = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")
_USUAL_SPLITS = ("train", "val", "test")
_SAMPLE_RATES = (8_000, 192_000)  # Hz

_LEFT_OUT_FIELDS = [
    pa.field(name, pa.string(), nullable=False)
    for name in ("clip_id", "source", "source_id", "license", "reason", "detail")
]
LEFT_OUT_SCHEMA = pa.schema(_LEFT_OUT_FIELDS, metadata={"huggingface": features(_LEFT_OUT_FIELDS)})


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """What an export may be told."""

    format: str = "parquet"
    """One of FORMATS."""
    policy: Policy = field(default_factory=Policy)
    template: str = "{title}. {description}"
    """Makes the caption of a clip that annotators wrote none for: see ``curation.text.render_caption``."""
    shard_bytes: int = 500_000_000
    """Of audio; a shard may be larger by less than one clip."""
    sample_rate: int = SAMPLE_RATE
    """Hz, of the audio that goes out; another one than the manifest's is resampled."""
    keep_text: bool = False
    """Let clips whose licence keeps their sound back go out as text. Parquet only."""
    overwrite: bool = False
    """Also in a folder that something else made, or that holds the other format."""

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise ConfigError(f"format is {self.format!r}, must be one of {', '.join(FORMATS)}")
        try:
            parse_template(self.template)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        if self.shard_bytes <= 0:
            raise ConfigError(f"shard_bytes={self.shard_bytes} must be greater than 0")
        least, most = _SAMPLE_RATES
        if not least <= self.sample_rate <= most:
            raise ConfigError(f"sample_rate={self.sample_rate} must be between {least} and {most} Hz")
        if self.keep_text and self.format != "parquet":
            raise ConfigError(f"text without sound goes into parquet only, not into {self.format}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """A manifest, and what of it goes out. A row is called by its number."""

    folder: Path
    """That audio_path is relative to."""
    table: pa.Table
    clip_ids: list[str]
    left_out: Mapping[int, LeftOut]
    silent: frozenset[int]
    """Of those left out, rows whose text goes out all the same."""
    rows: Mapping[str, list[int]]
    """Rows that go out, by split."""
    inputs: Mapping[str, Any]
    """All that decides what comes out, as JSON gives it back."""
    unmatched_opt_outs: int
    """Lines of the opt-out list that name no clip."""

    @property
    def sounding(self) -> list[int]:
        """Rows that go out with their sound, in the manifest's order."""
        return sorted(row for rows in self.rows.values() for row in rows if row not in self.silent)

    def take(self, rows: Iterable[int], columns: list[str]) -> pa.Table:
        """Return columns of rows."""
        return self.table.select(columns).take(pa.array(rows, pa.int64()))


def select(manifest: Path, options: ExportOptions) -> Selection:
    """Return what goes out.

    Raises:
        ManifestError: If the manifest is broken, nothing of it may go out, or a split has a name that readers refuse.
        ConfigError: If the options name a split that is not there.
    """
    table = read_manifest(manifest).combine_chunks()
    clip_ids = table["clip_id"].to_pylist()
    left_out, unmatched = judge(
        table, options.policy, template=options.template, needs_text=options.format == "webdataset"
    )
    if len(left_out) == len(table):
        counts = Counter(str(found.reason) for found in left_out.values())
        why = ", ".join(f"{reason} {count}" for reason, count in counts.items()) or "it has no clips"
        raise ManifestError(
            f"{manifest_file(manifest)}: no clip may be exported ({why}); --include-license lets more out"
        )
    silent = frozenset(
        row for row, found in left_out.items() if options.keep_text and found.reason is LeftOutReason.LICENSE_EXCLUDED
    )
    rows: dict[str, list[int]] = {}
    for row, split in enumerate(table["split"].to_pylist()):
        if row not in left_out or row in silent:
            rows.setdefault(split, []).append(row)
    for split in rows:
        if not _SPLIT_NAME.fullmatch(split) or split == "all":  # "all" means every split to datasets
            raise ManifestError(
                f"{manifest_file(manifest)}: split {split!r} is no name for one: it must be made of letters, digits, "
                "'_' and inner '.', and not be 'all'; leave it out with --split"
            )
    return Selection(
        folder=manifest_folder(manifest),
        table=table,
        clip_ids=clip_ids,
        left_out=left_out,
        silent=silent,
        rows={split: rows[split] for split in sorted(rows, key=_place)},
        inputs=_inputs(manifest_hash(manifest), clip_ids, left_out, options),
        unmatched_opt_outs=unmatched,
    )


def left_out_bytes(chosen: Selection) -> bytes:
    """Return the content of left_out.parquet."""
    rows = sorted(chosen.left_out)
    table = chosen.take(rows, ["clip_id", "source", "source_id", "license"])
    reasons = [str(chosen.left_out[row].reason) for row in rows]
    details = [
        chosen.left_out[row].detail + ("; its text is in the shards" if row in chosen.silent else "") for row in rows
    ]
    columns = [*table.columns, pa.array(reasons, pa.string()), pa.array(details, pa.string())]
    return parquet_bytes(pa.Table.from_arrays(columns, schema=LEFT_OUT_SCHEMA))


def count(chosen: Selection, shards: Sequence[Shard], options: ExportOptions) -> dict[str, Any]:
    """Return the facts of export.json, but for the names of its files; checks that no clip has got lost.

    Hours, licences and splits count clips that go out with their sound.
    """
    written = [row for shard in shards for row in shard.rows if row not in chosen.silent]
    sounding = chosen.sounding
    if sorted(written) != sounding or len(sounding) + len(chosen.left_out) != len(chosen.table):
        raise RuntimeError(f"{len(chosen.table)} clips in, {len(sounding)} exported, {len(chosen.left_out)} left out")
    clips = chosen.take(sounding, ["license", "split", "duration_s"])
    licenses = dict(sorted(Counter(clips["license"].to_pylist()).items()))
    in_split, hours = Counter(clips["split"].to_pylist()), Counter[str]()
    for split, duration_s in zip(clips["split"].to_pylist(), clips["duration_s"].to_pylist(), strict=True):
        hours[split] += duration_s / 3600
    splits = {
        split: {
            "clips": in_split[split],
            "hours": hours[split],
            "shards": sum(shard.split == split for shard in shards),
        }
        for split in chosen.rows
    }
    return {
        "format": options.format,
        "sample_rate": options.sample_rate,
        "clips": {
            "in_manifest": len(chosen.table),
            "exported": len(sounding),
            "left_out": len(chosen.left_out),
            "text_only": len(chosen.silent),
        },
        "left_out": dict(sorted(Counter(str(found.reason) for found in chosen.left_out.values()).items())),
        "hours": sum(counts["hours"] for counts in splits.values()),
        "splits": splits,
        "licenses": licenses,
        "non_commercial": sum(clips for name, clips in licenses.items() if name in NON_COMMERCIAL),
        "not_redistributable": sum(clips for name, clips in licenses.items() if name not in REDISTRIBUTABLE),
    }


def _inputs(
    sha256: str, clip_ids: list[str], left_out: Mapping[int, LeftOut], options: ExportOptions
) -> dict[str, Any]:
    # The opt-out list itself is not among them: one that names no clip changes nothing.
    stays = "".join(f"{clip_ids[row]} {left_out[row].reason} {left_out[row].detail}\n" for row in sorted(left_out))
    return {
        "export_version": EXPORT_VERSION,
        "manifest_sha256": sha256,
        "left_out_sha256": hashlib.sha256(stays.encode()).hexdigest(),
        "format": options.format,
        "license_policy": options.policy.licenses,
        "include_licenses": sorted(options.policy.include),
        "exclude_licenses": sorted(options.policy.exclude),
        "splits": sorted(options.policy.splits),
        "keep_text": options.keep_text,
        "template": options.template,
        "shard_bytes": options.shard_bytes,
        "sample_rate": options.sample_rate,
    }


def _place(split: str) -> tuple[int, str]:
    return _USUAL_SPLITS.index(split) if split in _USUAL_SPLITS else len(_USUAL_SPLITS), split
