"""The rules that a manifest's columns keep, each said once and checked on whole columns (Arrow kernels, no Python
loop over rows): a million rows take seconds. Reads a table, writes nothing, opens no audio.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from crawler.items import LICENSES

SAMPLE_RATE = 44_100
MOST_SHOWN = 20
"""Rows that are named for each broken rule; the rest is counted."""

_CLIP_ID = r"^[a-z0-9_]+-[A-Za-z0-9._-]+$"
_LONGEST_ID = 200  # characters: a file name may have 255 bytes
_SHA256 = r"^[0-9a-f]{64}$"
_UPWARDS = r"(^|/)\.{0,2}(/|$)"  # an empty part, ".", "..", or a "/" at either end


@dataclass(frozen=True, slots=True)
class Rule:
    """What one column must be."""

    column: str
    must: str
    """Ends the sentence "<column> is <value>, must ..."."""
    holds: Callable[[pa.Table], Any]
    """Takes the table, gives one Boolean a row."""


def _matches(column: str, pattern: str) -> Callable[[pa.Table], Any]:
    return lambda table: pc.match_substring_regex(table[column], pattern)


def _at_least(column: str, least: float) -> Callable[[pa.Table], Any]:
    return lambda table: pc.greater_equal(table[column], least)


def _comes_after_the_row_before(table: pa.Table) -> pa.Array:
    ids = table["clip_id"].combine_chunks()
    return pa.concat_arrays([pa.array([True] * min(1, len(ids)), pa.bool_()), pc.less(ids[:-1], ids[1:])])


def _starts_with_source(table: pa.Table) -> Any:
    return pc.equal(table["source"], pc.replace_substring_regex(table["clip_id"], "-.*$", ""))


def _is_relative(table: pa.Table) -> Any:
    upwards = pc.match_substring_regex(table["audio_path"], _UPWARDS)
    backslash = pc.match_substring_regex(table["audio_path"], r"[\\:\x00]")
    return pc.invert(pc.or_(upwards, backslash))


def _is_num_samples_over_rate(table: pa.Table) -> Any:
    seconds = pc.divide(pc.cast(table["num_samples"], pa.float64()), pc.cast(table["sample_rate"], pa.float64()))
    return pc.less_equal(pc.abs(pc.subtract(table["duration_s"], seconds)), 1e-9)


def _is_level(column: str) -> Callable[[pa.Table], Any]:
    return lambda table: pc.and_(pc.is_finite(table[column]), pc.less_equal(table[column], 0.0))


def _rms_is_at_most_peak(table: pa.Table) -> Any:
    # Float32 columns: the rms of a square wave may round to just above its peak.
    return pc.less_equal(table["rms_dbfs"], pc.add(table["peak_dbfs"], pa.scalar(1e-3, pa.float32())))


RULES = (
    Rule("clip_id", f"match {_CLIP_ID}", _matches("clip_id", _CLIP_ID)),
    Rule(
        "clip_id",
        f"have at most {_LONGEST_ID} characters",
        lambda table: pc.less_equal(pc.utf8_length(table["clip_id"]), _LONGEST_ID),
    ),
    Rule(
        "clip_id", "come after the clip_id of the row before (rows are sorted, ids unique)", _comes_after_the_row_before
    ),
    Rule("clip_id", "begin with the source and '-'", _starts_with_source),
    Rule("audio_path", "be relative, with '/' only and no '..'", _is_relative),
    Rule(
        "audio_path",
        "be audio/<clip_id>.flac",
        lambda table: pc.equal(
            table["audio_path"], pc.binary_join_element_wise("audio/", table["clip_id"], ".flac", "")
        ),
    ),
    Rule("license", f"be one of {', '.join(LICENSES)}", lambda table: pc.is_in(table["license"], pa.array(LICENSES))),
    Rule("sha256", "be 64 hexadecimal digits", _matches("sha256", _SHA256)),
    Rule("pcm_sha256", "be 64 hexadecimal digits", _matches("pcm_sha256", _SHA256)),
    Rule("duplicate_group", f"match {_CLIP_ID}", _matches("duplicate_group", _CLIP_ID)),
    Rule(
        "duplicate_group",
        "not come after the clip_id: it is that of the group's first clip",
        lambda table: pc.less_equal(table["duplicate_group"], table["clip_id"]),
    ),
    Rule("sample_rate", f"be {SAMPLE_RATE}", lambda table: pc.equal(table["sample_rate"], SAMPLE_RATE)),
    Rule("num_samples", "be greater than 0", _at_least("num_samples", 1)),
    Rule("duration_s", "be greater than 0", lambda table: pc.greater(table["duration_s"], 0.0)),
    Rule("duration_s", "be num_samples / sample_rate", _is_num_samples_over_rate),
    Rule("peak_dbfs", "be finite and at most 0", _is_level("peak_dbfs")),
    Rule("rms_dbfs", "be finite and at most 0", _is_level("rms_dbfs")),
    Rule("rms_dbfs", "be at most peak_dbfs", _rms_is_at_most_peak),
    Rule("source_sample_rate", "be greater than 0", _at_least("source_sample_rate", 1)),
    Rule("source_channels", "be greater than 0", _at_least("source_channels", 1)),
    Rule("fold", "be -1 or more", _at_least("fold", -1)),
    Rule("split", "not be empty", lambda table: pc.not_equal(table["split"], "")),
)


def broken_rules(table: pa.Table) -> Iterator[tuple[str, int]]:
    """Give a line, and how many rows it speaks of, for what breaks a rule.

    A line is of one row, "row 812 (clip_id 'soundbible-9'): duration_s is 0.0, must ..."; of many, the last of a rule
    counts those that are not shown.

    Args:
        table: With the columns of ``curation.manifest.SCHEMA``. If there are nulls, only they are reported.
    """
    has_nulls = False
    for name in table.column_names:
        if (problem := _null(table, name)) is not None:
            has_nulls = True
            yield problem, 1
    if has_nulls:
        return
    for rule in RULES:
        yield from _rows(table, rule.column, pc.invert(rule.holds(table)), f"must {rule.must}")
    yield from _untidy_tags(table)


def _rows(table: pa.Table, column: str, broken: Any, must: str) -> Iterator[tuple[str, int]]:
    where = pc.indices_nonzero(broken)
    for row in where[:MOST_SHOWN].to_pylist():
        yield f"{_place(table, row)}: {column} is {table[column][row].as_py()!r}, {must}", 1
    if (others := len(where) - MOST_SHOWN) > 0:
        yield f"{others} more rows: {column} {must}", others


def _null(table: pa.Table, name: str) -> str | None:
    column = table[name]
    if column.null_count:
        row = pc.indices_nonzero(pc.is_null(column))[0].as_py()
        return f"{_place(table, row)}: {name} is null"
    if pa.types.is_list(column.type) and pc.list_flatten(column).null_count:
        parents = pc.list_parent_indices(column)
        row = parents.filter(pc.is_null(pc.list_flatten(column)))[0].as_py()
        return f"{_place(table, row)}: {name} has a null in it"
    return None


def _untidy_tags(table: pa.Table) -> Iterator[tuple[str, int]]:
    """Rows whose tags repeat or are not in lower case."""
    words = pc.list_flatten(table["tags"])
    parents = pc.list_parent_indices(table["tags"])
    pairs = pa.table({"row": parents, "tag": words})
    counted = pairs.group_by(["row", "tag"]).aggregate([([], "count_all")])
    repeated = counted.filter(pc.greater(counted["count_all"], 1))["row"]
    raised = parents.filter(pc.not_equal(words, pc.ascii_lower(words)))
    for rows, must in ((repeated, "must be unique"), (raised, "must be lower case")):
        mask = pc.is_in(pa.array(range(len(table)), pa.int64()), value_set=pc.cast(pc.unique(rows), pa.int64()))
        yield from _rows(table, "tags", mask, must)


def _place(table: pa.Table, row: int) -> str:
    return f"row {row} (clip_id {table['clip_id'][row].as_py()!r})"
