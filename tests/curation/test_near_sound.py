from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.duplicates import duplicate_groups
from curation.near_sound import FRAMES_A_LINE, Views, candidate_pairs, compare, required_score


def views(seed: int, *, num_frames: int = 200, lead: int = 0) -> Views:
    rng = np.random.default_rng(seed)
    num_rows = -(-num_frames // FRAMES_A_LINE)
    return Views(
        lead=lead,
        bands=rng.integers(-1, 2, (num_frames, 16)).astype(np.int8),
        lines=rng.integers(-1, 2, (num_rows, 128)).astype(np.int8),
    )


def with_noise(clip: Views, seed: int, share: float) -> Views:
    """Return a clip with a share of its cells drawn anew."""
    rng = np.random.default_rng(seed)

    def drawn(cells):
        return np.where(rng.random(cells.shape) < share, rng.integers(-1, 2, cells.shape), cells).astype(np.int8)

    return Views(lead=clip.lead, bands=drawn(clip.bands), lines=drawn(clip.lines))


def cut(clip: Views, first_row: int) -> Views:
    return Views(lead=0, bands=clip.bands[first_row * FRAMES_A_LINE :], lines=clip.lines[first_row:])


def test_a_clip_is_the_same_as_itself():
    match = compare(views(1), views(1))
    assert (match.score, match.offset, match.frames) == (pytest.approx(1), 0, 200)


@pytest.mark.parametrize(("first_row", "lead"), [(0, 0), (4, 0), (4, 70)])
def test_the_offset_says_where_the_other_begins(first_row, lead):
    whole, part = views(1, lead=lead), cut(views(1), first_row)
    match = compare(whole, part)
    assert match.offset == first_row * FRAMES_A_LINE + lead
    assert match.frames == 200 - first_row * FRAMES_A_LINE
    assert compare(part, whole).offset == -match.offset


@pytest.mark.parametrize(("share", "is_found"), [(0.1, True), (0.3, True), (0.8, False), (1.0, False)])
def test_what_two_copies_must_share(share, is_found):
    assert (compare(views(1), with_noise(views(1), 2, share)) is not None) is is_found


@pytest.mark.parametrize("view", ["bands", "lines"])
def test_both_views_must_agree(view):
    one, other = views(1), views(2)
    mixed = {"bands": one.bands, "lines": one.lines, view: getattr(other, view)}
    assert compare(one, Views(lead=0, **mixed)) is None


def test_a_click_tells_too_little():
    assert compare(views(1, num_frames=7), views(1, num_frames=7)) is None
    assert compare(views(1, num_frames=8), views(1, num_frames=8)) is not None


def test_less_than_two_fifths_in_common_tell_too_little():
    one, other = views(1, num_frames=160), views(2, num_frames=160)
    joined = Views(
        lead=0,
        bands=np.concatenate([one.bands[112:], other.bands[48:]]),
        lines=np.concatenate([one.lines[7:], other.lines[3:]]),
    )
    assert compare(one, joined) is None
    assert compare(joined, other) is not None


def test_the_fewer_cells_the_more_must_agree():
    required = [required_score(num_cells) for num_cells in (0, 1, 20, 100, 1_000, 1_000_000)]
    assert required == sorted(required, reverse=True)
    assert required[-1] == pytest.approx(0.5, abs=0.01)


CLIPS = st.builds(
    lambda seed, first_row, share, noise, lead: with_noise(cut(views(seed, lead=lead), first_row), noise, share),
    seed=st.integers(0, 2),
    first_row=st.integers(0, 8),
    share=st.sampled_from([0.0, 0.2, 0.4]),
    noise=st.integers(0, 50),
    lead=st.integers(0, 3),
)


@settings(max_examples=50, deadline=None)
@given(one=CLIPS, other=CLIPS)
def test_comparing_is_the_same_either_way_round(one, other):
    match, turned = compare(one, other), compare(other, one)
    assert (match is None) is (turned is None)
    if match is not None:
        assert (match.score, match.offset, match.frames) == (turned.score, -turned.offset, turned.frames)


def test_copies_are_candidates_among_many_and_nearly_nothing_else_is():
    clips = [views(seed, num_frames=16 * (1 + seed % 8)) for seed in range(2_000)]
    copies = [with_noise(clip, 5_000 + seed, 0.15) for seed, clip in enumerate(clips[:300])]
    pairs = candidate_pairs(clip.lines for clip in clips + copies)
    assert pairs == sorted(set(pairs))
    found = sum((seed, 2_000 + seed) in pairs for seed in range(300))
    assert found >= 290
    assert len(pairs) - found <= 10


def test_candidates_across_two_sets_only():
    lines = [views(seed).lines for seed in (1, 1, 2, 1, 2, 3)]
    assert candidate_pairs(lines, num_first=3) == [(0, 3), (1, 3), (2, 4)]
    assert candidate_pairs(lines) == [(0, 1), (0, 3), (1, 3), (2, 4)]


def test_hundreds_of_equal_clips_are_chained_rather_than_compared_all_with_all():
    pairs = candidate_pairs([views(1).lines] * 500)
    assert len(pairs) <= 500 * 32
    groups = duplicate_groups(map(str, range(500)), [(str(one), str(other)) for one, other in pairs])
    assert len(set(groups.values())) == 1


@pytest.mark.parametrize("num_first", [1, 100, 499])
def test_hundreds_of_equal_clips_in_two_sets_are_each_found(num_first):
    pairs = candidate_pairs([views(1).lines] * 500, num_first=num_first)
    assert all(one < num_first <= other for one, other in pairs)
    assert {clip for pair in pairs for clip in pair} == set(range(500))


@pytest.mark.parametrize("num_rows", [0, 1, 3])
def test_clips_that_tell_nothing_are_no_candidates(num_rows):
    assert candidate_pairs([np.zeros((num_rows, 128), np.int8)] * 3) == []


def test_no_clips_give_no_candidates():
    assert candidate_pairs([]) == []
