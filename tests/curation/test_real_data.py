"""Real and deliberately odd files, where the folder of data is at hand (WAVTEXT5K_DATA)."""

from __future__ import annotations

import csv
import os
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest

from curation.build import build
from curation.decoding import av_version
from curation.manifest import read_dropped, read_manifest, validate_manifest
from tests.curation.support import add_record

# libsndfile gives an error for these, and PyAV hears them; some are so short, or silent, that they are dropped for it.
HEARD_BY_PYAV = {
    "hound__crash-e5471f5b58397287b509db7d026e95f1724454f5.wav",
    "m4a-data-named.mp3",
    "mutagen__alac.m4a",
    "mutagen__empty.aac",
    "mutagen__multiplexed.spx",
    "mutagen__silence-1.wma",
    "scipy__test-8000Hz-le-3ch-5S-64bit.wav",
    "taglib__zero-length-mdat.m4a",
}

pytestmark = pytest.mark.skipif("WAVTEXT5K_DATA" not in os.environ, reason="WAVTEXT5K_DATA is not set")


def lay_out(raw, source, folder, key):
    """Make raw records of a folder with a table; return the table's rows by clip_id."""
    table = {}
    with next(folder.glob("m*.csv")).open(encoding="utf-8", newline="") as file:
        for number, line in enumerate(csv.DictReader(file)):
            source_id = re.sub(r"[^A-Za-z0-9._-]", "_", f"{number:03d}_{line[key]}")[:100]
            audio = raw / source / "audio" / f"{source_id}{Path(line['file']).suffix}"
            audio.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / line["file"], audio)
            texts = {"title": line.get("title", line["file"]), "description": line.get("description", "")}
            add_record(raw, audio, source=source, source_id=source_id, **texts)
            table[f"{source}-{source_id}"] = line
    return table


def test_every_real_soundbible_file_becomes_a_clip(tmp_path):
    table = lay_out(tmp_path / "raw", "soundbible", Path(os.environ["WAVTEXT5K_DATA"]) / "soundbible", "soundbible_id")
    build(tmp_path / "raw", tmp_path / "out")
    clips = read_manifest(tmp_path / "out").to_pylist()
    assert len(clips) == len(table) == 116
    assert validate_manifest(tmp_path / "out", read_audio=True) == []
    for clip in clips:
        assert clip["duration_s"] == pytest.approx(float(table[clip["clip_id"]]["decoded_s"]), abs=1e-3)


def test_hard_files_are_dropped_for_the_reason_that_their_table_gives(tmp_path):
    table = lay_out(tmp_path / "raw", "hard", Path(os.environ["WAVTEXT5K_DATA"]) / "hard-audio", "file")
    build(tmp_path / "raw", tmp_path / "out")
    dropped = read_dropped(tmp_path / "out").to_pylist()
    reasons = {clip["clip_id"]: clip["reason"] for clip in dropped}
    for clip_id, line in table.items():
        if line["category"] == "not-audio":
            assert reasons[clip_id] == "not_audio"
        elif line["soundfile_result"].startswith("error") and not (av_version() and line["file"] in HEARD_BY_PYAV):
            assert reasons[clip_id] in ("undecodable", "empty_audio", "truncated"), line["file"]
        else:
            assert reasons.get(clip_id) in (None, "too_short", "silent", "duplicate_pcm", "truncated"), line["file"]
    assert Counter(reasons.values())["not_audio"] == 3
    assert len(reasons) + len(read_manifest(tmp_path / "out")) == len(table) == 124
    assert validate_manifest(tmp_path / "out", read_audio=True) == []
