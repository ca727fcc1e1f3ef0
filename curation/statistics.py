"""Counts what a build kept and dropped, for statistics.json; pure functions.

Words are what white space separates. Only counts that follow from the manifest, the drop table and the options are
here, no times and no paths: the same input gives the same bytes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from curation.manifest import MANIFEST_VERSION

Row = Mapping[str, Any]


def count_build(rows: Sequence[Row], dropped: Sequence[Row], *, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of statistics.json.

    Args:
        rows: The manifest's rows.
        dropped: The rows of dropped.parquet.
        options: What decided, as it was set.
    """
    return {
        "manifest_version": MANIFEST_VERSION,
        "records": len(rows) + len(dropped),
        "clips": len(rows),
        "dropped": count(row["reason"] for row in dropped),
        "hours": hours(rows),
        "duration_s": spread([row["duration_s"] for row in rows]),
        "sources": {
            source: {
                "records": sum(row["source"] == source for row in [*rows, *dropped]),
                "dropped": count(row["reason"] for row in dropped if row["source"] == source),
                **_share([row for row in rows if row["source"] == source]),
            }
            for source in sorted({row["source"] for row in [*rows, *dropped]})
        },
        "splits": {
            split: _share([row for row in rows if row["split"] == split])
            for split in sorted({row["split"] for row in rows})
        },
        "licenses": count(row["license"] for row in rows),
        "source_sample_rates": count(str(row["source_sample_rate"]) for row in rows),
        "source_channels": count(str(row["source_channels"]) for row in rows),
        "source_subtypes": count(row["source_subtype"] for row in rows),
        "modifications": count(done.split(":")[0] for row in rows for done in row["modifications"]),
        "text": {
            "clips_with_title": sum(bool(row["title"]) for row in rows),
            "clips_with_description": sum(bool(row["description"]) for row in rows),
            "clips_with_title_and_description": sum(bool(row["title"] and row["description"]) for row in rows),
            "clips_with_tags": sum(bool(row["tags"]) for row in rows),
            "captions": sum(len(row["captions"]) for row in rows),
            "title_words": spread([len(row["title"].split()) for row in rows if row["title"]]),
            "description_words": spread([len(row["description"].split()) for row in rows if row["description"]]),
        },
        "options": dict(options),
    }


def count(values: Iterable[str]) -> dict[str, int]:
    """Return how often each value occurs, the most frequent first, equal ones by name."""
    return dict(sorted(Counter(values).items(), key=lambda item: (-item[1], item[0])))


def hours(rows: Sequence[Row]) -> float:
    """Return the summed duration in hours, to a millionth."""
    return round(math.fsum(row["duration_s"] for row in rows) / 3600, 6)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return min, mean and max, to a millionth; zeros where there is no value."""
    if not values:
        return {"min": 0.0, "mean": 0.0, "max": 0.0}
    numbers = (min(values), math.fsum(values) / len(values), max(values))
    return dict(zip(("min", "mean", "max"), (round(float(number), 6) for number in numbers), strict=True))


def _share(rows: Sequence[Row]) -> dict[str, Any]:
    return {"clips": len(rows), "hours": hours(rows)}
