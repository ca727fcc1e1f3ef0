"""A large manifest for benchmarks/curation.py: written, read with every rule checked, split and counted.

    python -P benchmarks/_million_rows.py ROWS FOLDER

Makes ROWS rows on the way into the writer, which never holds all of them as Python objects, and no audio; prints the
seconds of each step and the most memory that the process ever held, as JSON. A process of its own, so that the peak
is that of these steps alone.
"""

from __future__ import annotations

import hashlib
import json
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from crawler.items import LICENSES
from curation.manifest import DROPPED_SCHEMA, FLAGS_SCHEMA, read_manifest, write_manifest
from curation.splits import SplitFractions, split_of
from curation.statistics import count_manifest

WORDS = ("door", "bell", "rain", "wind", "dog", "engine", "crowd", "glass")
WORDS += ("water", "steps", "metal", "wood", "slam", "hum", "click", "birds")
RATES = (22_050, 44_100, 48_000, 96_000)


def made_rows(count: int) -> Iterator[dict[str, Any]]:
    """Give rows that keep every rule, with texts, tags and durations that differ."""
    for number in range(count):
        clip_id = f"made-{number:08d}"
        digest = hashlib.sha256(clip_id.encode()).hexdigest()
        words = [WORDS[int(digest[place], 16)] for place in range(12)]
        num_samples = 4410 + int(digest[:6], 16)
        yield {
            "clip_id": clip_id,
            "source": "made",
            "source_id": f"{number:08d}",
            "origin": "made",
            "origin_id": f"{number:08d}",
            "page_url": f"https://example.org/sounds/{number}",
            "audio_url": f"https://example.org/sounds/{number}.wav",
            "retrieved_at": "2026-01-02T03:04:05Z",
            "title": f"{words[0]} {words[1]} {number}",
            "description": " ".join(words),
            "tags": sorted(set(words[:4])),
            "captions": [],
            "labels": [],
            "fold": -1,
            "author": f"author {digest[:2]}",
            "license": LICENSES[int(digest[2], 16) % len(LICENSES)],
            "license_url": "",
            "attribution": f'"{words[0]} {words[1]} {number}" by author {digest[:2]}',
            "audio_path": f"audio/{clip_id}.flac",
            "sha256": digest,
            "pcm_sha256": digest[::-1],
            "duplicate_group": clip_id,
            "sample_rate": 44_100,
            "num_samples": num_samples,
            "duration_s": num_samples / 44_100,
            "peak_dbfs": -1.0,
            "rms_dbfs": -20.0,
            "source_sample_rate": RATES[int(digest[3], 16) % 4],
            "source_channels": 1 + int(digest[4], 16) % 2,
            "source_subtype": "PCM_16",
            "modifications": ["downmixed: mean of 2 channels", "resampled: 48000 to 44100 Hz"],
            "split": "train",
        }


def main() -> None:
    """Take the steps and print what each took."""
    count, folder = int(sys.argv[1]), Path(sys.argv[2])
    seconds = {}

    def timed(step: str, since: float) -> float:
        now = time.monotonic()
        seconds[step] = now - since
        return now

    clock = time.monotonic()
    write_manifest(folder, made_rows(count))
    clock = timed("write", clock)
    table = read_manifest(folder)
    clock = timed("read and validate", clock)
    fractions = SplitFractions()
    splits = [split_of(group, fractions) for group in table["duplicate_group"].to_pylist()]
    clock = timed("split", clock)
    counted = count_manifest(table, DROPPED_SCHEMA.empty_table(), flags=FLAGS_SCHEMA.empty_table(), options={})
    timed("count", clock)
    if len(splits) != count or counted["clips"] != count:
        sys.exit(f"{len(splits)} splits and {counted['clips']} counted clips of {count} rows")
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # Linux says it in KiB
    print(json.dumps({"seconds": seconds, "peak_gib": peak_gib}))


if __name__ == "__main__":
    main()
