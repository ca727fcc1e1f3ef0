"""Self-contained Parquet shards: a row a clip with its FLAC in it, as ``datasets`` and the Hub's viewer want them.

Written by pyarrow: the writer of ``datasets`` needs torchcodec to store audio. The audio column is theirs by
convention: a struct of bytes and path, and a feature "Audio" in the schema's metadata. Shards are cut where the content
says (content-defined chunking), so that the Hub stores what a later version has in common with this one only once.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.exports.shards import ExportedClip, Shard, ShardWriter, numbered
from curation.manifest import SCHEMA

FOLDER = "data"
SHARDS = "{split}-{number:05d}-of-{count:05d}.parquet"

_FIRST = ("clip_id", "audio", "text", "title", "description", "tags")  # what a viewer should show first
_AUDIO = pa.field("audio", pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())]))
_TEXT = pa.field("text", SCHEMA.field("captions").type, nullable=False)
_FEW_VALUES = (
    *("source", "origin", "license", "license_url", "source_subtype", "split", "fold", "sample_rate"),
    *("source_sample_rate", "source_channels", "tags.list.element", "labels.list.element"),
    "modifications.list.element",
)


def shard_schema(sample_rate: int) -> pa.Schema:
    """Return the columns of a shard: those of the manifest, the audio at a rate in Hz, and the text to train with."""
    fields = {field.name: field for field in [_AUDIO, _TEXT, *SCHEMA]}
    ordered = [fields[name] for name in dict.fromkeys([*_FIRST, *fields])]
    known = json.loads(SCHEMA.metadata[b"huggingface"])["info"]["features"]
    known |= {"audio": {"sampling_rate": sample_rate, "_type": "Audio"}, "text": known["captions"]}
    features = {field.name: known[field.name] for field in ordered}
    metadata = {
        "manifest_version": SCHEMA.metadata[b"manifest_version"],
        "huggingface": json.dumps({"info": {"features": features}}),
    }
    return pa.schema(ordered, metadata=metadata)


def plan_parquet(parts: Sequence[list[int]], split: str) -> list[Shard]:
    """Return the shards of one split."""
    return numbered(parts, split, f"{FOLDER}/{SHARDS}")


class ParquetShard:
    """One shard, written a row group at a time."""

    def __init__(self, file: IO[bytes], *, schema: pa.Schema) -> None:
        self._schema = schema
        self._writer = pq.ParquetWriter(
            file,
            schema,
            compression="zstd",  # FLAC does not shrink, and costs next to nothing to try
            use_dictionary=list(_FEW_VALUES),
            write_page_index=True,
            use_content_defined_chunking=True,
        )

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self._writer.close()

    def write(self, clips: Sequence[ExportedClip]) -> None:
        """Append one row group."""
        columns = []
        for field in self._schema:
            values: list[Any]
            if field.name == "audio":
                values = [_audio(clip) for clip in clips]
            elif field.name == "text":
                values = [list(clip.texts) for clip in clips]
            else:
                values = [clip.row[field.name] for clip in clips]
            columns.append(pa.array(values, field.type))
        self._writer.write_table(pa.Table.from_arrays(columns, schema=self._schema), row_group_size=len(clips))


def _audio(clip: ExportedClip) -> dict[str, bytes | str] | None:
    return None if clip.audio is None else {"bytes": clip.audio, "path": f"{clip.row['clip_id']}.flac"}
