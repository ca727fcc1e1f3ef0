"""Counts what a build kept and dropped, for statistics.json; pure functions.

Words are what white space separates (``curation.words`` counts them). Only counts that follow from the manifest, the
drop table, the flags and the options are here, no times and no paths: the same input gives the same bytes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.manifest import MANIFEST_VERSION
from curation.words import word_counts

PERCENTILES = (5, 25, 50, 75, 95, 99)
_LINEAR_BITS = {
    "PCM_S8": "8",
    "PCM_U8": "8",
    "PCM_16": "16",
    "PCM_24": "24",
    "PCM_32": "32",
    "FLOAT": "32 float",
    "DOUBLE": "64 float",
}
"""Bits of a sample by soundfile's name of its format; every other format is coded, and has no depth."""


def count_manifest(
    manifest: pa.Table,
    dropped: pa.Table,
    *,
    flags: pa.Table,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the content of statistics.json; a million clips take a few seconds.

    Args:
        manifest: With the columns of ``curation.manifest.SCHEMA``.
        dropped: With those of ``DROPPED_SCHEMA``.
        flags: With clip_id, flag, other_clip_id, score, detail.
        options: What decided, as it was set.
    """
    return {
        "manifest_version": MANIFEST_VERSION,
        "records": len(manifest) + len(dropped),
        "clips": len(manifest),
        "dropped": _count_column(dropped["reason"]),
        "hours": _hours(manifest),
        "duration_s": distribution(manifest["duration_s"].to_numpy()),
        "sources": _sources(manifest, dropped),
        "splits": {
            split: _clips_and_hours(part) for split, part in _parts(manifest.select(["split", "duration_s"]), "split")
        },
        "duplicate_groups": _groups(manifest["duplicate_group"]),
        "flags": {kind: {"rows": len(part), "clips": _clips_flagged(part)} for kind, part in _parts(flags, "flag")},
        "languages": _languages(flags),
        "licenses": _count_column(manifest["license"]),
        "source_sample_rates": _count_column(manifest["source_sample_rate"]),
        "source_channels": _count_column(manifest["source_channels"]),
        "source_subtypes": _count_column(manifest["source_subtype"]),
        "source_bit_depths": _bit_depths(manifest["source_subtype"]),
        "modifications": _count_column(pc.replace_substring_regex(_flat(manifest["modifications"]), "(?s):.*$", "")),
        "text": _text(manifest),
        "options": dict(options),
    }


def distribution(values: np.ndarray[Any, Any]) -> dict[str, float]:
    """Return min, mean, max and the percentiles p5 to p99, to a millionth; zeros where there is no value.

    A percentile may lie between two values, so that p50 is the median: of 1 and 2 it is 1.5 (R's type 7, as numpy's).
    """
    names = [f"p{percent}" for percent in PERCENTILES]
    if not len(values):
        return dict.fromkeys(["min", "mean", "max", *names], 0.0)
    mean = math.fsum(values.tolist()) / len(values)
    numbers = [values.min(), mean, values.max(), *np.percentile(values, PERCENTILES)]
    return {name: round(float(number), 6) for name, number in zip(["min", "mean", "max", *names], numbers, strict=True)}


def _sources(manifest: pa.Table, dropped: pa.Table) -> dict[str, Any]:
    manifest = manifest.select(["source", "duration_s"])
    kept, lost = dict(_parts(manifest, "source")), dict(_parts(dropped, "source"))
    return {
        source: {
            "records": len(kept.get(source, ())) + len(lost.get(source, ())),
            "dropped": _count_column(lost[source]["reason"]) if source in lost else {},
            **_clips_and_hours(kept.get(source, manifest.slice(0, 0))),
        }
        for source in sorted({*kept, *lost})
    }


def _groups(groups: pa.ChunkedArray) -> dict[str, int]:
    """Count the groups that hold more than one clip, and the clips in them."""
    sizes = pc.value_counts(groups).field("counts").to_numpy()
    return {"groups": int((sizes > 1).sum()), "clips": int(sizes[sizes > 1].sum())}


def _clips_flagged(flags: pa.Table) -> int:
    clips = pc.unique(pa.chunked_array([*flags["clip_id"].chunks, *flags["other_clip_id"].chunks], pa.string()))
    return pc.sum(pc.not_equal(clips, "")).as_py() or 0


def _languages(flags: pa.Table) -> dict[str, int]:
    """Count the clips flagged for their language; their detail is "<language>: <sentence>" (``curation.flags``)."""
    details = flags.filter(pc.equal(flags["flag"], "language"))["detail"]
    return _count_column(pc.replace_substring_regex(details, "(?s):.*$", ""))


def _bit_depths(subtypes: pa.ChunkedArray) -> dict[str, int]:
    depths: Counter[str] = Counter()
    for subtype, count in _count_column(subtypes).items():
        depths[_LINEAR_BITS.get(subtype, "coded")] += count
    return _by_count(depths)


def _text(manifest: pa.Table) -> dict[str, Any]:
    has_title, has_description = (pc.not_equal(manifest[name], "") for name in ("title", "description"))
    captions_per_clip = pc.list_value_length(manifest["captions"]).to_numpy()
    return {
        "clips_with_title": _true(has_title),
        "clips_with_description": _true(has_description),
        "clips_with_title_and_description": _true(pc.and_(has_title, has_description)),
        "clips_with_tags": int((pc.list_value_length(manifest["tags"]).to_numpy() > 0).sum()),
        "clips_with_captions": int((captions_per_clip > 0).sum()),
        "captions": int(captions_per_clip.sum()),
        "captions_per_clip": distribution(captions_per_clip[captions_per_clip > 0]),
        "title_words": distribution(word_counts(manifest["title"].filter(has_title))),
        "description_words": distribution(word_counts(manifest["description"].filter(has_description))),
        "caption_words": distribution(word_counts(_flat(manifest["captions"]))),
    }


def _clips_and_hours(clips: pa.Table) -> dict[str, Any]:
    return {"clips": len(clips), "hours": _hours(clips)}


def _hours(clips: pa.Table) -> float:
    return round(math.fsum(clips["duration_s"].to_pylist()) / 3600, 6)


def _parts(table: pa.Table, column: str) -> list[tuple[str, pa.Table]]:
    """Return the rows of each value of a column, in the order of the values."""
    return [
        (value, table.filter(pc.equal(table[column], value))) for value in sorted(pc.unique(table[column]).to_pylist())
    ]


def _count_column(values: Any) -> dict[str, int]:
    counted = pc.value_counts(values)
    return _by_count({str(item["values"]): item["counts"] for item in counted.to_pylist()})


def _by_count(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _flat(lists: pa.ChunkedArray) -> Any:
    return pc.list_flatten(lists)


def _true(mask: Any) -> int:
    return pc.sum(mask).as_py() or 0
