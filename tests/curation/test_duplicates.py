from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.duplicates import duplicate_groups, duplicate_pairs, find_duplicates
from curation.filters import Drop, DropReason


@dataclass(frozen=True)
class Hashes:
    source_sha256: str
    pcm_sha256: str


FOUR = {
    "b-2": Hashes("bytes1", "pcm1"),
    "a-1": Hashes("bytes1", "pcm1"),
    "c-3": Hashes("bytes2", "pcm1"),
    "d-4": Hashes("bytes3", "pcm3"),
}

CLIP_IDS = st.integers(0, 12).map("clip-{:02}".format)
PAIRS = st.lists(st.tuples(CLIP_IDS, CLIP_IDS), max_size=12)


def test_the_first_by_clip_id_stays_and_is_named():
    assert find_duplicates(FOUR) == {
        "b-2": Drop(DropReason.DUPLICATE_BYTES, "same as a-1"),
        "c-3": Drop(DropReason.DUPLICATE_PCM, "same as a-1"),
    }


def test_a_third_copy_names_the_one_that_stays():
    # c has the bytes of b, which is dropped as the samples of a: c must not name a clip that is not there.
    sounds = {"a": Hashes("x", "p"), "b": Hashes("y", "p"), "c": Hashes("y", "p")}
    assert {drop.detail for drop in find_duplicates(sounds).values()} == {"same as a"}


def test_what_is_not_dropped_is_paired_with_the_one_that_would_stay():
    assert sorted(duplicate_pairs(FOUR)) == [("b-2", "a-1"), ("c-3", "a-1")]


def test_a_clip_without_a_pair_is_its_own_group():
    assert duplicate_groups(["a-1", "b-2"], []) == {"a-1": "a-1", "b-2": "b-2"}


def test_a_group_is_named_by_its_first_member_through_any_chain():
    groups = duplicate_groups(["d", "c", "b", "a", "x"], [("d", "c"), ("b", "a"), ("c", "b")])
    assert groups == {"a": "a", "b": "a", "c": "a", "d": "a", "x": "x"}


@given(pairs=PAIRS, data=st.data())
def test_groups_depend_neither_on_the_order_of_pairs_nor_on_that_within(pairs, data):
    clip_ids = {f"clip-{number:02}" for number in range(13)}
    shuffled = [
        tuple(reversed(pair)) if data.draw(st.booleans()) else pair for pair in data.draw(st.permutations(pairs))
    ]
    groups = duplicate_groups(clip_ids, pairs)
    assert duplicate_groups(sorted(clip_ids), shuffled) == groups
    assert all(groups[one] == groups[other] for one, other in pairs)
    for clip_id, group in groups.items():
        assert group == min(other for other in clip_ids if groups[other] == groups[clip_id])


@given(pairs=PAIRS)
def test_clips_share_a_group_only_if_pairs_connect_them(pairs):
    groups = duplicate_groups({f"clip-{number:02}" for number in range(13)}, pairs)
    for clip_id in groups:
        reached = {clip_id}
        for _ in pairs:
            reached |= {member for pair in pairs for member in pair if reached & set(pair)}
        assert {other for other in groups if groups[other] == groups[clip_id]} == reached


def test_a_pair_of_an_unknown_clip_is_refused():
    with pytest.raises(ValueError, match="pairs must be of the clips given, got 'gone'"):
        duplicate_groups(["a"], [("a", "gone")])
