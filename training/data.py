"""Manifest rows to clips and pairs of a clip and its captions: what a run trains on, and whether it can.

Reads manifest.parquet and lists of clips to leave out; no audio. A run remembers the sha256 of what was read, so data
that changed in between are noticed when it is resumed.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.errors import ConfigError, ManifestError
from curation.manifest import manifest_folder, manifest_hash, read_manifest
from curation.text import render_caption
from training.config import DataConfig, ManifestConfig, TrainConfig
from training.runlog import say
from training.sampling import EpochSampler


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """One manifest row, as training and evaluation need it."""

    clip_id: str
    path: Path
    sha256: str
    """Of the file."""
    num_samples: int
    sample_rate: int
    captions: tuple[str, ...]
    """Human captions, or one rendered by each template."""
    has_human_captions: bool
    source: int = 0
    """Which entry of data.train (or data.val) it came from."""
    weight: float = 1.0
    """Of that entry: how often the clip's pairs come in an epoch."""

    @property
    def duration_s(self) -> float:
        return self.num_samples / self.sample_rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A clip with the captions that one visit draws from."""

    clip: int
    """Its index."""
    captions: tuple[str, ...]


def read_clips(
    sources: Sequence[ManifestConfig], templates: Sequence[str], *, exclude: Sequence[str] = ()
) -> list[Clip]:
    """Return the clips of manifests' splits, in the manifests' order; a clip that two entries name comes once.

    Args:
        sources: Manifests and splits.
        templates: Make the captions of clips without human ones.
        exclude: Files of clips to leave out: see ``read_exclusions``. How many they left out is said.

    Raises:
        ManifestError: If a manifest is broken or empty, an audio file is missing, or a clip has no text.
        ConfigError: If a split has no clip, or none that is not excluded; a template does not fit; a list of clips to
            leave out is empty or broken; or a clip comes from two manifests, or with two weights.
    """
    excluded = dict.fromkeys(read_exclusions(exclude), False)
    left_out = 0
    clips: dict[str, Clip] = {}
    for number, source in enumerate(sources):
        rows = list(_rows(source))
        kept = [row for row in rows if not _is_excluded(row, excluded)]
        left_out += len(rows) - len(kept)
        if not kept:
            raise ConfigError(
                f"{source.manifest}: data.exclude leaves none of {len(rows)} clips of {'+'.join(source.splits)}; take "
                "the entry out of data.train, or clips out of the list"
            )
        for clip in _clips(kept, source, number, templates):
            first = clips.setdefault(clip.clip_id, clip)
            if first.path != clip.path:
                raise ConfigError(
                    f"clip {clip.clip_id!r} is in {source.manifest} and in another manifest; each clip may be there "
                    "once: leave one manifest out, or build both from one raw folder"
                )
            if first.weight != clip.weight:
                raise ConfigError(
                    f"clip {clip.clip_id!r} of {source.manifest} has weight {first.weight:g} in one entry of "
                    f"data.train and {clip.weight:g} in another; name its split once"
                )
    if exclude:
        say(f"data.exclude leaves {left_out} clips out" + _about_unmet(excluded))
    return list(clips.values())


def read_exclusions(files: Sequence[str]) -> list[str]:
    """Return the names that lists of clips to leave out hold, sorted: a clip_id or origin:origin_id each.

    One a line; "#" begins a comment, at a line's beginning or after a space.

    Raises:
        ConfigError: If a file cannot be read, names nothing, or a line is neither.
    """
    names: set[str] = set()
    for file in files:
        try:
            listed = listed_names(Path(file))
        except OSError as error:
            raise ConfigError(f"data.exclude: {file}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"data.exclude: {file}: not UTF-8 text ({error}); save it as UTF-8") from error
        found = set()
        for number, name in listed:
            if not _EXCLUDED.fullmatch(name):
                raise ConfigError(
                    f"data.exclude: {file}: line {number}: {name!r} is neither a clip_id, such as soundbible-2083, nor "
                    "origin:origin_id, such as freesound:1234"
                )
            found.add(name)
        if not found:
            raise ConfigError(f"data.exclude: {file}: names no clip; write one a line, or take the file off the list")
        names |= found
    return sorted(names)


def listed_names(file: Path) -> list[tuple[int, str]]:
    """Return what a list names, with the number of its line: one a line; "#" begins a comment, first or after a space.

    Raises:
        OSError: If the file cannot be read (UnicodeDecodeError: if it is not UTF-8).
    """
    text = file.read_text(encoding="utf-8-sig")  # a mark that Windows puts first is no part of a name
    lines = enumerate(text.splitlines(), start=1)
    return [(number, name) for number, line in lines if (name := re.sub(r"(?:^|\s)#.*", "", line).strip())]


_EXCLUDED = re.compile(r"[a-z0-9_]+(-[A-Za-z0-9][A-Za-z0-9._-]*|:\S.*)")


def _is_excluded(row: Mapping[str, Any], excluded: dict[str, bool]) -> bool:
    """Return whether a list names a row, and mark the names that do as met."""
    met = [name for name in (row["clip_id"], f"{row['origin']}:{row['origin_id']}") if name in excluded]
    for name in met:
        excluded[name] = True
    return bool(met)


def _about_unmet(excluded: Mapping[str, bool]) -> str:
    unmet = [name for name, is_met in excluded.items() if not is_met]
    if not unmet:
        return ""
    return f"; {len(unmet)} of {len(excluded)} names match no clip of data.train, the first is {unmet[0]!r}"


def _rows(source: ManifestConfig) -> Iterator[dict[str, Any]]:
    """Yield the rows of a manifest's splits."""
    table = read_manifest(Path(source.manifest))
    if table.num_rows == 0:
        raise ManifestError(f"{source.manifest}: the manifest has no clips; see dropped.parquet beside it for why")
    splits = set(table["split"].to_pylist())
    for split in source.splits:
        if split not in splits:
            known = ", ".join(sorted(splits))
            raise ConfigError(f"{source.manifest}: split {split!r} has no clips (there are {known})")
    yield from (row for row in table.to_pylist() if row["split"] in source.splits)


