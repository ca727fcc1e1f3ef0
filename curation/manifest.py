"""The manifest: the one contract between curation and everything after it.

``manifest.parquet`` holds one row a clip, ordered by clip_id, beside the folder ``audio/`` that audio_path points
into; ``dropped.parquet`` every record that is not in it, with the reason; ``flags.parquet`` what a person should look
at; ``fingerprints.parquet`` what finds near-same sound. Rows are checked one by one when they are written
(``curation.arrow_tables``), columns by ``curation.rules`` whenever they are read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.arrow_tables import features, parquet_bytes, table_of
from curation.errors import AudioError, ManifestError
from curation.filters import DropReason
from curation.rules import broken_rules
from curation.storage import local_copy, sha256_of, write_whole

MANIFEST_VERSION = "1"
MANIFEST_FILE = "manifest.parquet"
DROPPED_FILE = "dropped.parquet"
FLAGS_FILE = "flags.parquet"
FINGERPRINTS_FILE = "fingerprints.parquet"
STATISTICS_FILE = "statistics.json"
_SAMPLES_AT_ONCE = 2**22
REBUILD = "rebuild it with: wavtext5k-curate build"


def _field(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


_TEXTS = pa.list_(pa.field("element", pa.string(), nullable=False))

_FIELDS = [
    _field("clip_id", pa.string()),  # "<source>-<key>": unique, safe as a file name; rows are in its order
    _field("source", pa.string()),  # site or data set: [a-z0-9_]+
    _field("source_id", pa.string()),  # the clip's own key there
    _field("origin", pa.string()),  # where the recording comes from: soundbible, freesound, youtube, ...; "" unknown
    _field("origin_id", pa.string()),  # its key there; "" unknown
    _field("page_url", pa.string()),  # "" where there is none, like every text below
    _field("audio_url", pa.string()),
    _field("retrieved_at", pa.string()),  # UTC, ISO 8601
    _field("title", pa.string()),  # cleaned
    _field("description", pa.string()),  # cleaned
    _field("tags", _TEXTS),  # lower case, unique, in page order
    _field("captions", _TEXTS),  # by human annotators; empty for crawled clips
    _field("labels", _TEXTS),  # classes of a classification set; empty elsewhere
    _field("fold", pa.int16()),  # its cross-validation fold; -1 elsewhere
    _field("author", pa.string()),
    _field("license", pa.string()),  # one of crawler.items.LICENSES
    _field("license_url", pa.string()),
    _field("attribution", pa.string()),  # a ready line
    _field("audio_path", pa.string()),  # relative to the manifest, "/" only, never upwards
    _field("sha256", pa.string()),  # of the file at audio_path: 64 hexadecimal digits
    _field("pcm_sha256", pa.string()),  # of the decoded source: see curation.audio.ClipSound
    _field("duplicate_group", pa.string()),  # clip_id of the group's first member, often the clip's own
    _field("sample_rate", pa.int32()),  # Hz; 44100
    _field("num_samples", pa.int64()),  # per channel, more than 0
    _field("duration_s", pa.float64()),  # seconds: num_samples / sample_rate
    _field("peak_dbfs", pa.float32()),  # dB re full scale, after resampling; at most 0
    _field("rms_dbfs", pa.float32()),  # likewise; at most the peak
    _field("source_sample_rate", pa.int32()),  # Hz, as served
    _field("source_channels", pa.int16()),  # as served
    _field("source_subtype", pa.string()),  # as served: PCM_16, MPEG_LAYER_III, ...
    _field("modifications", _TEXTS),  # what was done to the sound, in order
    _field("split", pa.string()),  # train, val or test, or the data set's own name for one
]
SCHEMA = pa.schema(_FIELDS, metadata={"manifest_version": MANIFEST_VERSION, "huggingface": features(_FIELDS)})

_DROPPED_FIELDS = [
    _field("clip_id", pa.string()),  # as it would have been
    _field("source", pa.string()),
    _field("source_id", pa.string()),
    _field("reason", pa.string()),  # one of curation.filters.DropReason
    _field("detail", pa.string()),  # what was found
]
DROPPED_SCHEMA = pa.schema(
    _DROPPED_FIELDS, metadata={"manifest_version": MANIFEST_VERSION, "huggingface": features(_DROPPED_FIELDS)}
)

_FLAGS_FIELDS = [
    _field("clip_id", pa.string()),
    _field("flag", pa.string()),  # near_sound, near_text, language
    _field("other_clip_id", pa.string()),  # of a pair; else ""
    _field("score", pa.float64()),  # as the module that flags it defines it
    _field("detail", pa.string()),  # what was found
]
FLAGS_SCHEMA = pa.schema(
    _FLAGS_FIELDS, metadata={"manifest_version": MANIFEST_VERSION, "huggingface": features(_FLAGS_FIELDS)}
)

_FINGERPRINTS_FIELDS = [
    _field("clip_id", pa.string()),
    _field("fingerprint", pa.binary()),  # of the sound: see curation.fingerprints
]
FINGERPRINTS_SCHEMA = pa.schema(
    _FINGERPRINTS_FIELDS, metadata={"manifest_version": MANIFEST_VERSION, "huggingface": features(_FINGERPRINTS_FIELDS)}
)


def manifest_file(path: Path) -> Path:
    """Return the file of a manifest named by its folder or by the file itself."""
    return path / MANIFEST_FILE if path.is_dir() else path


def manifest_folder(path: Path) -> Path:
    """Return the folder that audio_path is relative to, of a manifest named by its folder or its file."""
    return manifest_file(path).parent


def manifest_hash(path: Path) -> str:
    """Return the sha256 of manifest.parquet, which runs and indexes remember.

    Raises:
        ManifestError: If there is no such file.
    """
    file = manifest_file(path)
    _check_there(file)
    return hashlib.sha256(file.read_bytes()).hexdigest()


def read_manifest(path: Path) -> pa.Table:
    """Return a manifest whose version, columns and rows keep every rule that needs no audio; it may have no rows.

    Args:
        path: Its folder, or manifest.parquet itself.

    Raises:
        ManifestError: If there is none, or it breaks a rule; names the first row, and how many more there are.
    """
    file = manifest_file(path)
    table = _read_table(file, SCHEMA)
    _refuse(file, broken_rules(table))
    return table


def read_clip_ids(path: Path) -> list[str]:
    """Return the clip_ids of a manifest as they stand there, whether or not its rows keep the rules.

    Raises:
        ManifestError: If there is no manifest, or its version or columns are others.
    """
    clip_ids: list[str] = _read_table(manifest_file(path), SCHEMA)["clip_id"].to_pylist()
    return clip_ids


def read_dropped(path: Path) -> pa.Table:
    """Return dropped.parquet of a manifest named by its folder or file.

    Raises:
        ManifestError: If there is none, or its columns are others.
    """
    return _read_table(manifest_folder(path) / DROPPED_FILE, DROPPED_SCHEMA)


def read_flags(path: Path) -> pa.Table:
    """Return flags.parquet of a manifest named by its folder or file: what a person should look at.

    Raises:
        ManifestError: If there is none, or its columns are others.
    """
    return _read_table(manifest_folder(path) / FLAGS_FILE, FLAGS_SCHEMA)


def read_fingerprints(path: Path) -> dict[str, bytes]:
    """Return the fingerprint of each clip's sound by clip_id, of a manifest named by its folder or file.

    Raises:
        ManifestError: If there are none, or the columns are others.
    """
    table = _read_table(manifest_folder(path) / FINGERPRINTS_FILE, FINGERPRINTS_SCHEMA)
    return dict(zip(table["clip_id"].to_pylist(), table["fingerprint"].to_pylist(), strict=True))


def write_manifest(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write manifest.parquet from rows in any order, whole or not at all; the same rows give the same bytes.

    Args:
        path: Its folder, or the file itself.
        rows: One dictionary a clip with exactly the keys of SCHEMA.

    Raises:
        ManifestError: If a row breaks the contract; names it and the column.
    """
    file = path if path.suffix == ".parquet" else path / MANIFEST_FILE
    write_whole(file, parquet_bytes(manifest_table(rows, file=file)))


