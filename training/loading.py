"""Visits to batches: crops of 16-bit sound beside token ids, read by this process or by workers.

What a visit looks like (which caption, where the crop starts, how loud) is drawn from (seed, epoch, index of the pair,
how often it came before in the epoch) alone: workers, processes, resuming and other pairs change nothing.

Sound stays 16-bit until ``Batch.to``, with a gain a row, and a crop that lies inside another encoder's is only cut
there: workers hand over less than half as many bytes, and write each sample once, where the batch will have it. What
has to be resampled for an encoder is float32 from the start. A manifest's FLAC of 24 bits is rounded to 16, whichever
way it is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from curation.audio import resample
from training.data import Clip, Pair
from training.pcmcache import PcmCache, Samples, read_pcm
from training.sampling import EpochSampler, Visit
from training.tokenizer import pad

_VISIT = 0
"""First number of a visit's random stream; training.sampling has the others."""
_FULL_SCALE = 32_768


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Matching pairs: row i of everything is one pair."""

    waveforms: dict[str, Tensor]
    """What audio encoders read (B, S); those that read the same share one tensor. After ``to`` crops in float32, 1.0
    full scale; from a loader int16 unless resampled, and see ``cuts``."""
    input_ids: Tensor
    """(B, L)."""
    attention_mask: Tensor
    """(B, L)."""
    keys: Tensor
    """(B, 2): number of the clip, number of the caption; the same numbers in every process."""
    gains: Tensor | None = None
    """(B,), what rows of int16 are to be multiplied by; None: 1."""
    cuts: dict[str, tuple[Tensor, int]] = field(default_factory=dict)
    """Where an encoder's crops are to be cut from its waveforms: first samples (B,), and how many."""

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device, with float32 crops."""
        sounds = {id(tensor): self._sound(tensor.to(device, non_blocking=True)) for tensor in self.waveforms.values()}
        waveforms = {name: sounds[id(tensor)] for name, tensor in self.waveforms.items()}
        for name, (starts, size) in self.cuts.items():
            rows = torch.arange(len(starts), device=device)
            waveforms[name] = waveforms[name].unfold(1, size, 1)[rows, starts.to(device, non_blocking=True)]
        return Batch(
            waveforms=waveforms,
            input_ids=self.input_ids.to(device, non_blocking=True),
            attention_mask=self.attention_mask.to(device, non_blocking=True),
            keys=self.keys.to(device, non_blocking=True),
        )

    def _sound(self, samples: Tensor) -> Tensor:
        if samples.dtype != torch.int16:
            return samples
        if self.gains is None:
            return samples * (1 / _FULL_SCALE)
        return samples * (self.gains / _FULL_SCALE).to(samples.device, non_blocking=True)[:, None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Visits:
    """Visits that have been read, before their captions are padded; the rest as in Batch."""

    waveforms: dict[str, Tensor]
    cuts: dict[str, tuple[Tensor, int]]
    gains: Tensor | None
    token_ids: list[list[int]]
    keys: Tensor


class PairDataset(Dataset[Visits]):
    """Pairs, to be read a batch at a time."""

    def __init__(
        self,
        clips: Sequence[Clip],
        pairs: Sequence[Pair],
        token_ids: Mapping[str, list[int]],
        *,
        clip_samples: Mapping[str, int],
        sample_rates: Mapping[str, int] | None = None,
        seed: int,
        gain_db: float = 0.0,
        shift: bool = False,
        is_coupled: bool = True,
        is_cached: bool = False,
        cache: PcmCache | None = None,
    ) -> None:
        """Hold clips and pairs.

        Args:
            clips: What ``Pair.clip`` counts.
            pairs: What an index counts.
            token_ids: Of every caption.
            clip_samples: Samples that each audio encoder reads, at its rate.
            sample_rates: Rate that each reads, Hz; one that is not the clips' is made by resampling each crop. Left
                out: the clips' own.
            seed: Of all draws.
            gain_db: Level drawn from plus or minus this.
            shift: Start short clips anywhere, going round.
            is_coupled: Take shorter crops from inside the longest.
            is_cached: Keep decoded clips in memory.
            cache: Decoded clips on disk, of these clips; None: FLAC is decoded at every visit.
        """
        self.clips, self.pairs = clips, pairs
        self._rate = clips[0].sample_rate if clips else 0
        rates = {name: (sample_rates or {}).get(name, self._rate) for name in clip_samples}
        self._targets = {name: (size, rates[name]) for name, size in clip_samples.items()}
        numbers = {caption: number for number, caption in enumerate(sorted(token_ids))}
        self._ids = [token_ids[caption] for caption in numbers]
        self._captions = [[numbers[caption] for caption in pair.captions] for pair in pairs]
        self.seed, self.gain_db, self.shift, self.is_coupled = seed, gain_db, shift, is_coupled
        self._cache = cache
        self._memory: dict[int, Samples] | None = {} if is_cached else None

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitems__(self, visits: Sequence[Visit]) -> Visits:
        """Return the visits of one batch; all are of one bucket."""
        targets = self._within(visits[0].most_s)
        needed = {name: -(-size * self._rate // rate) for name, (size, rate) in targets.items()}
        needed = dict(sorted(needed.items(), key=lambda item: -item[1]))
        longest = next(iter(needed))
        read, cuts = {}, {}
        for name, size in needed.items():
            if name == longest or not self.is_coupled:
                read[name] = _room(len(visits), size, torch.int16)
            else:
                read[name] = read[longest]
                if size < needed[longest]:
                    cuts[name] = torch.empty(len(visits), dtype=torch.long), size
        gains = torch.ones(len(visits))
        keys = torch.empty((len(visits), 2), dtype=torch.long)
        for row, visit in enumerate(visits):
            rng = np.random.default_rng((_VISIT, self.seed, visit.epoch, visit.pair, visit.before))
            clip, captions = self.pairs[visit.pair].clip, self._captions[visit.pair]
            keys[row, 0], keys[row, 1] = clip, captions[int(rng.integers(len(captions)))]
            gains[row] = 10 ** (rng.uniform(-self.gain_db, self.gain_db) / 20)
            for name, size in needed.items():
                if name in cuts:
                    cuts[name][0][row] = int(rng.integers(needed[longest] - size + 1))
                elif name == longest or not self.is_coupled:
                    self._crop(clip, rng, read[name][row].numpy())
        resampled = [name for name, (_, rate) in targets.items() if rate != self._rate]
        made = {
            name: self._resampled(read[name], *cuts.pop(name, (None, needed[name])), gains, *targets[name])
            for name in resampled
        }
        return Visits(
            waveforms={name: made.get(name, read[name]) for name in targets},
            cuts=cuts,
            gains=gains if self.gain_db else None,
            token_ids=[self._ids[number] for number in keys[:, 1].tolist()],
            keys=keys,
        )

    def _within(self, most_s: float | None) -> dict[str, tuple[int, int]]:
        """Return the samples that each encoder reads, and their rate, with a bucket's bound."""
        if most_s is None:
            return self._targets
        return {name: (min(size, round(most_s * rate)), rate) for name, (size, rate) in self._targets.items()}

    def _crop(self, clip: int, rng: np.random.Generator, out: Samples) -> None:
        """Fill ``out`` at random from a longer clip, going round in a shorter one."""
        samples, size = self.clips[clip].num_samples, len(out)
        if samples > size:
            self._read(clip, int(rng.integers(samples - size + 1)), out)
            return
        whole = out[:samples]
        self._read(clip, 0, whole)
        if self.shift:
            whole[:] = np.roll(whole, -int(rng.integers(samples)))
        filled = samples
        while filled < size:
            more = min(filled, size - filled)
            out[filled : filled + more] = out[:more]
            filled += more

    def _read(self, clip: int, start: int, out: Samples) -> None:
        if self._cache is not None:
            out[:] = self._cache.read(clip, start, len(out))
        elif self._memory is not None:
            if clip not in self._memory:
                whole = np.empty(self.clips[clip].num_samples, np.int16)
                read_pcm(self.clips[clip], 0, whole)
                self._memory[clip] = whole
            out[:] = self._memory[clip][start : start + len(out)]
        else:
            read_pcm(self.clips[clip], start, out)

    def _resampled(
        self, sounds: Tensor, starts: Tensor | None, own: int, gains: Tensor, size: int, rate: int
    ) -> Tensor:
        """Return crops at another rate, of exactly ``size`` samples: resampling rounds the last one up or down."""
        made = _room(len(sounds), size, torch.float32)
        for row, out in enumerate(made.numpy()):
            first = 0 if starts is None else int(starts[row])
            sound = sounds[row, first : first + own].numpy() / np.float32(_FULL_SCALE) * gains[row].numpy()
            crop = resample(sound, source_rate=self._rate, target_rate=rate)
            out[:] = np.resize(crop, size) if len(crop) < size else crop[:size]
        return made


