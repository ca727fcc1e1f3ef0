from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pandas as pd
import pytest

from curation.datasets import read_collection
from curation.entries import Collection, Entry
from curation.manifest import write_manifest
from curation.tables import PAPER, captions_of, clips_of_collection, clips_of_manifest, table_1, table_2
from curation.words import frequent_words
from tests.curation.support import row


def text_set(*clips, name="mine", source="mine"):
    """Return clips of (title, description, captions), known by their text alone."""
    entries = [
        Entry(source=source, source_id=str(at), title=title, description=description, captions=tuple(captions))
        for at, (title, description, captions) in enumerate(clips)
    ]
    return clips_of_collection(name, Collection(entries=entries, root=None))


@pytest.fixture
def manifest(tmp_path):
    rows = [
        row(1, description="A bell rings - twice.", num_samples=44_100, duration_s=1.0),
        row(2, description="", tags=[], num_samples=88_200, duration_s=2.0),
        row(3, captions=["A low bell.", "One bell rings"], num_samples=44_100 * 6, duration_s=6.0),
    ]
    write_manifest(tmp_path / "bells", rows)
    return tmp_path / "bells"


def test_a_manifest_gives_a_row_of_table_1(manifest):
    [ours, paper] = table_1([clips_of_manifest(manifest)]).to_dict("records")
    assert (ours["data_set"], ours["counted_from"]) == ("bells", "manifest")
    assert (ours["audios"], ours["captions"], ours["hours"]) == (3, 3, 9 / 3600)
    assert (ours["max_duration_s"], ours["mean_duration_s"]) == (6.0, 3.0)
    assert (ours["max_words_per_caption"], ours["mean_words_per_caption"]) == (5, 11 / 3)
    assert (ours["max_words_per_audio"], ours["mean_words_per_audio"]) == (6, 11 / 3)
    assert (ours["mean_bare_words_per_caption"], ours["mean_bare_words_per_audio"]) == (10 / 3, 10 / 3)
    assert (ours["titles"], ours["descriptions"], ours["tag_lists"]) == (3, 2, 2)
    assert (paper["data_set"], paper["counted_from"], paper["audios"]) == ("WavText5K", "the paper", 4_525)


def test_an_audio_without_a_caption_counts_with_no_words():
    [found] = table_1([text_set(("", "one two three", []), ("Title", "", []))]).to_dict("records")
    assert (found["captions"], found["mean_words_per_caption"], found["mean_words_per_audio"]) == (1, 3.0, 1.5)


def test_text_alone_has_no_durations():
    [found] = table_1([text_set(("", "a dog", []))]).to_dict("records")
    assert found["counted_from"] == "text alone"
    assert all(math.isnan(found[name]) for name in ("hours", "max_duration_s", "mean_duration_s"))


@pytest.mark.parametrize(
    ("sources", "printed"),
    [
        (["clotho"], "Clotho"),
        (["soundbible"], "WavText5K"),
        (["soundbible", "bigsoundbank"], "WavText5K"),
        (["clotho", "macs"], None),
        (["mine"], None),
    ],
)
def test_the_papers_row_stands_below_a_data_set_that_the_paper_has(sources, printed):
    named = text_set(*[("", "a dog", [])] * len(sources))
    named.clips["source"] = sources
    table = table_1([named])
    assert table["data_set"].tolist() == ["mine", *([printed] if printed else [])]
    assert len(table_1([named], with_paper=False)) == 1


def test_data_sets_stand_side_by_side_in_their_order():
    table = table_1([text_set(("", "a dog", []), name=name, source=name) for name in ("macs", "mine", "clotho")])
    assert table["data_set"].tolist() == ["macs", "MACS", "mine", "clotho", "Clotho"]
    assert str(table["audios"].dtype) == "Int64"
    assert table["titles"].isna().tolist() == [False, True, False, False, True]


def test_no_clips_are_no_error(tmp_path):
    write_manifest(tmp_path, [])
    [found] = table_1([clips_of_manifest(tmp_path)]).to_dict("records")
    assert (found["audios"], found["captions"], found["hours"], found["max_words_per_caption"]) == (0, 0, 0.0, 0)
    assert math.isnan(found["mean_duration_s"])
    assert math.isnan(found["mean_words_per_caption"])
    assert len(table_1([text_set()])) == 1
    assert table_2([text_set()], word="dog")["mentions"].tolist() == [0]


def test_captions_are_the_annotators_else_the_description_or_what_a_template_makes():
    clips = text_set(("Bell", "Low.", []), ("Dog", "", ["a dog", "barks"]), ("Cat", "", []), ("", "", [])).clips
    assert captions_of(clips).to_dict("list") == {
        "clip_id": ["mine-0", "mine-1", "mine-1"],
        "caption": ["Low.", "a dog", "barks"],
    }
    made = captions_of(clips, template="{title}. {description}")
    assert made["caption"].tolist() == ["Bell. Low.", "a dog", "barks", "Cat"]
    with pytest.raises(ValueError, match=r"caption template '\{name\}' must be made of"):
        captions_of(clips, template="{name}")