def _clips(
    rows: Sequence[Mapping[str, Any]], source: ManifestConfig, number: int, templates: Sequence[str]
) -> list[Clip]:
    folder = manifest_folder(Path(source.manifest))
    clips = [
        Clip(
            clip_id=row["clip_id"],
            path=folder / row["audio_path"],
            sha256=row["sha256"],
            num_samples=row["num_samples"],
            sample_rate=row["sample_rate"],
            source=number,
            weight=source.weight,
            **_captions(row, templates, source.manifest),
        )
        for row in rows
    ]
    if missing := [clip for clip in clips if not clip.path.is_file()]:
        raise ManifestError(
            f"{source.manifest}: {len(missing)} audio files are missing, the first is {missing[0].path}; "
            "build the manifest again, or bring its audio folder"
        )
    return clips


def _captions(row: Mapping[str, Any], templates: Sequence[str], manifest: str) -> dict[str, Any]:
    human = tuple(caption for caption in row["captions"] if caption.strip())
    captions = human or tuple(
        caption for caption in (_render(template, row) for template in templates) if caption.strip()
    )
    if not captions:
        raise ManifestError(f"{manifest}: clip {row['clip_id']!r} has no caption, no title and no description")
    return {"captions": captions, "has_human_captions": bool(human)}


def _render(template: str, row: Mapping[str, Any]) -> str:
    try:
        return render_caption(template, title=row["title"], description=row["description"], tags=row["tags"])
    except ValueError as error:
        raise ConfigError(f"data.templates: {error}") from error


