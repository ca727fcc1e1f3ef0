"""The order of training: the same batches for any number of processes, every pair, and no pair twice in a batch."""

from __future__ import annotations

from collections import Counter
from itertools import chain, pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.errors import ConfigError
from training.data import Clip, Pair
from training.sampling import EpochSampler, Visit


def clip(seconds: float = 1.0, *, source: int = 0, weight: float = 1.0) -> Clip:
    return Clip(
        clip_id="test-0",
        path=Path("none.flac"),
        sha256="",
        num_samples=round(seconds * 100),
        sample_rate=100,
        captions=("words",),
        has_human_captions=True,
        source=source,
        weight=weight,
    )


def one_pair_each(clips: list[Clip]) -> list[Pair]:
    return [Pair(clip=number, captions=("words",)) for number in range(len(clips))]


def sampler_of(clips: list[Clip], batch_size: int, **options) -> EpochSampler:
    return EpochSampler(one_pair_each(clips), clips, batch_size=batch_size, **({"seed": 1} | options))


def batches_of(sampler: EpochSampler, epoch: int = 0) -> list[list[Visit]]:
    sampler.epoch, sampler.first_batch = epoch, 0
    return list(sampler)


def times(batches: list[list[Visit]]) -> Counter[int]:
    return Counter(visit.pair for batch in batches for visit in batch)


@pytest.mark.parametrize("options", [{}, {"last_batch": "drop"}, {"buckets_s": (2.0,)}])
def test_one_two_and_four_processes_share_the_same_batches(options):
    clips = [clip(1 + number % 3, source=number % 2, weight=1 + number % 2 / 2) for number in range(45)]
    whole = sampler_of(clips, 8, **options)
    for epoch in (0, 1, 5):
        alone = batches_of(whole, epoch)
        for world_size in (2, 4):
            ranks = [sampler_of(clips, 8, rank=r, world_size=world_size, **options) for r in range(world_size)]
            assert {rank.steps_per_epoch for rank in ranks} == {whole.steps_per_epoch}
            parts = zip(*(batches_of(rank, epoch) for rank in ranks), strict=True)
            assert [list(chain(*rows)) for rows in parts] == alone


@pytest.mark.parametrize("world_size", [1, 2, 5])
def test_filling_shows_every_pair_and_repeats_the_first_ones(world_size):
    clips = [clip() for _ in range(103)]
    ranks = [sampler_of(clips, 10, rank=rank, world_size=world_size) for rank in range(world_size)]
    parts = [batches_of(rank) for rank in ranks]
    batches = [list(chain(*rows)) for rows in zip(*parts, strict=True)]
    assert len(batches) == ranks[0].steps_per_epoch == 11
    order = [visit.pair for batch in batches for visit in batch]
    assert sorted(order[:103]) == list(range(103))
    assert order[103:] == order[:7]
    assert [visit.before for visit in batches[-1]] == [0, 0, 0, 1, 1, 1, 1, 1, 1, 1]


def test_dropping_leaves_out_other_pairs_in_every_epoch():
    sampler = sampler_of([clip() for _ in range(103)], 10, last_batch="drop")
    seen = [set(times(batches_of(sampler, epoch))) for epoch in range(3)]
    assert [len(pairs) for pairs in seen] == [100, 100, 100]
    assert seen[0] != seen[1] != seen[2]


def test_an_epoch_has_its_own_order_and_goes_on_anywhere():
    sampler = sampler_of([clip(1 + number % 4) for number in range(50)], 6, buckets_s=(2.0,))
    first, second = batches_of(sampler, 0), batches_of(sampler, 1)
    assert first == batches_of(sampler, 0)
    assert times(first) != times(second) or [sorted(b) for b in first] != [sorted(b) for b in second]
    assert {visit.epoch for batch in second for visit in batch} == {1}
    for begin in (1, 4, len(first)):
        sampler.epoch, sampler.first_batch = 0, begin
        assert len(sampler) == len(first) - begin
        assert list(sampler) == first[begin:]
    assert first != batches_of(sampler_of([clip(1 + number % 4) for number in range(50)], 6, buckets_s=(2.0,), seed=2))


def test_weights_say_how_often_a_pair_comes():
    clips = [
        *(clip(source=0, weight=1.0) for _ in range(20)),
        *(clip(source=1, weight=2.5) for _ in range(11)),
        *(clip(source=2, weight=0.5) for _ in range(8)),
    ]
    sampler = sampler_of(clips, 4)
    assert sampler.visits_per_epoch == 20 + 22 + 6 + 4  # 11 / 2 is rounded to an even number
    total: Counter[int] = Counter()
    for epoch in range(6):
        batches = batches_of(sampler, epoch)
        counts = times(batches)
        assert [counts[pair] for pair in range(20)] == [1] * 20
        assert Counter(counts[pair] for pair in range(20, 31)) == {2: 5, 3: 6}
        assert Counter(counts[pair] for pair in range(31, 39)) == {0: 4, 1: 4}
        assert all(len({visit.pair for visit in batch}) == 4 for batch in batches)
        total += counts
    assert [total[pair] for pair in range(31, 39)] == [3] * 8  # the halves take turns
    assert max(total[pair] for pair in range(20, 31)) - min(total[pair] for pair in range(20, 31)) <= 3
    first = [next(iter(batches_of(sampler, epoch)[0])) for epoch in range(6)]
    assert len(set(first)) > 1