@pytest.mark.parametrize(
    ("word", "caption", "is_mention"),
    [
        ("dog", "A DOG barks", True),
        ("dog", "Two dogs.", True),
        ("dog", "A hotdog", False),
        ("dog", "Doggedly", False),
        ("dog", "a dog's bark", True),
        ("DOG", "a dog", True),
        ("box", "two boxes", True),
        ("church bell", "The church\u00a0bells ring", True),
        ("c++", "A c++ compiler fan", True),
        (".*", "A dog", False),
        ("café", "In a Café.", True),
    ],
)
def test_table_2_finds_whole_words_and_their_plain_plural(word, caption, is_mention):
    [found] = table_2([text_set(("", caption, []))], word=word).to_dict("records")
    assert (found["mentions"], found["captions"], found["caption"]) == (is_mention, 1, caption if is_mention else "")


def test_the_seed_chooses_and_other_captions_do_not_matter():
    clips = [("", f"dog number {at}", []) for at in range(50)]
    chosen = {seed: table_2([text_set(*clips)], word="dog", seed=seed)["caption"][0] for seed in range(20)}
    assert len(set(chosen.values())) > 5
    more = text_set(*clips, ("", "a cat", []))
    for seed, caption in chosen.items():
        assert table_2([more], word="dog", seed=seed)["caption"][0] == caption


def test_table_2_refuses_a_blank_word():
    with pytest.raises(ValueError, match="word must not be blank"):
        table_2([text_set(("", "a dog", []))], word="  ")


def test_the_papers_rows_are_consistent_where_it_says_so():
    wavtext5k, macs = PAPER["wavtext5k"], PAPER["macs"]
    assert wavtext5k["hours"] * 3600 / wavtext5k["audios"] == pytest.approx(wavtext5k["mean_duration_s"], abs=0.005)
    assert pytest.approx(macs["mean_duration_s"], abs=0.005) == 480_000 / 44_100


# The published caption files, where they are at hand.

needs_data = pytest.mark.skipif("WAVTEXT5K_DATA" not in os.environ, reason="WAVTEXT5K_DATA is not set")


def captions_at(*parts):
    return Path(os.environ["WAVTEXT5K_DATA"], "captions", *parts)


@needs_data
def test_the_published_csv_alone_gives_the_papers_numbers():
    named = clips_of_collection("wavtext5k", read_collection("wavtext5k", captions_at("wavtext5k", "WavText5K.csv")))
    [ours, paper] = table_1([named]).to_dict("records")
    for name in ("audios", "captions", "max_words_per_caption", "descriptions", "tag_lists"):
        assert ours[name] == paper[name], name
    assert round(ours["mean_bare_words_per_audio"], 2) == paper["mean_bare_words_per_audio"] == 12.50
    assert ours["mean_bare_words_per_audio"] * 4_525 == pytest.approx(56_542)
    assert ours["mean_words_per_audio"] * 4_525 == pytest.approx(56_607)
    assert round(ours["mean_words_per_caption"], 2) == 13.02
    assert ours["titles"] == 4_520
    [made] = table_1([named], template="{title}. {description}", with_paper=False).to_dict("records")
    assert (made["captions"], made["max_words_per_caption"]) == (4_520, 84)
    assert round(made["mean_words_per_caption"], 2) == 15.45
    words = dict(frequent_words(captions_of(named.clips)["caption"]))
    assert len(words) == 30
    assert list(words.items())[:5] == [
        ("sound", 2307),
        ("effect", 622),
        ("great", 605),
        ("noise", 251),
        ("sounds", 249),
    ]
    assert (words["wooden"], words["could"], words["glass"], words["two"]) == (130, 94, 89, 86)


@needs_data
@pytest.mark.parametrize(
    ("name", "columns", "files", "expected"),
    [
        ("Clotho", [f"caption_{number}" for number in range(1, 6)], ["clotho/clotho_{}.csv"], (29_645, 21, 11.34)),
        ("AudioCaps", ["caption"], ["audiocaps/audiocaps_v1_{}.csv"], (57_188, 52, 8.80)),
    ],
)
def test_words_by_white_space_give_the_papers_clotho_and_audiocaps(name, columns, files, expected):
    tables = [
        pd.read_csv(captions_at(file.format(split)), keep_default_na=False)
        for file in files
        for split in ("train", "val", "test")
    ]
    captions = pd.concat(tables)[columns].to_numpy().ravel().tolist()
    [found, *_] = table_1([text_set(*(("", "", [caption]) for caption in captions))]).to_dict("records")
    counted = (found["captions"], found["max_words_per_caption"], round(found["mean_words_per_caption"], 2))
    assert counted == expected
    assert PAPER[name.lower()]["mean_words_per_caption"] == expected[2]


@needs_data
def test_wavcaps_soundbible_has_as_many_captions_as_clips():
    file = captions_at("wavcaps", "sb_final.json")
    captions = [clip["caption"] for clip in json.loads(file.read_text(encoding="utf-8"))["data"]]
    [found] = table_1([clips_of_collection("wavcaps", read_collection("wavcaps", file))]).to_dict("records")
    assert (found["audios"], found["captions"]) == (1_232, 1_232)
    assert found["max_words_per_caption"] == max(len(caption.split()) for caption in captions) == 21