def manifest_table(rows: Iterable[Mapping[str, Any]], *, file: Path) -> pa.Table:
    """Return rows as the manifest's table; ``file`` is named in errors (ManifestError)."""
    table = table_of(rows, SCHEMA, file=file)
    _refuse(file, broken_rules(table))
    return table


def dropped_table(rows: Iterable[Mapping[str, Any]], *, file: Path) -> pa.Table:
    """Return rows as the drop table; ``file`` is named in errors (ManifestError)."""
    table = table_of(rows, DROPPED_SCHEMA, file=file)
    reasons = [str(reason) for reason in DropReason]
    if other := sorted(set(table["reason"].to_pylist()) - set(reasons)):
        row = table["reason"].to_pylist().index(other[0])
        clip_id = table["clip_id"][row].as_py()
        raise ManifestError(
            f"{file}: row {row} (clip_id {clip_id!r}): reason is {other[0]!r}, must be one of {reasons}"
        )
    return table


def validate_manifest(
    path: Path, *, read_audio: bool = False, progress: Callable[[int, int], None] = lambda done, total: None
) -> list[str]:
    """Return what is wrong with a manifest and its audio, one line a problem; an empty list means that all is well.

    Args:
        path: Its folder, or manifest.parquet itself.
        read_audio: Also hash and decode every file, instead of only looking whether it is there.
        progress: Called with clips done and clips in all.

    Raises:
        ManifestError: If there is no manifest, or its version or columns are others, so that rows cannot be judged.
    """
    file = manifest_file(path)
    table = _read_table(file, SCHEMA)
    broken = list(broken_rules(table))
    if broken:
        return [line for line, _ in broken]
    problems = []
    columns = ["clip_id", "audio_path", "sha256", "num_samples"]
    clips = table.select(columns).to_pylist()
    for row, clip in enumerate(clips):
        found = _audio_problem(file.parent / clip["audio_path"], clip, read_audio)
        if found:
            problems.append(f"row {row} (clip_id {clip['clip_id']!r}): {found}")
        progress(row + 1, len(clips))
    return problems