def _room(rows: int, size: int, dtype: torch.dtype) -> Tensor:
    """Return an array (rows, size) to be written to; in a worker where the training process will read it."""
    if get_worker_info() is None:
        return torch.empty((rows, size), dtype=dtype)
    storage = torch.UntypedStorage._new_shared(rows * size * dtype.itemsize, device="cpu")
    return torch.empty(0, dtype=dtype).set_(storage, 0, (rows, size), (size, 1))  # type: ignore[call-overload]


@dataclass(frozen=True)
class Collate:
    """Makes a Batch of visits that have been read."""

    pad_id: int

    def __call__(self, visits: Visits) -> Batch:
        input_ids, attention_mask = pad(visits.token_ids, pad_id=self.pad_id)
        return Batch(
            waveforms=visits.waveforms,
            input_ids=input_ids,
            attention_mask=attention_mask,
            keys=visits.keys,
            gains=visits.gains,
            cuts=visits.cuts,
        )


def make_loader(dataset: PairDataset, sampler: EpochSampler, *, pad_id: int, workers: int) -> DataLoader[Any]:
    """Return a loader of Batch; set ``sampler.epoch`` before iterating."""
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        collate_fn=Collate(pad_id),
        num_workers=workers,
        persistent_workers=workers > 0,
        generator=torch.Generator(),  # it draws one number an epoch: not from the model's, or resuming would differ
    )
