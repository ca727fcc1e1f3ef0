from __future__ import annotations

from curation.statistics import count, count_build, spread
from tests.curation.support import row


def test_counts_follow_from_the_rows():
    rows = [
        row(1, description="A bell rings twice.", source_sample_rate=44_100, split="test"),
        row(2, description="", tags=[], modifications=["downmixed: mean of 2 channels", "scaled: -1.00 dB"]),
    ]
    dropped = [
        {"clip_id": "b-1", "source": "b", "source_id": "1", "reason": "silent", "detail": ""},
        {"clip_id": "soundbible-3", "source": "soundbible", "source_id": "3", "reason": "no_text", "detail": ""},
    ]
    counts = count_build(rows, dropped, options={"val_fraction": 0.1})
    assert (counts["records"], counts["clips"], counts["dropped"]) == (4, 2, {"no_text": 1, "silent": 1})
    assert counts["hours"] == round(1 / 3600, 6)
    assert counts["sources"] == {
        "b": {"records": 1, "dropped": {"silent": 1}, "clips": 0, "hours": 0.0},
        "soundbible": {"records": 3, "dropped": {"no_text": 1}, "clips": 2, "hours": 0.000278},
    }
    assert counts["splits"] == {"test": {"clips": 1, "hours": 0.000139}, "train": {"clips": 1, "hours": 0.000139}}
    assert counts["licenses"] == {"cc-by-3.0": 2}
    assert counts["source_sample_rates"] == {"44100": 1, "48000": 1}
    assert counts["modifications"] == {"downmixed": 1, "resampled": 1, "scaled": 1}
    assert counts["text"]["description_words"] == {"min": 4.0, "mean": 4.0, "max": 4.0}
    assert counts["text"]["clips_with_title_and_description"] == 1
    assert counts["options"] == {"val_fraction": 0.1}


def test_nothing_counts_as_zero():
    counts = count_build([], [], options={})
    assert (counts["records"], counts["clips"], counts["hours"]) == (0, 0, 0.0)


def test_count_puts_the_most_frequent_first():
    assert list(count(["b", "a", "c", "c"]).items()) == [("c", 2), ("a", 1), ("b", 1)]


def test_spread():
    assert spread([1, 2, 6]) == {"min": 1.0, "mean": 3.0, "max": 6.0}
