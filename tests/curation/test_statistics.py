from __future__ import annotations

import json
import random
import statistics

import numpy as np
import pyarrow as pa

from curation.manifest import DROPPED_SCHEMA, SCHEMA
from curation.statistics import count_manifest, distribution
from tests.curation.support import row

FLAGS = pa.schema(
    [(name, pa.string()) for name in ("clip_id", "flag", "other_clip_id")]
    + [("score", pa.float64()), ("detail", pa.string())]
)


def counts_of(rows, dropped=(), flags=(), options=()):
    return count_manifest(
        pa.Table.from_pylist(list(rows), schema=SCHEMA),
        pa.Table.from_pylist(list(dropped), schema=DROPPED_SCHEMA),
        flags=pa.Table.from_pylist(list(flags), schema=FLAGS),
        options=dict(options),
    )


def flag(clip_id, kind, other="", detail=""):
    return {"clip_id": clip_id, "flag": kind, "other_clip_id": other, "score": 0.5, "detail": detail}


def test_counts_follow_from_the_rows():
    rows = [
        row(1, description="A bell rings twice.", source_sample_rate=44_100, split="test", source_subtype="FLOAT"),
        row(2, description="", tags=[], modifications=["downmixed: mean of 2 channels", "scaled: -1.00 dB"]),
    ]
    dropped = [
        {"clip_id": "b-1", "source": "b", "source_id": "1", "reason": "silent", "detail": ""},
        {"clip_id": "soundbible-3", "source": "soundbible", "source_id": "3", "reason": "no_text", "detail": ""},
    ]
    counts = counts_of(rows, dropped, options={"val_fraction": 0.1})
    assert (counts["records"], counts["clips"], counts["dropped"]) == (4, 2, {"no_text": 1, "silent": 1})
    assert counts["hours"] == round(1 / 3600, 6)
    assert counts["sources"] == {
        "b": {"records": 1, "dropped": {"silent": 1}, "clips": 0, "hours": 0.0},
        "soundbible": {"records": 3, "dropped": {"no_text": 1}, "clips": 2, "hours": 0.000278},
    }
    assert counts["splits"] == {"test": {"clips": 1, "hours": 0.000139}, "train": {"clips": 1, "hours": 0.000139}}
    assert counts["licenses"] == {"cc-by-3.0": 2}
    assert counts["source_sample_rates"] == {"44100": 1, "48000": 1}
    assert counts["source_channels"] == {"2": 2}
    assert counts["source_subtypes"] == {"FLOAT": 1, "PCM_16": 1}
    assert counts["source_bit_depths"] == {"16": 1, "32 float": 1}
    assert counts["modifications"] == {"downmixed": 1, "resampled": 1, "scaled": 1}
    assert counts["text"]["description_words"] == dict.fromkeys(counts["text"]["description_words"], 4.0)
    assert counts["text"]["clips_with_title_and_description"] == counts["text"]["clips_with_tags"] == 1
    assert counts["text"]["clips_with_captions"] == counts["text"]["captions"] == 0
    assert counts["options"] == {"val_fraction": 0.1}


def test_captions_are_counted_per_clip_and_by_their_words():
    text = counts_of([row(1, captions=["a dog", "a dog barks"]), row(2, captions=["dog"]), row(3)])["text"]
    assert (text["clips_with_captions"], text["captions"]) == (2, 3)
    assert (text["captions_per_clip"]["mean"], text["captions_per_clip"]["max"]) == (1.5, 2.0)
    assert [text["caption_words"][name] for name in ("min", "mean", "max", "p50")] == [1.0, 2.0, 3.0, 2.0]


def test_groups_of_one_clip_are_no_groups():
    rows = [row(1), row(2, duplicate_group="soundbible-1"), row(3), row(4, duplicate_group="soundbible-3"), row(5)]
    assert counts_of(rows)["duplicate_groups"] == {"groups": 2, "clips": 4}


def test_flags_are_counted_by_kind_with_the_clips_they_speak_of():
    flags = [
        flag("soundbible-1", "near_sound", "soundbible-2"),
        flag("soundbible-1", "near_sound", "soundbible-3"),
        flag("soundbible-1", "language", detail="fr: Un son: court."),
        flag("soundbible-2", "language", detail="ro: sper sa\nva placa"),
        flag("soundbible-3", "language", detail="fr: Un autre"),
    ]
    counts = counts_of([row(1), row(2), row(3)], flags=flags)
    assert counts["flags"] == {"language": {"rows": 3, "clips": 3}, "near_sound": {"rows": 2, "clips": 3}}
    assert counts["languages"] == {"fr": 2, "ro": 1}


def test_nothing_counts_as_zero():
    counts = counts_of([])
    assert (counts["records"], counts["clips"], counts["hours"]) == (0, 0, 0.0)
    assert counts["duration_s"] == dict.fromkeys(counts["duration_s"], 0.0)
    assert (counts["sources"], counts["flags"], counts["languages"]) == ({}, {}, {})
    assert counts["duplicate_groups"] == {"groups": 0, "clips": 0}


def test_only_what_json_knows():
    counts = counts_of([row(1, captions=["a dog"])])
    assert json.loads(json.dumps(counts)) == counts


def test_the_most_frequent_comes_first():
    rows = [row(number, license=name) for number, name in enumerate(["remarc", "cc0-1.0", "unknown", "unknown"])]
    assert list(counts_of(rows)["licenses"].items()) == [("unknown", 2), ("cc0-1.0", 1), ("remarc", 1)]


def test_the_order_of_rows_changes_nothing():
    rows = [row(number, duration_s=0.1 * number + 1e-9, source=f"s{number % 3}") for number in range(200)]
    shuffled = random.Random(0).sample(rows, len(rows))
    assert json.dumps(counts_of(rows)) == json.dumps(counts_of(shuffled))


def test_percentiles_lie_between_values_and_the_50th_is_the_median():
    found = distribution(np.array([5, 1, 2, 3, 4]))
    names = ("min", "p5", "p25", "p50", "p75", "p95", "p99", "max")
    assert [found[name] for name in names] == [1, 1.2, 2, 3, 4, 4.8, 4.96, 5]
    assert distribution(np.array([2, 1]))["p50"] == 1.5
    assert set(distribution(np.array([7.25])).values()) == {7.25}
    assert distribution(np.array([]))["p50"] == 0.0
    values = np.random.default_rng(0).exponential(9, 1000)
    assert distribution(values)["p50"] == round(statistics.median(values.tolist()), 6)