def test_visits_of_a_pair_are_spread_over_the_epoch():
    clips = [*(clip(source=0, weight=4.0) for _ in range(10)), *(clip(source=1) for _ in range(200))]
    order = [visit for batch in batches_of(sampler_of(clips, 8)) for visit in batch]
    for pair in range(10):
        places = [place for place, visit in enumerate(order) if visit.pair == pair]
        assert [order[place].before for place in places] == [0, 1, 2, 3]
        assert all(40 <= b - a <= 80 for a, b in pairwise(places))


def test_a_batch_has_clips_of_one_bucket():
    lengths = [0.5] * 9 + [2.0] * 10 + [2.1] * 5 + [30.0] * 12
    sampler = sampler_of([clip(seconds) for seconds in lengths], 4, buckets_s=(2.0, 5.0))
    assert not sampler.notes
    for epoch in range(3):
        batches = batches_of(sampler, epoch)
        assert len(batches) == 5 + 2 + 3
        assert sorted(times(batches)) == list(range(36))
        for batch in batches:
            (most_s,) = {visit.most_s for visit in batch}
            assert {2.0: 0, 5.0: 2, None: 5}[most_s] <= min(lengths[visit.pair] for visit in batch)
            assert max(lengths[visit.pair] for visit in batch) <= (most_s or 100)
    orders = [[batch[0].most_s for batch in batches_of(sampler, epoch)] for epoch in range(3)]
    assert orders[0] != orders[1]


def test_a_bucket_with_too_few_pairs_joins_the_next_longer_one():
    lengths = [1.0] * 3 + [3.0] * 9 + [9.0] * 2
    sampler = sampler_of([clip(seconds) for seconds in lengths], 4, buckets_s=(2.0, 5.0))
    assert sampler.notes == [
        "data.buckets_s: clips of the bucket of 2 s share batches with those of the bucket of 5 s: "
        "3 different pairs an epoch are fewer than run.batch_size=4",
        "data.buckets_s: clips longer than all buckets share batches with those of the bucket of 5 s: "
        "2 different pairs an epoch are fewer than run.batch_size=4",
    ]
    batches = batches_of(sampler)
    assert {visit.most_s for batch in batches for visit in batch} == {None}  # as long as the longest asks for
    assert sorted(times(batches)) == list(range(14))


def test_what_fills_no_batch_is_named():
    with pytest.raises(ConfigError, match=r"3 different pairs an epoch are fewer than run.batch_size=4; set a smaller"):
        sampler_of([clip() for _ in range(3)], 4)
    with pytest.raises(ConfigError, match=r"2 different pairs an epoch are fewer than run.batch_size=4"):
        sampler_of([clip(weight=0.1) for _ in range(20)], 4)
    with pytest.raises(ConfigError, match="0 different pairs"):
        sampler_of([], 4)
    heavy = [clip(source=0, weight=50.0), *(clip(source=1) for _ in range(30))]
    with pytest.raises(ConfigError, match=r"weight in data.train gives a pair 50 visits an epoch, .* 20 batches"):
        sampler_of(heavy, 4)
    for world_size, advice in ((3, "run.batch_size=9 "), (16, "run.batch_size=16 ")):
        with pytest.raises(ConfigError, match=f"run.batch_size=10 cannot be shared by {world_size} .*{advice}"):
            sampler_of([clip() for _ in range(20)], 10, world_size=world_size)


sources = st.lists(
    st.tuples(st.sampled_from([0.05, 0.3, 0.5, 1.0, 1.5, 2.0, 2.7, 5.0]), st.lists(st.integers(1, 9), min_size=1)),
    min_size=1,
    max_size=3,
)


@settings(max_examples=150, deadline=None)
@given(
    sources=sources,
    batch_size=st.integers(2, 8),
    last_batch=st.sampled_from(["fill", "drop"]),
    buckets_s=st.sampled_from([(), (3.0,), (2.0, 5.0)]),
    epoch=st.integers(0, 5),
)
def test_whatever_the_weights_and_buckets(sources, batch_size, last_batch, buckets_s, epoch):
    clips = [
        clip(seconds, source=number, weight=weight)
        for number, (weight, lengths) in enumerate(sources)
        for seconds in lengths
    ]
    try:
        sampler = sampler_of(clips, batch_size, last_batch=last_batch, buckets_s=buckets_s)
    except ConfigError:
        return
    batches = batches_of(sampler, epoch)
    counts = times(batches)
    assert len(batches) == sampler.steps_per_epoch
    for batch in batches:
        assert len({visit.pair for visit in batch}) == len(batch) == batch_size
        assert len({visit.most_s for visit in batch}) == 1
    assert {visit[:3] for batch in batches for visit in batch} == {
        (epoch, pair, before) for pair, count in counts.items() for before in range(count)
    }
    if last_batch == "fill":
        assert 0 <= sum(counts.values()) - sampler.visits_per_epoch < batch_size * (len(buckets_s) + 1)
        assert all(counts[number] >= int(each.weight) for number, each in enumerate(clips))
    else:
        assert 0 <= sampler.visits_per_epoch - sum(counts.values()) < batch_size * (len(buckets_s) + 1)