def _read_table(file: Path, schema: pa.Schema) -> pa.Table:
    _check_there(file)
    with file.open("rb") as opened:  # opened here: Arrow takes no path that is not UTF-8
        try:
            table = pq.ParquetFile(opened).read()
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
            raise ManifestError(f"{file}: not a whole Parquet file ({error}); {REBUILD}") from error
    version = (table.schema.metadata or {}).get(b"manifest_version", b"0").decode("utf-8", "replace")
    versions = f"(manifest version {version}, this code reads {MANIFEST_VERSION}); {REBUILD}"
    for field in schema:
        if field.name not in table.column_names:
            raise ManifestError(f"{file}: column {field.name!r} is missing {versions}")
        if (found := table.schema.field(field.name).type) != field.type:
            raise ManifestError(f"{file}: column {field.name!r} is of type {found}, must be {field.type} {versions}")
    if unknown := [name for name in table.column_names if name not in schema.names]:
        raise ManifestError(f"{file}: column {unknown[0]!r} is not part of a manifest {versions}")
    if version != MANIFEST_VERSION:
        raise ManifestError(f"{file}: written by another version {versions}")
    return table


def _check_there(file: Path) -> None:
    if not file.is_file():
        unfinished = " (the build there is not finished)" if (file.parent / ".work").is_dir() else ""
        raise ManifestError(f"{file}: no such manifest{unfinished}; build it with: wavtext5k-curate build")


def _refuse(file: Path, broken: Iterable[tuple[str, int]]) -> None:
    found = list(broken)
    if found:
        others = sum(rows for _, rows in found) - 1
        more = f" (and {others} more: wavtext5k-curate validate {file})" if others else ""
        raise ManifestError(f"{file}: {found[0][0]}{more}")


def _audio_problem(file: Path, clip: Mapping[str, Any], read_audio: bool) -> str | None:
    if not file.is_file():
        return f"{clip['audio_path']}: no such file"
    if not read_audio:
        return None
    with local_copy(file) as local:
        if (found := sha256_of(local)) != clip["sha256"]:
            return f"{clip['audio_path']}: sha256 is {found}, must be {clip['sha256']}"
        try:
            num_samples = _count_samples(local)
        except AudioError as error:
            return str(error)
    if num_samples != clip["num_samples"]:
        return f"{clip['audio_path']}: {num_samples} samples, must be {clip['num_samples']}"
    return None


def _count_samples(file: Path) -> int:
    from curation.audio import read_clip  # here, so that reading a manifest loads no decoder

    total = 0
    while read := len(read_clip(file, start=total, num_samples=_SAMPLES_AT_ONCE)):
        total += read
    return total
