"""Keys of clips: source_ids that are safe stay, all others are made safe and stay apart."""

from __future__ import annotations

import re

import pytest

from curation.entries import Entry, safe_key


@pytest.mark.parametrize("source_id", ["2083", "nhu05051033", "a.b-c_D.wav", "1-100032-A-0", "x" * 128])
def test_a_safe_id_stays_as_it_is(source_id):
    assert safe_key(source_id) == source_id


@pytest.mark.parametrize(
    ("source_id", "begins"),
    [
        ("a b", "a_b"),
        ("evaluation/Santa Motor.wav", "evaluation_Santa_Motor.wav"),
        ("..", ""),
        (".hidden.wav", "hidden.wav"),
        ("-rf.wav", "rf.wav"),
        ("_abc_30", "abc_30"),
        ("../../etc/passwd", "etc_passwd"),
        ("caf\u00e9.wav", "caf_.wav"),
        ("\u7279\u6548\u97f3", ""),
        ("\u0437\u0432\u0443\u043a 1.wav", "1.wav"),
        ("a\nb\0c\\d", "a_b_c_d"),
        ("\ud800", ""),
    ],
)
def test_an_unsafe_id_is_cleaned_and_gets_a_hash(source_id, begins):
    assert re.fullmatch(re.escape(begins) + "-[0-9a-f]{8}", safe_key(source_id))
    assert safe_key(source_id) == safe_key(source_id)


@pytest.mark.parametrize("length", [129, 300, 100_000])
def test_a_long_id_is_cut_and_gets_a_hash(length):
    first, second = ("x" * length + end for end in ("a", "b"))
    assert len(safe_key(first)) == len(safe_key(second)) == 128
    assert safe_key(first) != safe_key(second)
    assert re.fullmatch("x{119}-[0-9a-f]{8}", safe_key(first))


def test_what_the_cleaning_makes_equal_stays_apart():
    ids = ["a_b", "a b", "a  b", "a/b", "a:b", ".a_b", "_a_b", "\u00e9", "\u00e8", "\u7279", "\u6548", "", ".", ".."]
    assert len({safe_key(source_id) for source_id in ids}) == len(ids)


def test_a_clip_id_keeps_the_manifests_rule_whatever_the_id():
    for source_id in ("a b", "..", "\u97f3", "x" * 300, "/", "a.wav"):
        clip_id = Entry(source="own_lib", source_id=source_id).clip_id
        assert re.fullmatch(r"own_lib-[A-Za-z0-9._-]+", clip_id)
        assert len(clip_id) <= 200
