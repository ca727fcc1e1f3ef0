"""Manifest rows to batches of matching waveforms and captions.

What a visit to a pair looks like (which caption, where the crop starts, how loud) is drawn from (seed, epoch, index)
alone, and the order of an epoch from (seed, epoch): reading processes, resuming and other pairs change nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from curation.audio import read_clip, resample
from curation.errors import ConfigError, ManifestError
from curation.manifest import manifest_folder, manifest_hash, read_manifest
from curation.text import render_caption
from training.config import DataConfig, ManifestConfig
from training.tokenizer import pad

_TRAIN, _ORDER = 0, 1
"""First number of a random stream: what a visit looks like, and the order of visits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """One manifest row, as training and evaluation need it."""

    clip_id: str
    path: Path
    num_samples: int
    sample_rate: int
    captions: tuple[str, ...]
    """Human captions, or one rendered by each template."""
    has_human_captions: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A clip with the captions that one visit draws from."""

    clip: int
    """Its index."""
    captions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Matching pairs: row i of everything is one pair."""

    waveforms: dict[str, Tensor]
    """Crops (B, S) by audio encoder; encoders that read the same share one tensor."""
    input_ids: Tensor
    """(B, L)."""
    attention_mask: Tensor
    """(B, L)."""
    same_clip: Tensor
    """(B, B), True where two rows are of one clip or have one caption."""

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device; tensors shared by encoders stay shared."""
        moved = {id(tensor): tensor.to(device, non_blocking=True) for tensor in self.waveforms.values()}
        return replace(
            self,
            waveforms={name: moved[id(tensor)] for name, tensor in self.waveforms.items()},
            input_ids=self.input_ids.to(device, non_blocking=True),
            attention_mask=self.attention_mask.to(device, non_blocking=True),
            same_clip=self.same_clip.to(device, non_blocking=True),
        )


def read_clips(sources: Sequence[ManifestConfig], templates: Sequence[str]) -> list[Clip]:
    """Return the clips of manifests' splits, in the manifests' order.

    Args:
        sources: Manifests and splits.
        templates: Make the captions of clips without human ones.

    Raises:
        ManifestError: If a manifest is broken or empty, an audio file is missing, or a clip has no text.
        ConfigError: If a split has no clip, or a template does not fit.
    """
    clips: dict[str, Clip] = {}
    for source in sources:
        for clip in _of_manifest(source, templates):
            if clips.setdefault(clip.clip_id, clip).path != clip.path:
                raise ConfigError(
                    f"clip {clip.clip_id!r} is in {source.manifest} and in another manifest; each clip may be there "
                    "once: leave one manifest out, or build both from one raw folder"
                )
    return list(clips.values())


def _of_manifest(source: ManifestConfig, templates: Sequence[str]) -> list[Clip]:
    table = read_manifest(Path(source.manifest))
    if table.num_rows == 0:
        raise ManifestError(f"{source.manifest}: the manifest has no clips; see dropped.parquet beside it for why")
    folder = manifest_folder(Path(source.manifest))
    rows = [row for row in table.to_pylist() if row["split"] in source.splits]
    for split in source.splits:
        if not any(row["split"] == split for row in rows):
            known = ", ".join(sorted(set(table["split"].to_pylist())))
            raise ConfigError(f"{source.manifest}: split {split!r} has no clips (there are {known})")
    clips = [_clip(row, folder, templates, source.manifest) for row in rows]
    if missing := [clip for clip in clips if not clip.path.is_file()]:
        raise ManifestError(
            f"{source.manifest}: {len(missing)} audio files are missing, the first is {missing[0].path}; "
            "build the manifest again, or bring its audio folder"
        )
    return clips


def _clip(row: Mapping[str, Any], folder: Path, templates: Sequence[str], manifest: str) -> Clip:
    human = tuple(caption for caption in row["captions"] if caption.strip())
    captions = human or tuple(
        caption for caption in (_render(template, row) for template in templates) if caption.strip()
    )
    if not captions:
        raise ManifestError(f"{manifest}: clip {row['clip_id']!r} has no caption, no title and no description")
    return Clip(
        clip_id=row["clip_id"],
        path=folder / row["audio_path"],
        num_samples=row["num_samples"],
        sample_rate=row["sample_rate"],
        captions=captions,
        has_human_captions=bool(human),
    )


def _render(template: str, row: Mapping[str, Any]) -> str:
    try:
        return render_caption(template, title=row["title"], description=row["description"], tags=row["tags"])
    except ValueError as error:
        raise ConfigError(f"data.templates: {error}") from error


def fingerprint(config: DataConfig) -> list[dict[str, Any]]:
    """Return what identifies the data of a run: each manifest with its splits and the sha256 of its Parquet file."""
    return [
        {
            "role": role,
            "manifest": source.manifest,
            "splits": list(source.splits),
            "sha256": manifest_hash(Path(source.manifest)),
        }
        for role, sources in (("train", config.train), ("val", config.val))
        for source in sources
    ]


def make_pairs(clips: Sequence[Clip], captions: str) -> list[Pair]:
    """Return the pairs of an epoch: one a human caption ("each"), or one a clip ("one"); templates never multiply."""
    pairs = []
    for index, clip in enumerate(clips):
        if clip.has_human_captions and captions == "each":
            pairs += [Pair(clip=index, captions=(caption,)) for caption in clip.captions]
        else:
            pairs.append(Pair(clip=index, captions=clip.captions))
    return pairs


class PairDataset(Dataset[tuple[dict[str, np.ndarray], list[int], str, int]]):
    """Pairs by (epoch, index): crops for each audio encoder, token ids, the caption, the clip."""

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
            is_cached: Keep decoded clips, as 16-bit samples, which is what a manifest's FLAC holds.
        """
        self.clips, self.pairs, self.token_ids = clips, pairs, token_ids
        own = clips[0].sample_rate if clips else 0
        rates = {name: (sample_rates or {}).get(name, own) for name in clip_samples}
        self._targets = {name: (size, rates[name]) for name, size in clip_samples.items()}
        needed = {name: -(-size * own // rates[name]) for name, size in clip_samples.items()}
        self._needed = dict(sorted(needed.items(), key=lambda item: -item[1]))
        self._rate = own
        self.seed, self.gain_db, self.shift, self.is_coupled = seed, gain_db, shift, is_coupled
        self._cache: dict[int, np.ndarray] | None = {} if is_cached else None

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: tuple[int, int]) -> tuple[dict[str, np.ndarray], list[int], str, int]:
        epoch, index = key
        rng = np.random.default_rng((_TRAIN, self.seed, epoch, index))
        pair = self.pairs[index]
        caption = pair.captions[int(rng.integers(len(pair.captions)))]
        return self._crops(pair.clip, rng), self.token_ids[caption], caption, pair.clip

    def _crops(self, clip: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        gain = float(10 ** (rng.uniform(-self.gain_db, self.gain_db) / 20))
        crops: dict[str, np.ndarray] = {}
        inside: Any = None
        for name, size in self._needed.items():
            if inside is not None and self.is_coupled:
                start = int(rng.integers(len(inside) - size + 1))
                crops[name] = inside if len(inside) == size else inside[start : start + size]
            else:
                crops[name] = inside = self._crop(clip, size, rng) * np.float32(gain)
        return self._resampled(crops)

    def _resampled(self, crops: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return each encoder's crop at its rate; encoders that read the same still share one array."""
        made: dict[tuple[int, int, int], np.ndarray] = {}
        for name, crop in crops.items():
            size, rate = self._targets[name]
            key = id(crop), size, rate
            if key not in made:
                made[key] = crop if rate == self._rate else _exactly(crop, size, source_rate=self._rate, rate=rate)
        return {name: made[(id(crop), *self._targets[name])] for name, crop in crops.items()}

    def _crop(self, clip: int, size: int, rng: np.random.Generator) -> np.ndarray:
        """Return ``size`` samples: at random from a longer clip, going round in a shorter one."""
        samples = self.clips[clip].num_samples
        if samples > size:
            return self._read(clip, int(rng.integers(samples - size + 1)), size)
        whole = self._read(clip, 0, samples)
        if self.shift:
            whole = np.roll(whole, -int(rng.integers(samples)))
        return np.resize(whole, size)

    def _read(self, clip: int, start: int, size: int) -> np.ndarray:
        path = self.clips[clip].path
        if self._cache is None:
            waveform: np.ndarray = read_clip(path, start=start, num_samples=size)
        else:
            if clip not in self._cache:
                self._cache[clip] = np.rint(read_clip(path) * 32_768).astype(np.int16)
            waveform = self._cache[clip][start : start + size].astype(np.float32) / 32_768
        if len(waveform) != size:
            raise ManifestError(f"{path}: ends before its manifest says ({self.clips[clip].num_samples} samples)")
        return waveform


def _exactly(crop: np.ndarray, size: int, *, source_rate: int, rate: int) -> np.ndarray:
    """Return a crop at another rate, of exactly ``size`` samples: resampling rounds the last one up or down."""
    resampled = resample(crop.astype(np.float32), source_rate=source_rate, target_rate=rate)
    return np.resize(resampled, size) if len(resampled) < size else resampled[:size]


class EpochSampler(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, index) of one epoch: a new order every epoch, the incomplete last batch left out.

    Which pairs are left out changes with the order; the batch would have fewer negatives than the others.
    """

    def __init__(self, num_pairs: int, batch_size: int, *, seed: int) -> None:
        self.num_pairs, self.batch_size, self.seed = num_pairs, batch_size, seed
        self.epoch, self.first_batch = 0, 0

    def __len__(self) -> int:
        return self.num_pairs // self.batch_size - self.first_batch

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = np.random.default_rng((_ORDER, self.seed, self.epoch)).permutation(self.num_pairs).tolist()
        for batch in range(self.first_batch, self.num_pairs // self.batch_size):
            rows = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            yield [(self.epoch, row) for row in rows]


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


@dataclass(frozen=True)
class Collate:
    """Joins visits into a Batch."""

    pad_id: int

    def __call__(self, visits: Sequence[tuple[dict[str, np.ndarray], list[int], str, int]]) -> Batch:
        first = visits[0][0]
        stacked: dict[int, Tensor] = {}
        waveforms = {}
        for name, crop in first.items():
            if id(crop) not in stacked:
                stacked[id(crop)] = torch.from_numpy(np.stack([crops[name] for crops, _, _, _ in visits]))
            waveforms[name] = stacked[id(crop)]
        input_ids, attention_mask = pad([ids for _, ids, _, _ in visits], pad_id=self.pad_id)
        clips = np.array([clip for _, _, _, clip in visits])
        captions = np.array([caption for _, _, caption, _ in visits], dtype=object)
        same = (clips[:, None] == clips) | (captions[:, None] == captions)
        return Batch(
            waveforms=waveforms,
            input_ids=input_ids,
            attention_mask=attention_mask,
            same_clip=torch.from_numpy(same.astype(bool)),
        )
