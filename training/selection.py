"""Which clips are evaluated: a split of one or more manifests, or those that a list of ids names.

An id is a clip_id, or ``origin:origin_id`` (youtube:1vSURiEVYl8, freesound:1234): published test lists name recordings
by their site's ids, and several lists of one name are in use ("AudioCaps test" has seven). An id may name several
clips, and all of them are taken. Reads manifests, no audio.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.errors import ConfigError, ManifestError
from curation.manifest import manifest_folder, manifest_hash, read_manifest
from training.config import ManifestConfig
from training.data import Clip, listed_names, read_clips


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Clips that were chosen, and what was not found."""

    clips: list[Clip]
    clip_ids: Mapping[Path, tuple[str, ...]]
    """By manifest; one that gives no clip is not there."""
    missing_ids: tuple[str, ...] = ()
    """Of the list, in no manifest."""

    @property
    def num_templated(self) -> int:
        """Clips whose caption a template makes, as no person wrote one."""
        return sum(not clip.has_human_captions for clip in self.clips)


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """Clips with the classes that people gave them."""

    clips: list[Clip]
    labels: list[str]
    """Of each clip, as the manifest spells it."""
    folds: list[int]
    """Of each clip; -1 where the set has none."""
    classes: list[str]
    """Of the whole manifests, sorted: what a clip is to be told from, whichever clips were chosen."""
    clip_ids: Mapping[Path, tuple[str, ...]]
    missing_ids: tuple[str, ...] = ()


def choose_clips(
    manifests: Sequence[Path],
    *,
    template: str,
    split: str | None = None,
    ids: Collection[str] | None = None,
    allow_missing: bool = False,
) -> Selection:
    """Return clips with their captions, two at least.

    Args:
        manifests: Folders or files.
        template: Makes the caption of clips without human ones.
        split: Of each manifest; "test" if neither this nor ``ids`` is given.
        ids: Clips to take, of any split, or of ``split`` alone if that is given too.
        allow_missing: Leave out ids that are in no manifest.

    Raises:
        ConfigError: If a split is empty, an id is in no manifest, or one clip alone is left.
        ManifestError: If a manifest is broken, or audio is missing.
    """
    if ids is None:
        split = split or "test"
    rows, missing = choose_rows(manifests, split=split, ids=ids, allow_missing=allow_missing)
    sources = [
        ManifestConfig(manifest=str(path), splits=tuple(sorted(set(table["split"].to_pylist()))))
        for path, table in rows.items()
    ]
    wanted = {clip_id for table in rows.values() for clip_id in table["clip_id"].to_pylist()}
    clips = [clip for clip in read_clips(sources, [template]) if clip.clip_id in wanted]
    return Selection(clips=_several(clips, manifests), clip_ids=ids_of(rows), missing_ids=missing)


def choose_labelled(
    manifests: Sequence[Path],
    *,
    split: str | None = None,
    ids: Collection[str] | None = None,
    folds: Collection[int] = (),
    allow_missing: bool = False,
) -> Labelled:
    """Return clips with one label each, two at least; captions are not needed.

    Args:
        manifests: Folders or files.
        split: One alone; every one if not given.
        ids: As choose_clips.
        folds: Cross-validation folds; every one if empty.
        allow_missing: As choose_clips.

    Raises:
        ConfigError: If there is no label, or more than one to a clip; a fold is not there; or as choose_clips.
        ManifestError: As choose_clips.
    """
    whole = {path: _rows(path, None) for path in _distinct(manifests)}
    classes = sorted({label for table in whole.values() for labels in table["labels"].to_pylist() for label in labels})
    chosen, missing = choose_rows(manifests, split=split, ids=ids, allow_missing=allow_missing)
    known = {fold for table in chosen.values() for fold in table["fold"].to_pylist()} - {-1}
    if absent := sorted(set(folds) - known):
        raise ConfigError(f"{_places(manifests)}: fold {absent[0]} has no clips (there are {_listed(known)})")
    if folds:
        chosen = {
            path: table.filter(pc.is_in(table["fold"], pa.array(folds, pa.int16()))) for path, table in chosen.items()
        }
    rows = [(path, row) for path, table in chosen.items() for row in table.to_pylist()]
    _check_labels([row for _, row in rows], classes, manifests)
    clips = [_bare_clip(path, row) for path, row in rows]
    if silent := [clip for clip in clips if not clip.path.is_file()]:
        raise ManifestError(
            f"{_places(manifests)}: {len(silent)} audio files are missing, the first is {silent[0].path}; "
            "build the manifest again, or bring its audio folder"
        )
    return Labelled(
        clips=_several(clips, manifests),
        labels=[row["labels"][0] for _, row in rows],
        folds=[row["fold"] for _, row in rows],
        classes=classes,
        clip_ids=ids_of(chosen),
        missing_ids=missing,
    )


