"""What a run will read: clips, captions, pairs and hours of each manifest, and the steps that they make.

What training would refuse is found by the functions that would refuse it, and kept as a problem instead of ending the
plan: whoever plans a run may not have all of its data yet. Audio is not opened.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from curation.errors import WavTextError
from curation.manifest import manifest_file
from training.config import DataConfig, ManifestConfig, TrainConfig
from training.data import Clip, Pair, check_training_data, make_pairs, read_clips
from training.runlog import set_quiet
from training.sampling import EpochSampler

_IMPORTED = ("audiocaps", "clotho", "esc50", "fsd50k", "macs", "sounddescs", "wavcaps")
"""Data sets that wavtext5k-curate import reads, by the usual names of their folders."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePlan:
    """One entry of data.train or data.val."""

    role: str
    """train or val."""
    manifest: str
    splits: tuple[str, ...]
    clips: int | None
    """None, as all that follows, where it could not be read."""
    captions: int | None
    """Human ones, or those that the templates make."""
    hours: float | None
    pairs: int | None = None
    """Of train; so are visits."""
    visits: int | None = None
    """Of its pairs in an epoch, by the entry's weight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataPlan:
    """All data of a run."""

    sources: list[SourcePlan]
    steps_per_epoch: int | None
    """None where data.train could not be read, or cannot be trained on."""
    pcm_bytes: int | None
    """Of all training clips as 16-bit samples."""
    pairs: list[Pair] = field(repr=False)
    weights: list[float] = field(repr=False)
    """Of the pairs; both are empty where data.train could not be read."""
    problems: list[str]
    warnings: list[str]


def plan_data(config: TrainConfig, *, processes: int) -> DataPlan:
    """Return what a run of so many processes reads."""
    data = config.data
    problems: list[str] = []
    clips, by_train = _read(data.train, data, problems, exclude=data.exclude)
    val_clips, by_val = _read(data.val, data, problems) if data.val else ([], [])
    pairs = make_pairs(clips or (), data.captions)
    warnings: list[str] = []
    steps = None
    if clips is not None:
        try:
            warnings = check_training_data(config, clips, pairs, val_clips or (), world_size=processes)
            steps = EpochSampler(
                pairs,
                clips,
                batch_size=config.run.batch_size,
                seed=config.run.seed,
                world_size=processes,
                last_batch=data.last_batch,
                buckets_s=data.buckets_s,
            ).steps_per_epoch
        except WavTextError as error:
            problems.append(str(error))
    return DataPlan(
        sources=[_train_row(source, group, data) for source, group in zip(data.train, by_train, strict=True)]
        + [_row("val", source, group) for source, group in zip(data.val, by_val, strict=True)],
        steps_per_epoch=steps,
        pcm_bytes=None if clips is None else 2 * sum(clip.num_samples for clip in clips),
        pairs=pairs,
        weights=[clips[pair.clip].weight for pair in pairs] if clips else [],
        problems=problems,
        warnings=warnings,
    )


def _read(
    sources: Sequence[ManifestConfig], data: DataConfig, problems: list[str], *, exclude: Sequence[str] = ()
) -> tuple[list[Clip] | None, list[list[Clip] | None]]:
    """Return all clips, and those of each entry; where something is wrong, None and what can be read alone."""
    try:
        clips = read_clips(sources, data.templates, exclude=exclude)
    except WavTextError as error:
        whole = str(error)
    else:
        return clips, [[clip for clip in clips if clip.source == number] for number in range(len(sources))]
    groups: list[list[Clip] | None] = []
    before = len(problems)
    for source in sources:
        try:
            set_quiet(True)  # which names of data.exclude are met is not for one entry to say
            groups.append(read_clips([source], data.templates, exclude=exclude))
        except WavTextError as error:
            groups.append(None)
            problems.append(_how_to_make(source.manifest) or str(error))
        finally:
            set_quiet(False)
    if len(problems) == before:
        problems.append(whole)
    return None, groups


def _how_to_make(manifest: str) -> str | None:
    """Return the message for a manifest that is not there; None if it is, so that something else is wrong with it."""
    if manifest_file(Path(manifest)).is_file():
        return None
    name = Path(manifest).name
    if name in _IMPORTED:
        command = f"import {name} FOLDER"
    elif name == "wavtext5k":  # the paper's clips are those with both texts
        command = "build --raw data/raw --require title,description"
    else:
        command = "build --raw data/raw"
    return f"{manifest}: no such manifest; make it with: wavtext5k-curate {command} --out {manifest}"


def _train_row(source: ManifestConfig, clips: list[Clip] | None, data: DataConfig) -> SourcePlan:
    row = _row("train", source, clips)
    if clips is None:
        return row
    pairs, whole = len(make_pairs(clips, data.captions)), math.floor(source.weight)
    return replace(row, pairs=pairs, visits=whole * pairs + round(pairs * (source.weight - whole)))


def _row(role: str, source: ManifestConfig, clips: list[Clip] | None) -> SourcePlan:
    return SourcePlan(
        role=role,
        manifest=source.manifest,
        splits=source.splits,
        clips=None if clips is None else len(clips),
        captions=None if clips is None else sum(len(clip.captions) for clip in clips),
        hours=None if clips is None else sum(clip.duration_s for clip in clips) / 3600,
    )
