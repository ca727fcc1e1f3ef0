"""Visits to batches: crops of 16-bit sound beside token ids, read by this process or by workers.

What a visit looks like (which caption, where the crop starts, how loud) is drawn from (seed, epoch, index of the pair,
how often it came before in the epoch) alone: workers, processes, resuming and other pairs change nothing.

Sound stays 16-bit until ``Batch.to``, with a gain a row, and a crop that lies inside another encoder's is only cut
there: each sample is written once, where the batch will have it. What has to be resampled for an encoder is float32
from the start. A manifest's FLAC of 24 bits is rounded to 16, whichever way it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from curation.audio import resample
from training.batchmemory import ALIGNMENT
from training.data import Clip, Pair
from training.pcmcache import PcmCache, Samples, read_pcm
from training.sampling import Numbers, Visit

_FULL_SCALE = 32_768

New = Callable[[int, int, torch.dtype], Tensor]
"""Rows, samples, kind to a tensor to write to."""


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
            whole, waveforms[name] = waveforms[name], _float32(len(starts), size, device)
            for row, start in enumerate(starts.tolist()):
                waveforms[name][row] = whole[row, start : start + size]
        return Batch(
            waveforms=waveforms,
            input_ids=self.input_ids.to(device, non_blocking=True),
            attention_mask=self.attention_mask.to(device, non_blocking=True),
            keys=self.keys.to(device, non_blocking=True),
        )

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory."""
        pinned = {id(tensor): tensor.pin_memory() for tensor in self.waveforms.values()}
        return replace(
            self,
            waveforms={name: pinned[id(tensor)] for name, tensor in self.waveforms.items()},
            input_ids=self.input_ids.pin_memory(),
            attention_mask=self.attention_mask.pin_memory(),
            keys=self.keys.pin_memory(),
            gains=None if self.gains is None else self.gains.pin_memory(),
        )

    def _sound(self, samples: Tensor) -> Tensor:
        if samples.dtype != torch.int16:
            return samples
        waveforms = _float32(samples.shape[0], samples.shape[1], samples.device).copy_(samples)
        if self.gains is None:
            return waveforms.mul_(1 / _FULL_SCALE)
        return waveforms.mul_((self.gains / _FULL_SCALE).to(samples.device, non_blocking=True)[:, None])


def _float32(rows: int, size: int, device: torch.device) -> Tensor:
    """Return a tensor to be written to; on a CPU numpy's, who asks for huge pages, which come several times as fast."""
    if device.type == "cpu":
        return torch.from_numpy(np.empty((rows, size), np.float32))
    return torch.empty((rows, size), device=device)


