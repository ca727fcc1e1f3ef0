"""What every format has in common: the clips of an export, read and checked, and how they are shared among shards."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import soundfile

from curation.errors import ManifestError
from curation.exports.policy import texts_of
from curation.exports.resampling import resample_flac
from curation.rules import SAMPLE_RATE
from curation.storage import is_local, local_copy, map_reads, version_of

GROUP_CLIPS = 100
"""Clips in memory at a time, and in a row group of Parquet: a reader that wants one clip reads its whole group."""

GROUP_BYTES = 64 * 2**20
"""Bytes of audio in memory at a time, unless one clip is larger; the Hub's viewer refuses what is above 286 MiB."""

_LARGEST_CLIP = 2**31 - 1  # bytes: what one value of a Parquet column of the kind that readers know may have
_MOST_SHARDS = 99_999  # their names have five digits


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedClip:
    """One clip of an export."""

    row: Mapping[str, Any]
    """Its row of the manifest, changed where the sound was."""
    texts: Sequence[str]
    audio: bytes | None
    """A FLAC; None: only its text goes out."""
    scaled: str = ""
    """How its modifications say that the export scaled it; "" where it did not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One file of an export, before it is written."""

    name: str
    """Relative to the export's folder, "/" only."""
    split: str
    rows: Sequence[int]
    """Row numbers in the manifest, in the order in which the clips are written."""


class ShardWriter(Protocol):
    """Writes the clips of one shard, group by group; a context whose end completes the file."""

    def __enter__(self) -> ShardWriter: ...
    def __exit__(self, *error: object) -> None: ...
    def write(self, clips: Sequence[ExportedClip]) -> None:
        """Append a group of clips."""


class OpenShard(Protocol):
    """Begins a shard of one format in an open file."""

    def __call__(self, file: IO[bytes], /) -> ShardWriter: ...


def audio_sizes(folder: Path, audio_paths: Sequence[str]) -> list[int]:
    """Return the size in bytes of each clip's FLAC.

    Args:
        folder: That of the manifest.
        audio_paths: Relative to it.

    Raises:
        ManifestError: If files are not there, or are too large for an export; says how many, and names the first.
    """

    def size(audio_path: str) -> int:
        try:
            return int(version_of(folder / audio_path)[0])
        except (FileNotFoundError, NotADirectoryError):
            return -1

    sizes = map_reads(size, audio_paths, is_remote=not is_local(folder))
    for problem, those in (
        ("no such file; build it again with: wavtext5k-curate build", [size < 0 for size in sizes]),
        (f"more than {_LARGEST_CLIP} bytes, too much for one row", [size > _LARGEST_CLIP for size in sizes]),
    ):
        if any(those):
            more = f" (and {sum(those) - 1} more clips)" if sum(those) > 1 else ""
            raise ManifestError(f"{folder / audio_paths[those.index(True)]}: {problem}{more}")
    return sizes


def share_out(rows: Sequence[int], sizes: Mapping[int, int], *, shard_bytes: int) -> list[list[int]]:
    """Return rows in as few shards as the size allows, of nearly equal size, in their order; none is empty.

    Equal, because a training process that gets the small shard waits for the others. A shard may be larger than
    ``shard_bytes`` by less than one clip.
    """
    total = sum(sizes[row] for row in rows)
    wanted = max(1, -(-total // shard_bytes))
    shards: dict[int, list[int]] = {}
    before = 0
    for row in rows:
        shards.setdefault(min(wanted - 1, before * wanted // max(total, 1)), []).append(row)
        before += sizes[row]
    return list(shards.values())


def numbered(parts: Sequence[list[int]], split: str, pattern: str) -> list[Shard]:
    """Return the shards of one split, named by a pattern with {split}, {number} and {count}.

    Raises:
        ManifestError: If there are more than names can count.
    """
    if len(parts) > _MOST_SHARDS:
        raise ManifestError(f"split {split}: {len(parts)} shards, at most {_MOST_SHARDS}; name a larger --shard-size")
    return [
        Shard(name=pattern.format(split=split, number=number, count=len(parts)), split=split, rows=rows)
        for number, rows in enumerate(parts)
    ]


def groups(rows: Sequence[int], sizes: Mapping[int, int]) -> Iterator[list[int]]:
    """Give the rows of a shard in groups that fit into memory."""
    group: list[int] = []
    filled = 0
    for row in rows:
        if group and (len(group) == GROUP_CLIPS or filled + sizes[row] > GROUP_BYTES):
            yield group
            group, filled = [], 0
        group.append(row)
        filled += sizes[row]
    if group:
        yield group


def read_clips(
    folder: Path, rows: Sequence[Mapping[str, Any]], *, template: str, sample_rate: int, silent: frozenset[str]
) -> list[ExportedClip]:
    """Return clips with their audio, each checked against the manifest's sha256.

    Args:
        folder: That of the manifest.
        rows: Of the manifest.
        template: Makes the caption of a clip that has none.
        sample_rate: Hz, of the audio that goes out.
        silent: clip_ids of which only the text goes out.

    Raises:
        ManifestError: If a file is not there any more, or is not the one that the manifest describes.
    """

    def read(row: Mapping[str, Any]) -> ExportedClip:
        texts = texts_of(row, template)
        if row["clip_id"] in silent:
            return ExportedClip(row=row, texts=texts, audio=None)
        content = _read_flac(folder / row["audio_path"], row)
        if sample_rate == SAMPLE_RATE:
            return ExportedClip(row=row, texts=texts, audio=content)
        return _at_rate(folder / row["audio_path"], row, texts, content, sample_rate)

    return map_reads(read, rows, is_remote=not is_local(folder))


def modified(modifications: Sequence[str], *, sample_rate: int, scaled: str) -> list[str]:
    """Return a clip's modifications, with those of an export whose audio is at a rate in Hz."""
    resampled = f"resampled: {SAMPLE_RATE} to {sample_rate} Hz" if sample_rate != SAMPLE_RATE else ""
    return [*modifications, *filter(None, [resampled, scaled])]


def _read_flac(file: Path, row: Mapping[str, Any]) -> bytes:
    try:
        with local_copy(file) as local:
            content = local.read_bytes()
    except FileNotFoundError as error:
        raise ManifestError(f"{file}: gone since the export began; build it again, then export again") from error
    if (found := hashlib.sha256(content).hexdigest()) != row["sha256"]:
        raise ManifestError(
            f"{file}: not the file of the manifest (sha256 {found}, must be {row['sha256']}); "
            "remove it, build again, then export again"
        )
    return content


def _at_rate(
    file: Path, row: Mapping[str, Any], texts: Sequence[str], content: bytes, sample_rate: int
) -> ExportedClip:
    try:
        sound = resample_flac(content, sample_rate=sample_rate)
    except soundfile.LibsndfileError as error:
        raise ManifestError(f"{file}: cannot be decoded ({error.error_string}); build it again") from error
    scaled = f"scaled: {sound.gain_db:.2f} dB" if sound.gain_db else ""
    changes = {
        "sha256": hashlib.sha256(sound.content).hexdigest(),
        "sample_rate": sample_rate,
        "num_samples": sound.num_samples,
        "duration_s": sound.num_samples / sample_rate,
        "peak_dbfs": sound.peak_dbfs,
        "rms_dbfs": sound.rms_dbfs,
        "modifications": modified(row["modifications"], sample_rate=sample_rate, scaled=scaled),
    }
    return ExportedClip(row=dict(row) | changes, texts=texts, audio=sound.content, scaled=scaled)