def choose_rows(
    manifests: Sequence[Path],
    *,
    split: str | None = None,
    ids: Collection[str] | None = None,
    allow_missing: bool = False,
) -> tuple[dict[Path, pa.Table], tuple[str, ...]]:
    """Return the rows of each manifest that has any, and the ids that are in none.

    Args:
        manifests: Folders or files.
        split: One alone; every one if not given.
        ids: Clips to take; all if not given.
        allow_missing: Leave out ids that are in no manifest.

    Raises:
        ConfigError: If a split is empty, or an id is in no manifest.
        ManifestError: If a manifest is broken or empty.
    """
    rows = {path: _rows(path, split) for path in _distinct(manifests)}
    _check_ids_once(rows)
    if ids is None:
        return rows, ()
    if not ids:
        raise ConfigError("the list of ids is empty")
    met = {path: matching(ids, table) for path, table in rows.items()}
    unmet = set(ids).difference(*(names for each in met.values() for names in each))
    chosen = {
        path: table.filter(pa.array([bool(names) for names in met[path]]))
        for path, table in rows.items()
        if any(met[path])
    }
    if unmet and not (allow_missing and chosen):
        advice = next((hint for table in rows.values() if (hint := _hint(unmet, table))), "")
        if chosen and not advice:
            advice = "; --allow-missing goes on without them"
        where = "it" if split is None else f"its split {split!r}"
        raise ConfigError(
            f"{_places(manifests)}: {len(unmet)} of {len(set(ids))} ids are not in {where}, the first is "
            f"{min(unmet)!r}{advice}"
        )
    return chosen, tuple(sorted(unmet))


def _distinct(manifests: Sequence[Path]) -> list[Path]:
    """Return manifests without those that are another name, or a copy, of one before."""
    return list({manifest_hash(path): path for path in reversed(manifests)}.values())[::-1]


def _check_ids_once(rows: Mapping[Path, pa.Table]) -> None:
    """Refuse a clip_id that two manifests have: it would be its own rival."""
    seen: dict[str, Path] = {}
    for path, table in rows.items():
        for clip_id in table["clip_id"].to_pylist():
            if seen.setdefault(clip_id, path) is not path:
                raise ConfigError(f"clip {clip_id!r} is in {seen[clip_id]} and in {path}; evaluate on one of them")


def ids_of(rows: Mapping[Path, pa.Table]) -> dict[Path, tuple[str, ...]]:
    """Return the clip_ids of each manifest's rows."""
    return {path: tuple(table["clip_id"].to_pylist()) for path, table in rows.items()}


def read_ids(file: Path) -> list[str]:
    """Return the ids in a file, one a line; "#" begins a comment, at a line's beginning or after a space.

    Raises:
        ConfigError: If it cannot be read, or names nothing.
    """
    try:
        ids = [name for _, name in listed_names(file)]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: {getattr(error, 'strerror', None) or error}") from error
    if not ids:
        raise ConfigError(f"{file}: the list of ids is empty; write one clip_id, or origin:origin_id, a line")
    return ids


def matching(ids: Collection[str], clips: pa.Table) -> list[set[str]]:
    """Return, for each row, those of the ids that name it: its clip_id, its origin:origin_id, or none."""
    names = set(ids)
    columns = (clips[name].to_pylist() for name in ("clip_id", "origin", "origin_id"))
    return [
        names.intersection([clip_id, f"{origin}:{origin_id}"] if origin and origin_id else [clip_id])
        for clip_id, origin, origin_id in zip(*columns, strict=True)
    ]


def _hint(unmet: Collection[str], table: pa.Table) -> str:
    """Return how an id that is the bare key of another site is to be written."""
    for origin, origin_id in zip(table["origin"].to_pylist(), table["origin_id"].to_pylist(), strict=True):
        if origin_id in unmet:
            return f"; write {origin}:{origin_id} for the id that {origin} gives a recording"
    return ""


def _rows(path: Path, split: str | None) -> pa.Table:
    """Return the rows of a manifest, or of one split of it."""
    table = read_manifest(path)
    if table.num_rows == 0:
        raise ManifestError(f"{path}: the manifest has no clips; see dropped.parquet beside it for why")
    if split is None:
        return table
    rows = table.filter(pc.equal(table["split"], split))
    if not rows.num_rows:
        raise ConfigError(
            f"{path}: split {split!r} has no clips (there are {_listed(set(table['split'].to_pylist()))})"
        )
    return rows


def _check_labels(rows: Sequence[Mapping[str, Any]], classes: Sequence[str], manifests: Sequence[Path]) -> None:
    places = _places(manifests)
    if not classes:
        raise ConfigError(
            f"{places}: no clip has a label; zero-shot classification needs a set with classes, such as one made by: "
            "wavtext5k-curate import esc50"
        )
    if len(classes) == 1:
        raise ConfigError(f"{places}: every clip is {classes[0]!r}; there must be two classes at least")
    if several := [row["clip_id"] for row in rows if len(row["labels"]) > 1]:
        raise ConfigError(
            f"{places}: {len(several)} of {len(rows)} clips have more than one label, the first is {several[0]!r}; "
            "accuracy is defined where a clip has one"
        )
    if bare := [row["clip_id"] for row in rows if not row["labels"]]:
        raise ConfigError(f"{places}: {len(bare)} of {len(rows)} clips have no label, the first is {bare[0]!r}")


def _bare_clip(path: Path, row: Mapping[str, Any]) -> Clip:
    """Return a clip without captions."""
    return Clip(
        clip_id=row["clip_id"],
        path=manifest_folder(path) / row["audio_path"],
        sha256=row["sha256"],
        num_samples=row["num_samples"],
        sample_rate=row["sample_rate"],
        captions=(),
        has_human_captions=False,
    )


def _several(clips: list[Clip], manifests: Sequence[Path]) -> list[Clip]:
    if len(clips) < 2:
        raise ConfigError(
            f"{_places(manifests)}: one clip was chosen, and one alone is always ranked first; take two at least"
        )
    return clips


def _places(manifests: Sequence[Path]) -> str:
    return ", ".join(map(str, manifests))


def _listed(values: Collection[Any]) -> str:
    return ", ".join(map(str, sorted(values))) or "none"