class PairDataset:
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
        self.gain_db, self.shift, self.is_coupled = gain_db, shift, is_coupled
        self._draws = _Draws(seed)
        numbers = {caption: number for number, caption in enumerate(sorted(token_ids))}
        self._captions = [[numbers[caption] for caption in pair.captions] for pair in pairs]
        self._lengths = np.array([len(token_ids[caption]) for caption in numbers], np.int64)
        self._ids = np.zeros((len(numbers), self._lengths.max(initial=0)), np.int64)
        for caption, number in numbers.items():
            self._ids[number, : self._lengths[number]] = token_ids[caption]
        self._cache = cache
        self._memory: dict[int, Samples] | None = {} if is_cached else None

    def __len__(self) -> int:
        return len(self.pairs)

    def read(self, visits: Sequence[Visit], *, pad_id: int, new: New | None = None) -> Batch:
        """Return the visits of one batch; all are of one bucket.

        Args:
            visits: Of the sampler.
            pad_id: Follows the ids of shorter captions.
            new: Makes the tensors that sound is written to; left out: fresh ones.

        Raises:
            AudioError: If a file cannot be decoded.
            ManifestError: If a file ends before its manifest says.
        """
        new = new or _fresh
        crops = self._empty_crops(len(visits), visits[0].most_s, new)
        longest = next(iter(crops.values())).size
        gains = np.empty(len(visits), np.float32)
        keys = np.empty((len(visits), 2), np.int64)
        for row, visit in enumerate(visits):
            rng = self._draws.of(visit)
            clip, captions = self.pairs[visit.pair].clip, self._captions[visit.pair]
            keys[row] = clip, captions[rng.integers(len(captions))]
            gains[row] = 10 ** (rng.uniform(-self.gain_db, self.gain_db) / 20)
            for crop in crops.values():
                last = longest - crop.size if crop.is_cut else self._last_start(clip, crop.size)
                crop.starts[row] = rng.integers(last + 1)
        # All draws come first, for copying a crop drives what they need from the processor's cache.
        for crop in crops.values():
            if not crop.is_cut:
                for out, clip, start in zip(crop.sounds.numpy(), keys[:, 0], crop.starts, strict=True):
                    self._fill(out, int(clip), int(start))
        ids, mask = self._texts(keys[:, 1], pad_id)
        own = {name: crop for name, crop in crops.items() if crop.rate == self._rate}
        return Batch(
            waveforms={name: crop.sounds for name, crop in own.items()} | self._resampled(crops, gains, new),
            input_ids=ids,
            attention_mask=mask,
            keys=torch.from_numpy(keys),
            gains=torch.from_numpy(gains) if self.gain_db else None,
            cuts={
                name: (torch.from_numpy(crop.starts), crop.size)
                for name, crop in own.items()
                if crop.is_cut and crop.size < longest
            },
        )

    def most_bytes(self, visits: int) -> int:
        """Return how many bytes the tensors that ``read`` makes by ``new`` take at most."""
        sizes = self._sizes(None)
        each = sum(2 * own + 4 * size * (rate != self._rate) for own, size, rate in sizes.values())
        return visits * each + 2 * ALIGNMENT * len(sizes)

    def _sizes(self, most_s: float | None) -> dict[str, tuple[int, int, int]]:
        """Return for each encoder the samples of its crops at the clips' rate, at its own, and that; the most first."""
        sizes = {}
        for name, (size, rate) in self._targets.items():
            bound = size if most_s is None else min(size, round(most_s * rate))
            sizes[name] = -(-bound * self._rate // rate), bound, rate
        return dict(sorted(sizes.items(), key=lambda item: -item[1][0]))

    def _empty_crops(self, visits: int, most_s: float | None, new: New) -> dict[str, _Crops]:
        crops: dict[str, _Crops] = {}
        for name, (own, size, rate) in self._sizes(most_s).items():
            is_cut = bool(crops) and self.is_coupled
            sounds = next(iter(crops.values())).sounds if is_cut else new(visits, own, torch.int16)
            crops[name] = _Crops(sounds, np.empty(visits, np.int64), is_cut, own, size, rate)
        return crops

    def _texts(self, captions: Numbers, pad_id: int) -> tuple[Tensor, Tensor]:
        """Return ids (B, L) of captions, padded on the right to the longest, and their mask (B, L), 1 for tokens."""
        lengths = self._lengths[captions]
        mask = np.arange(lengths.max()) < lengths[:, None]
        ids = np.where(mask, self._ids[captions, : mask.shape[1]], pad_id)
        return torch.from_numpy(ids), torch.from_numpy(mask.astype(np.int64))

    def _resampled(self, crops: Mapping[str, _Crops], gains: npt.NDArray[np.float32], new: New) -> dict[str, Tensor]:
        """Return the crops of encoders whose rate is not the clips'; resampling rounds their last sample up or down."""
        made: dict[tuple[Any, ...], Tensor] = {}
        waveforms = {}
        for name, crop in crops.items():
            if crop.rate == self._rate:
                continue
            starts = crop.starts if crop.is_cut else np.zeros_like(crop.starts)
            key = id(crop.sounds), starts.tobytes(), crop.resampled, crop.rate
            if key not in made:
                made[key] = new(len(gains), crop.resampled, torch.float32)
                for out, sound, start, gain in zip(made[key].numpy(), crop.sounds.numpy(), starts, gains, strict=True):
                    waveform = sound[start : start + crop.size].astype(np.float32) / np.float32(_FULL_SCALE) * gain
                    waveform = resample(waveform, source_rate=self._rate, target_rate=crop.rate)
                    out[:] = np.resize(waveform, len(out)) if len(waveform) < len(out) else waveform[: len(out)]
            waveforms[name] = made[key]
        return waveforms

    def _last_start(self, clip: int, size: int) -> int:
        """Return the last sample of a clip that a crop may begin with."""
        samples = self.clips[clip].num_samples
        return samples - size if samples > size else self.shift * (samples - 1)

    def _fill(self, out: Samples, clip: int, start: int) -> None:
        """Write a clip's samples from ``start`` on, going round in one that is no longer than the room."""
        samples = self.clips[clip].num_samples
        if samples > len(out):
            self._read(clip, start, out)
            return
        self._read(clip, 0, out[:samples])
        out[:samples] = np.roll(out[:samples], -start)
        filled = samples
        while filled < len(out):
            more = min(filled, len(out) - filled)
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


class _Crops(NamedTuple):
    """What one encoder reads of a batch."""

    sounds: Tensor
    """(B, S), int16, at the clips' rate."""
    starts: Numbers
    """(B,), where crops begin: in the clips, or in ``sounds``."""
    is_cut: bool
    """``sounds`` are the longest crops, which these lie in; else they are these crops themselves."""
    size: int
    """Samples of a crop."""
    resampled: int
    """Samples at ``rate``."""
    rate: int


class _Draws:
    """Random numbers by visit: Philox's key and counter are the visit, so that nothing has to be mixed for a seed."""

    def __init__(self, seed: int) -> None:
        self._bits = np.random.Philox(key=seed)
        self._rng = np.random.Generator(self._bits)
        self._state: Any = self._bits.state

    def of(self, visit: Visit) -> np.random.Generator:
        """Return the generator of a visit, until the next call."""
        self._state["state"]["key"][1] = visit.epoch * 2**32 + visit.pair
        self._state["state"]["counter"][3] = visit.before  # drawing counts up the other end
        self._bits.state = self._state
        return self._rng


def _fresh(rows: int, size: int, dtype: torch.dtype) -> Tensor:
    return torch.empty((rows, size), dtype=dtype)
