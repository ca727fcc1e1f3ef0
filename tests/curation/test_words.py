from __future__ import annotations

import string

from hypothesis import given, settings
from hypothesis import strategies as st

from curation.words import STOP_WORDS, bare_word_counts, frequent_words, word_counts

TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]))


@settings(deadline=None)
@given(st.lists(TEXT))
def test_words_are_what_split_gives(texts):
    assert word_counts(texts).tolist() == [len(text.split()) for text in texts]


@settings(deadline=None)
@given(st.lists(st.text(alphabet="ab -,.'é\u2014\u00a0\x85\u3000\x1c", max_size=20)))
def test_bare_words_are_what_split_gives_without_punctuation(texts):
    drop = str.maketrans("", "", string.punctuation)
    assert bare_word_counts(texts).tolist() == [len(text.translate(drop).split()) for text in texts]


def test_a_dash_of_its_own_is_a_word_but_no_bare_word():
    assert word_counts(["A dog - barking (loudly)", ""]).tolist() == [5, 0]
    assert bare_word_counts(["A dog - barking (loudly)", "-- ."]).tolist() == [4, 0]


def test_frequent_words_drop_punctuation_case_and_stop_words():
    texts = ["The dog barks.", "A DOG, a «dog» and the cat!", "cat\u2019s \u2013 2 barks", "don't"]
    assert frequent_words(texts) == [("dog", 3), ("barks", 2), ("2", 1), ("cat", 1), ("cats", 1)]
    assert frequent_words(texts, most=1) == [("dog", 3)]
    assert frequent_words(["...", "the - of"]) == []


def test_words_that_say_what_sounds_are_no_stop_words():
    assert not STOP_WORDS & {"sound", "like", "one", "two", "could", "off-key", "loud", "man"}
    assert all(word.isascii() and word.isalpha() and word == word.lower() for word in STOP_WORDS)
