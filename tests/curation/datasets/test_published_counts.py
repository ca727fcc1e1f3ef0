"""The real caption files give the counts that their papers print, where the folder of data is at hand."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest

from curation.datasets import read_collection

pytestmark = pytest.mark.skipif("WAVTEXT5K_DATA" not in os.environ, reason="WAVTEXT5K_DATA is not set")


def captions_folder():
    return Path(os.environ["WAVTEXT5K_DATA"]) / "captions"


def captions_of(collection, *splits):
    return [caption for entry in collection.entries if entry.split in splits for caption in entry.captions]


def test_clotho(tmp_path):
    for name, split in {"train": "development", "val": "validation", "test": "evaluation"}.items():
        shutil.copy(captions_folder() / "clotho" / f"clotho_{name}.csv", tmp_path / f"clotho_captions_{split}.csv")
    collection = read_collection("clotho", tmp_path)
    assert Counter(entry.split for entry in collection.entries) == {"train": 3839, "val": 1045, "test": 1045}
    assert {len(entry.captions) for entry in collection.entries} == {5}
    words = [len(caption.split()) for caption in captions_of(collection, "train", "val", "test")]
    assert (len(words), max(words), round(sum(words) / len(words), 2)) == (29_645, 21, 11.34)
    assert len({entry.clip_id.lower() for entry in collection.entries}) == 5929
    assert not any("as published" in note for note in collection.notes)


def test_audiocaps_1(tmp_path):
    for split in ("train", "val", "test"):
        shutil.copy(captions_folder() / "audiocaps" / f"audiocaps_v1_{split}.csv", tmp_path)
    collection = read_collection("audiocaps", tmp_path)
    assert Counter(entry.split for entry in collection.entries) == {"train": 49_838, "val": 495, "test": 975}
    counts = Counter((entry.split, len(entry.captions)) for entry in collection.entries)
    assert counts == {("train", 1): 49_838, ("val", 5): 495, ("test", 5): 975}
    assert max(len(caption.split()) for caption in captions_of(collection, "train", "val", "test")) == 52
    train, test = set(captions_of(collection, "train")), captions_of(collection, "test")
    assert (len(set(test)), sum(caption in train for caption in test)) == (4_633, 404)
    assert len({entry.clip_id.lower() for entry in collection.entries}) == 51_308
    assert not collection.notes


def test_audiocaps_2(tmp_path):
    for split in ("val", "test"):
        shutil.copy(captions_folder() / "audiocaps" / f"audiocaps_v2_{split}.csv", tmp_path / f"{split}.csv")
    collection = read_collection("audiocaps", tmp_path)
    counts = Counter((entry.split, len(entry.captions)) for entry in collection.entries)
    assert counts == {("val", 5): 495, ("test", 5): 975}
    first = [
        entry
        for split in ("val", "test")
        for entry in read_collection("audiocaps", captions_folder() / "audiocaps" / f"audiocaps_v1_{split}.csv").entries
    ]
    assert {entry.clip_id for entry in first} == {entry.clip_id for entry in collection.entries}


def test_wavcaps_soundbible_is_almost_all_in_wavtext5k():
    collection = read_collection("wavcaps", captions_folder() / "wavcaps")
    assert len(collection.entries) == 1232
    assert all(len(entry.captions) == 1 for entry in collection.entries)
    with (captions_folder() / "wavtext5k" / "WavText5K.csv").open(encoding="utf-8", newline="") as file:
        links = [row["view_link"] for row in csv.DictReader(file)]
    ids = {found[1] for link in links if (found := re.search(r"soundbible\.com/(\d+)-", link))}
    assert len({entry.origin_id for entry in collection.entries} & ids) == 1225


def test_sounddescs(tmp_path):
    source = captions_folder() / "sounddescs"
    for file in source.iterdir():
        shutil.copy(file, tmp_path)
    ids = json.loads((source / "extra_info.json").read_text())
    (tmp_path / "descriptions.json").write_text(json.dumps({key: f"Recording {key}." for key in ids}))  # not at hand
    collection = read_collection("sounddescs", tmp_path)
    assert Counter(entry.split for entry in collection.entries) == {"train": 23_085, "val": 4_947, "test": 4_947}
    assert sum(not entry.tags for entry in collection.entries) == 707
    assert all(entry.audio_url and entry.captions for entry in collection.entries)
    assert "85 descriptions are of no id in the split lists and are left out" in collection.notes
