"""The order of training: which pairs make which batch of an epoch, for every process of a run.

The batches of all processes together are a function of (seed, epoch) and the data alone. A process takes its rows of
each, so one process or eight train on the same batches, and a run can go on at any batch of any epoch. How many
batches an epoch has never changes, whatever is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

from curation.errors import ConfigError

if TYPE_CHECKING:
    from training.data import Clip, Pair

_ORDER, _SHARE = 1, 2
"""First number of a random stream: of orders, and of which pairs come once more where a weight is no whole number."""

Numbers = npt.NDArray[np.int64]


class Visit(NamedTuple):
    """One reading of a pair."""

    epoch: int
    pair: int
    """Its index."""
    before: int = 0
    """How often the pair came before in the epoch."""
    most_s: float | None = None
    """The most that any encoder reads, in seconds: the length of the batch's bucket. None: no bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Share:
    """Pairs of one manifest in one bucket: as many visits in every epoch."""

    number: int
    pairs: Numbers
    weight: float

    @property
    def extra(self) -> int:
        """How many come once more than the others in an epoch."""
        return max(round(len(self.pairs) * (self.weight - math.floor(self.weight))), self.weight < 1)

    @property
    def visits(self) -> int:
        """Of an epoch."""
        return math.floor(self.weight) * len(self.pairs) + self.extra

    @property
    def distinct(self) -> int:
        """Pairs of an epoch."""
        return len(self.pairs) if self.weight >= 1 else self.extra

    @property
    def most(self) -> int:
        """Visits of one pair in an epoch."""
        return math.floor(self.weight) + (self.extra > 0)

    def draw(self, seed: int, epoch: int) -> Numbers:
        """Return the pairs of an epoch, each as often as it comes.

        Those that come once more go round: all have had their turn before one has a second one.
        """
        always = np.repeat(self.pairs, math.floor(self.weight))
        if not self.extra:
            return always
        cycle, turn = divmod(epoch, -(-len(self.pairs) // self.extra))
        order = np.random.default_rng((_SHARE, seed, self.number, cycle)).permutation(self.pairs)
        return np.concatenate([always, order[(turn * self.extra + np.arange(self.extra)) % len(order)]])


@dataclass(slots=True, kw_only=True)
class _Bucket:
    """Pairs that share batches."""

    most_s: float | None
    shares: list[_Share]

    @property
    def visits(self) -> int:
        return sum(share.visits for share in self.shares)

    @property
    def distinct(self) -> int:
        return sum(share.distinct for share in self.shares)

    @property
    def most(self) -> int:
        return max((share.most for share in self.shares), default=0)


class EpochSampler(Sampler[list[Visit]]):
    """Batches of visits of one epoch, this process's rows of each; set ``epoch`` and ``first_batch`` before iterating.

    No pair comes twice in a batch. A pair of weight w comes floor(w) or ceil(w) times in an epoch, its visits spread
    over it; a bucket with fewer pairs than a batch joins the next longer one, or the one before if there is none.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        clips: Sequence[Clip],
        *,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        last_batch: str = "fill",
        buckets_s: Sequence[float] = (),
    ) -> None:
        """Sort pairs into buckets.

        Args:
            pairs: What an index counts.
            clips: What ``Pair.clip`` counts; their weights and lengths matter.
            batch_size: Pairs of a batch over all processes.
            seed: Of all orders.
            rank: This process.
            world_size: Processes.
            last_batch: "fill": pairs left over at the end of an epoch are filled up to a batch with those that began
                it; "drop": they are left out, others in every epoch.
            buckets_s: Lengths in seconds, rising; clips longer than all of them make one more bucket.

        Raises:
            ConfigError: If processes cannot share the batch equally, or there are too few pairs for one without
                repetition.
        """
        if batch_size % world_size:
            nearest = max(batch_size // world_size, 1) * world_size
            raise ConfigError(
                f"run.batch_size={batch_size} cannot be shared by {world_size} processes equally; set "
                f"run.batch_size={nearest} or another multiple of {world_size}"
            )
        self.batch_size, self.seed, self.last_batch = batch_size, seed, last_batch
        self.world_size = world_size
        each = batch_size // world_size
        self._rows = slice(rank * each, (rank + 1) * each)
        self.epoch, self.first_batch = 0, 0
        self.notes: list[str] = []
        """What is worth saying about the buckets."""
        self._buckets = self._whole_buckets(_sorted_into_buckets(pairs, clips, buckets_s))
        self._counts = [self._batches_of(bucket) for bucket in self._buckets]

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch: the same in every one, and in all processes."""
        return sum(self._counts)

    @property
    def visits_per_epoch(self) -> int:
        """Pairs that an epoch has to see, each as often as its weight says; without what fills the last batches."""
        return sum(bucket.visits for bucket in self._buckets)

    def __len__(self) -> int:
        return self.steps_per_epoch - self.first_batch

    def __iter__(self) -> Iterator[list[Visit]]:
        epoch = self.epoch
        for pairs, before, most_s in self._global_batches(epoch)[self.first_batch :]:
            rows = zip(pairs[self._rows].tolist(), before[self._rows].tolist(), strict=True)
            yield [Visit(epoch, pair, count, most_s) for pair, count in rows]

    def _batches_of(self, bucket: _Bucket) -> int:
        whole, rest = divmod(bucket.visits, self.batch_size)
        return whole + (rest > 0 and self.last_batch == "fill")

    def _whole_buckets(self, buckets: list[_Bucket]) -> list[_Bucket]:
        """Return buckets that fill batches without repetition, those that do not joined to the next longer one."""
        whole: list[_Bucket] = []
        for bucket in buckets:
            whole.append(bucket)
            if len(whole) > 1 and self._problem(whole[-2]):
                self._join(whole)
        while problem := self._problem(whole[-1]):
            if len(whole) == 1:
                raise ConfigError(f"data.train does not fill a batch: {problem}; set a smaller one, or other weights")
            self._join(whole)
        return whole

    def _join(self, buckets: list[_Bucket]) -> None:
        """Make one of the last two buckets, as long as the longer one."""
        longer, shorter = buckets.pop(), buckets.pop()
        small = shorter if self._problem(shorter) else longer
        other = longer if small is shorter else shorter
        self.notes.append(
            f"data.buckets_s: clips {_words(small)} share batches with those {_words(other)}: {self._problem(small)}"
        )
        buckets.append(_Bucket(most_s=longer.most_s, shares=[*shorter.shares, *longer.shares]))

    def _problem(self, bucket: _Bucket) -> str | None:
        batches = self._batches_of(bucket)
        if bucket.distinct < self.batch_size:
            return f"{bucket.distinct} different pairs an epoch are fewer than run.batch_size={self.batch_size}"
        if bucket.most > batches:
            return (
                f"the weight in data.train gives a pair {bucket.most} visits an epoch, and there are {batches} batches"
            )
        return None

    def _global_batches(self, epoch: int) -> list[tuple[Numbers, Numbers, float | None]]:
        """Return the pairs of each batch, how often each came before, and the batch's bucket."""
        rng = np.random.default_rng((_ORDER, self.seed, epoch))
        found = []
        for bucket, count in zip(self._buckets, self._counts, strict=True):
            order = _spread(np.concatenate([share.draw(self.seed, epoch) for share in bucket.shares]), rng)
            found += [(batch, bucket.most_s) for batch in _end_repetition(self._cut(order, count))]
        if len(self._buckets) > 1:
            found = [found[place] for place in rng.permutation(len(found))]
        counts = _came_before(np.concatenate([batch for batch, _ in found])).reshape(-1, self.batch_size)
        return [(batch, before, most_s) for (batch, most_s), before in zip(found, counts, strict=True)]

    def _cut(self, order: Numbers, count: int) -> Numbers:
        """Return ``count`` batches (count, B) of an order, filled from its beginning with pairs not in all of them."""
        size = count * self.batch_size
        while len(order) < size:
            _, first, counts = np.unique(order, return_index=True, return_counts=True)
            order = np.concatenate([order, order[np.sort(first[counts < count])[: size - len(order)]]])
        return order[:size].reshape(count, self.batch_size)


def _sorted_into_buckets(pairs: Sequence[Pair], clips: Sequence[Clip], buckets_s: Sequence[float]) -> list[_Bucket]:
    """Return the buckets that have pairs, the shortest first, each with its pairs by manifest."""
    clip = np.array([pair.clip for pair in pairs], dtype=np.int64)
    source = np.array([each.source for each in clips], dtype=np.int64)[clip]
    bucket = np.searchsorted(buckets_s, [each.duration_s for each in clips])[clip]
    weights = {each.source: each.weight for each in clips}
    found = []
    number = 0
    for place, most_s in enumerate([*buckets_s, None]):
        shares = []
        for which, weight in sorted(weights.items()):
            members = np.flatnonzero((source == which) & (bucket == place))
            if len(members):
                shares.append(_Share(number=number, pairs=members, weight=weight))
            number += 1
        if shares:
            found.append(_Bucket(most_s=most_s, shares=shares))
    return found or [_Bucket(most_s=None, shares=[])]


def _spread(visits: Numbers, rng: np.random.Generator) -> Numbers:
    """Return visits in a random order, those of one pair about equally far from each other."""
    pairs, which, count = np.unique(visits, return_inverse=True, return_counts=True)
    place = (rng.random(len(pairs))[which] + _came_before(visits)) / count[which]
    return visits[np.argsort(place, kind="stable")]


def _end_repetition(batches: Numbers) -> Numbers:
    """Return batches (N, B) after each pair that came twice in one has changed places with a pair of another.

    It ends, as B different pairs are there and none more than N times: of the batches with a repetition, take one
    with the fewest different pairs. A batch without the repeated pair has a pair to give for it, or it would have
    fewer different ones still.
    """
    while True:
        ordered = np.sort(batches, axis=1)
        repeated = np.flatnonzero((ordered[:, 1:] == ordered[:, :-1]).any(axis=1))
        if not len(repeated):
            return batches
        for batch in repeated.tolist():
            _, first = np.unique(batches[batch], return_index=True)
            for place in np.setdiff1d(np.arange(batches.shape[1]), first).tolist():
                _exchange(batches, batch, place)


def _exchange(batches: Numbers, batch: int, place: int) -> None:
    pair = batches[batch, place]
    for step in range(1, len(batches)):
        other = batches[(batch + step) % len(batches)]
        new = np.flatnonzero(~np.isin(other, batches[batch]))
        if len(new) and pair not in other:
            batches[batch, place], other[new[0]] = other[new[0]], pair
            return


def _came_before(pairs: Numbers) -> Numbers:
    """Return for each visit how many of the same pair stand before it."""
    order = np.argsort(pairs, kind="stable")
    ordered = pairs[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    lengths = np.diff(np.r_[starts, len(pairs)])
    before = np.empty(len(pairs), dtype=np.int64)
    before[order] = np.arange(len(pairs)) - np.repeat(starts, lengths)
    return before


def _words(bucket: _Bucket) -> str:
    return "longer than all buckets" if bucket.most_s is None else f"of the bucket of {bucket.most_s:g} s"
