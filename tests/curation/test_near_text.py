from __future__ import annotations

import csv
import os
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz import fuzz

from curation.near_text import NearText, find_near_text


def pairs_of(texts):
    return {(near.clip_id, near.other_clip_id) for near in find_near_text(texts)}


@pytest.mark.parametrize(
    "other",
    [
        "A dog barks twice in a yard.",
        "a DOG barks, twice -- in a yard!",
        "  A dog\nbarks twice in a\tyard ",
        "In a yard, a dog barks twice",
        "Ａ dog barks twice in a yard",  # noqa: RUF001  (a full-width letter)
    ],
)
def test_case_punctuation_white_space_and_order_make_no_other_text(other):
    assert find_near_text({"a-1": "A dog barks twice in a yard.", "b-2": other}) == [
        NearText(clip_id="b-2", other_clip_id="a-1", score=1.0, detail="the same words")
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("A meowing cat, number 1", "A meowing cat, number 2"),
        ("Heavy rain and thunderstorm on a roof", "Heavy rain and thunderstorms on a roof"),
        ("A door creaks open in an old colour film", "A door creaks open in an old color film"),
    ],
)
def test_a_few_letters_make_a_near_text(one, other):
    (near,) = find_near_text({"a-1": one, "b-2": other})
    assert (near.clip_id, near.other_clip_id, near.detail) == ("b-2", "a-1", "nearly the same words")
    assert 0.9 <= near.score < 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("A dog barks", "A cat meows"),
        ("Closing a roller shutter from inside", "Opening a window from outside"),
        ("Rain", "Train"),
        ("", ""),
        ("...", "!!!"),
    ],
)
def test_other_texts_and_empty_ones_match_nothing(one, other):
    assert find_near_text({"a-1": one, "b-2": other}) == []


def test_a_text_met_before_points_to_the_clip_that_has_it_rather_than_to_its_group():
    texts = {"a": "A meowing cat, number 1", "b": "A meowing cat, number 2", "c": "a meowing cat: number 2"}
    assert pairs_of(texts) == {("b", "a"), ("c", "b")}


def test_of_two_groups_equally_near_the_first_is_joined():
    assert pairs_of({"a": "thunder storm 10 far", "b": "thunder storm 20 far", "c": "thunder storm 12 far"}) == {
        ("b", "a"),
        ("c", "a"),
    }


def test_a_huge_text_that_differs_in_one_letter_is_not_called_the_same():
    text = "a long wind blows over the hill " * 2_000
    (near,) = find_near_text({"a": text, "b": text + "x"})
    assert (near.score, near.detail) == (0.9999, "nearly the same words")


TEXTS = st.dictionaries(
    st.text(string.ascii_lowercase, min_size=1, max_size=3),
    st.lists(st.sampled_from(["dog", "dogs", "barks", "bark", "a", "loud", "rain", "1", "2"]), max_size=6).map(
        " ".join
    ),
    max_size=10,
)


@given(texts=TEXTS, data=st.data())
def test_the_order_of_the_clips_does_not_matter(texts, data):
    shuffled = {clip_id: texts[clip_id] for clip_id in data.draw(st.permutations(list(texts)))}
    assert find_near_text(shuffled) == find_near_text(texts)


@given(texts=TEXTS)
def test_each_clip_points_to_an_earlier_one_at_least_as_near_as_the_score_says(texts):
    found = find_near_text(texts)
    assert len({near.clip_id for near in found}) == len(found)
    for near in found:
        assert near.other_clip_id < near.clip_id
        ratio = fuzz.token_sort_ratio(texts[near.clip_id], texts[near.other_clip_id])
        assert near.score == pytest.approx(ratio / 100, abs=1e-4)


@given(texts=TEXTS)
def test_a_clip_that_begins_a_group_is_near_no_earlier_beginner_that_has_all_but_one_of_its_words(texts):
    pointing = {near.clip_id for near in find_near_text(texts)}
    began = [clip_id for clip_id in sorted(texts) if texts[clip_id] and clip_id not in pointing]
    for number, clip_id in enumerate(began):
        words = set(texts[clip_id].split())
        for other in began[:number]:
            if len(words & set(texts[other].split())) >= max(len(words), len(set(texts[other].split()))) - 1 > 0:
                assert fuzz.token_sort_ratio(texts[clip_id], texts[other]) < 90


@given(texts=TEXTS)
def test_same_words_are_never_overlooked(texts):
    found = {near.clip_id: near for near in find_near_text(texts)}
    first = {}
    for clip_id in sorted(texts):
        words = " ".join(sorted(texts[clip_id].split()))
        if words in first:
            assert (found[clip_id].other_clip_id, found[clip_id].score) == (first[words], 1.0)
        elif words:
            first[words] = clip_id


@pytest.mark.skipif("WAVTEXT5K_DATA" not in os.environ, reason="WAVTEXT5K_DATA is not set")
def test_repeated_descriptions_of_wavtext5k():
    table = Path(os.environ["WAVTEXT5K_DATA"]) / "captions" / "wavtext5k" / "WavText5K.csv"
    with table.open(encoding="utf-8-sig", newline="") as file:
        texts = {f"clip-{number:04}": line["description"] for number, line in enumerate(csv.DictReader(file))}
    found = find_near_text(texts)
    # 4,348 descriptions, 3,527 of them different; case, punctuation and order make 15 more the same.
    assert sum(near.score == 1 for near in found) == 836
    assert len(found) == 1_097  # as many as with every text compared with every other
