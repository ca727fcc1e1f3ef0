from __future__ import annotations

from dataclasses import dataclass

from curation.duplicates import duplicate_groups, find_duplicates
from curation.filters import Drop, DropReason


@dataclass(frozen=True)
class Hashes:
    source_sha256: str
    pcm_sha256: str


def test_the_first_by_clip_id_stays_and_is_named():
    sounds = {
        "b-2": Hashes("bytes1", "pcm1"),
        "a-1": Hashes("bytes1", "pcm1"),
        "c-3": Hashes("bytes2", "pcm1"),
        "d-4": Hashes("bytes3", "pcm3"),
    }
    assert find_duplicates(sounds) == {
        "b-2": Drop(DropReason.DUPLICATE_BYTES, "same as a-1"),
        "c-3": Drop(DropReason.DUPLICATE_PCM, "same as a-1"),
    }


def test_a_third_copy_names_the_one_that_stays():
    # c has the bytes of b, which is dropped as the samples of a: c must not name a clip that is not there.
    sounds = {"a": Hashes("x", "p"), "b": Hashes("y", "p"), "c": Hashes("y", "p")}
    assert {drop.detail for drop in find_duplicates(sounds).values()} == {"same as a"}


def test_each_kept_clip_is_its_own_group():
    assert duplicate_groups({"a-1": Hashes("x", "p")}) == {"a-1": "a-1"}
