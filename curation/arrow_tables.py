"""Rows to Arrow tables, checked; and the bytes of their Parquet files.

From dictionaries Arrow takes missing keys and nulls, drops unknown keys and cuts 1.5 to 1, all in silence. So every row
is checked here: whole batches first, by the types that occur in them, since a million rows one by one take minutes.
"""

from __future__ import annotations

import io
import itertools
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.errors import ManifestError

_BATCH = 20_000  # rows that are Python dictionaries at a time


def features(fields: list[pa.Field]) -> bytes:
    """Return the metadata by which ``datasets.load_dataset("parquet", ...)`` knows the columns."""

    def feature(kind: pa.DataType) -> dict[str, Any]:
        if pa.types.is_list(kind):
            return {"_type": "List", "feature": feature(kind.value_type)}
        return {"_type": "Value", "dtype": {"double": "float64", "float": "float32"}.get(str(kind), str(kind))}

    return json.dumps({"info": {"features": {field.name: feature(field.type) for field in fields}}}).encode()


def table_of(rows: Iterable[Mapping[str, Any]], schema: pa.Schema, *, file: Path) -> pa.Table:
    """Return rows as a table, in the order of clip_id.

    Args:
        rows: One dictionary a row with exactly the keys of the schema, in any order; held a batch at a time.
        schema: With a column clip_id.
        file: Named in errors.

    Raises:
        ManifestError: If a row does not fit the schema; names it and the column.
    """
    waiting, start, batches = iter(rows), 0, []
    while batch := list(itertools.islice(waiting, _BATCH)):
        batches.append(_record_batch(batch, schema, file, start))
        start += len(batch)
    table = pa.Table.from_batches(batches, schema=schema)
    ids = table["clip_id"].combine_chunks()
    if len(ids) > 1 and not pc.all(pc.less_equal(ids[:-1], ids[1:])).as_py():
        table = table.take(pc.sort_indices(ids))
    return table.combine_chunks()


def parquet_bytes(table: pa.Table) -> bytes:
    """Return the content of a table's Parquet file; the same table gives the same bytes."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def check_row(row: Mapping[str, Any], schema: pa.Schema) -> str | None:
    """Return what Arrow would take in silence: a missing or unknown key, a null, a value of another type; else None."""
    for field in schema:
        if field.name not in row:
            return f"{field.name} is missing"
        if (problem := _value_problem(row[field.name], field.type)) is not None:
            return f"{field.name} is {row[field.name]!r}, {problem}"
    if unknown := [key for key in row if key not in schema.names]:
        return f"unknown key {unknown[0]!r}; known: {', '.join(schema.names)}"
    return None


def _value_problem(value: Any, kind: pa.DataType) -> str | None:
    if value is None:
        return "must not be null"
    if pa.types.is_string(kind):
        return _text_problem(value)
    if pa.types.is_list(kind):
        if not isinstance(value, list):
            return "must be a list of strings"
        return next((f"in it {problem}" for item in value if (problem := _text_problem(item))), None)
    if pa.types.is_binary(kind):
        return None if isinstance(value, bytes) else "must be bytes"
    if pa.types.is_integer(kind):
        most = 2 ** (kind.bit_width - 1)
        if not isinstance(value, int) or isinstance(value, bool):
            return "must be a whole number"
        return None if -most <= value < most else f"must fit into {kind}"
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return "must be a number"
    return None if math.isfinite(value) else "must be finite"


def _text_problem(value: Any) -> str | None:
    if not isinstance(value, str):
        return "must be a string"
    try:
        value.encode()
    except UnicodeEncodeError:
        return "must be valid Unicode"
    return None


def _record_batch(rows: list[Mapping[str, Any]], schema: pa.Schema, file: Path, start: int) -> pa.RecordBatch:
    names = set(schema.names)
    if not all(row.keys() == names for row in rows):
        _refuse_bad_row(rows, schema, file, start)
    columns = {field.name: [row[field.name] for row in rows] for field in schema}
    if not all(_is_plain(columns[field.name], field.type) for field in schema):
        _refuse_bad_row(rows, schema, file, start)
    try:
        return pa.record_batch([pa.array(columns[field.name], field.type) for field in schema], schema=schema)
    except (UnicodeEncodeError, OverflowError, pa.ArrowInvalid):
        _refuse_bad_row(rows, schema, file, start)
        raise


def _is_plain(values: list[Any], kind: pa.DataType) -> bool:
    if pa.types.is_list(kind):
        return set(map(type, values)) <= {list} and _is_plain(list(itertools.chain.from_iterable(values)), pa.string())
    if pa.types.is_floating(kind):
        return set(map(type, values)) <= {float, int} and all(map(math.isfinite, values))
    if pa.types.is_binary(kind):
        return set(map(type, values)) <= {bytes}
    return set(map(type, values)) <= {str if pa.types.is_string(kind) else int}


def _refuse_bad_row(rows: list[Mapping[str, Any]], schema: pa.Schema, file: Path, start: int) -> None:
    for number, row in enumerate(rows, start=start):
        if (problem := check_row(row, schema)) is not None:
            raise ManifestError(f"{file}: row {number} (clip_id {row.get('clip_id')!r}): {problem}")