def fingerprint(config: DataConfig) -> list[dict[str, Any]]:
    """Return what identifies the data of a run: each manifest with its splits and the sha256 of its Parquet file.

    Entries of data.train have their weight too. Where clips are left out, a last entry of role "exclude" has the
    sha256 of their sorted names, one a line, and the files that name them.
    """
    entries = [
        {
            "role": role,
            "manifest": source.manifest,
            "splits": list(source.splits),
            "sha256": manifest_hash(Path(source.manifest)),
        }
        | ({"weight": source.weight} if role == "train" else {})
        for role, sources in (("train", config.train), ("val", config.val))
        for source in sources
    ]
    if config.exclude:
        listing = "".join(f"{name}\n" for name in read_exclusions(config.exclude))
        sha256 = hashlib.sha256(listing.encode()).hexdigest()
        entries.append({"role": "exclude", "files": list(config.exclude), "sha256": sha256})
    return entries


def make_pairs(clips: Sequence[Clip], captions: str) -> list[Pair]:
    """Return the pairs of an epoch: one a human caption ("each"), or one a clip ("one"); templates never multiply."""
    pairs = []
    for index, clip in enumerate(clips):
        if clip.has_human_captions and captions == "each":
            pairs += [Pair(clip=index, captions=(caption,)) for caption in clip.captions]
        else:
            pairs.append(Pair(clip=index, captions=clip.captions))
    return pairs


def check_training_data(
    config: TrainConfig,
    clips: Sequence[Clip],
    pairs: Sequence[Pair],
    val_clips: Sequence[Clip],
    *,
    world_size: int = 1,
) -> list[str]:
    """Return warnings about data that a run can be trained on, a sentence each.

    Args:
        config: The run's settings.
        clips: Training clips.
        pairs: Of those clips.
        val_clips: What the best checkpoint is chosen by.
        world_size: Processes that share a batch.

    Raises:
        ConfigError: If nothing can be learned from the data, or they do not fill the batches that the settings ask for.
    """
    if len(pairs) < 2:
        raise ConfigError(
            f"data.train gives {len(pairs)} pair; at least 2 pairs are needed: a pair alone has no negatives"
        )
    if config.run.batch_size > len(pairs):
        raise ConfigError(
            f"run.batch_size={config.run.batch_size} is larger than the data set: {len(pairs)} pairs; "
            f"set run.batch_size={len(pairs)} or less"
        )
    sampler = EpochSampler(
        pairs,
        clips,
        batch_size=config.run.batch_size,
        seed=config.run.seed,
        world_size=world_size,
        last_batch=config.data.last_batch,
        buckets_s=config.data.buckets_s,
    )
    warnings = [*sampler.notes, *_about_captions(pairs, is_masked=config.loss.mask_same_clip)]
    if shared := sorted({clip.clip_id for clip in clips} & {clip.clip_id for clip in val_clips}):
        warnings.append(
            f"{len(shared)} of {len(val_clips)} val clips are also training clips, the first is "
            f"{shared[0]!r}; their scores say nothing about new sounds"
        )
    return warnings


def _about_captions(pairs: Sequence[Pair], *, is_masked: bool) -> Iterator[str]:
    counts: Counter[str] = Counter()
    for pair in pairs:
        counts.update(set(pair.captions))
    caption, most = counts.most_common(1)[0]
    shown = caption if len(caption) <= 60 else caption[:57] + "..."
    if len({frozenset(pair.captions) for pair in pairs}) == 1:  # several templates make several of one text
        raise ConfigError(
            f"all {len(pairs)} pairs of data.train have one caption, {shown!r}: nothing can be learned from it; look "
            "at data.templates and at the manifest's captions, titles and descriptions"
        )
    if 2 * most > len(pairs):
        yield f"{most} of {len(pairs)} pairs have the caption {shown!r}: " + (
            "each has few negatives left (loss.mask_same_clip); look at data.templates"
            if is_masked
            else "in the loss they are each other's negatives; set loss.mask_same_clip=true, or look at data.templates"
        )
