"""Entries to a manifest: the whole of ``wavtext5k-curate build`` and ``import``.

Writes ``<out>/manifest.parquet``, ``dropped.parquet``, ``flags.parquet``, ``fingerprints.parquet``,
``statistics.json`` and ``audio/``. Everything but the audio is decided anew on every run, from entries and the journal
of finished clips: that is cheap, and no second record of what is up to date can go stale.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crawler.items import address_key
from curation.arrow_tables import parquet_bytes, table_of
from curation.clips import WORK_FOLDER, ClipTask, finish, recall
from curation.cluster import check_address
from curation.duplicates import duplicate_groups, duplicate_pairs, find_duplicates
from curation.engine import WorkerDied, available_cores, run_tasks
from curation.entries import Collection, Entry
from curation.errors import ConfigError, ManifestError
from curation.filters import Drop, DropReason, Limits, RecordRules, check_record
from curation.fingerprints import find_near_same
from curation.flac import Bits
from curation.flags import flag_clips
from curation.folder import (
    check_place,
    claim_folder,
    publish,
    retract_manifest,
    tidy,
    write_refused,
)
from curation.journal import Sound
from curation.manifest import (
    DROPPED_FILE,
    FINGERPRINTS_FILE,
    FINGERPRINTS_SCHEMA,
    FLAGS_FILE,
    FLAGS_SCHEMA,
    MANIFEST_FILE,
    STATISTICS_FILE,
    dropped_table,
    manifest_table,
    read_clip_ids,
)
from curation.records import check_crawls, read_raw, source_folders
from curation.rows import dropped_row, manifest_row
from curation.splits import SplitFractions, split_of
from curation.statistics import count_manifest
from curation.storage import is_local, map_reads, sizes_in

Progress = Callable[[int, int, int], None]

_MOST_WORKERS = 64  # or one a core: more processes only take memory from each other


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """What a build may be told."""

    rules: RecordRules = field(default_factory=RecordRules)
    limits: Limits = field(default_factory=Limits)
    fractions: SplitFractions = field(default_factory=SplitFractions)
    bits: Bits = 16
    """Of the FLAC files: 16 or 24."""
    min_kept: int = 1
    """A build that keeps fewer clips fails and publishes nothing."""
    max_crawl_failed: float | None = None
    """Share of a crawl's clips that may have failed; None: any."""
    workers: int = field(default_factory=available_cores)
    """Processes on this machine; 0: this one."""
    scheduler: str = ""
    """Address of a Dask scheduler, whose workers then do the work: tcp://host:8786."""
    overwrite: bool = False
    """Also build in a folder that something else made."""

    def __post_init__(self) -> None:
        if self.max_crawl_failed is not None and not 0 <= self.max_crawl_failed <= 1:
            raise ConfigError(f"max_crawl_failed={self.max_crawl_failed} must be between 0 and 1")
        if self.scheduler:
            check_address(self.scheduler)
        if self.bits not in (16, 24):
            raise ConfigError(f"bits={self.bits} must be 16 or 24")


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildReport:
    """What a build did."""

    statistics: dict[str, Any]
    """The content of statistics.json."""
    worked: int
    """Clips whose source was read in this run; the rest was finished before."""
    is_new: bool
    """False: the folder was up to date."""
    gone: int
    """Clips of the manifest that stood there before which are not in this one."""
    unmatched_opt_outs: int
    """Lines of the opt-out list that name no record."""
    missing: Sequence[str]
    """The audio files that are not there, by the drops' details; the first few."""


def build(
    raw: Path,
    out: Path,
    *,
    options: BuildOptions | None = None,
    progress: Progress = lambda done, total, dropped: None,
) -> BuildReport:
    """Bring a folder's manifest up to date with the raw records; finished clips are not worked on again.

    Args:
        raw: Holds one folder a source, as ``crawler.items`` describes it.
        out: The manifest's folder.
        options: Defaults are for a whole crawl.
        progress: Called with clips done, clips to do, and how many of the done ones were dropped.

    Raises:
        ManifestError: If a record is broken, a crawl failed too often, or fewer than min_kept clips remain.
        ConfigError: If out is not a folder to build in.
        OSError: If the disk is full; run again to go on.
    """
    options = options or BuildOptions()
    check_place(out, source=raw, parts=source_folders(raw))
    collection = read_raw(raw)
    if options.max_crawl_failed is not None:
        check_crawls(raw, options.max_crawl_failed)
    return curate(collection, out, made_by="build", options=options, progress=progress)


def curate(
    collection: Collection,
    out: Path,
    *,
    made_by: str,
    options: BuildOptions | None = None,
    progress: Progress = lambda done, total, dropped: None,
) -> BuildReport:
    """Bring a folder's manifest up to date with a collection; finished clips are not worked on again.

    Args:
        collection: What is to be curated.
        out: The manifest's folder.
        made_by: The command that fills the folder, "build" or "import clotho".
        options, progress: As for build.

    Raises:
        ManifestError: If two entries share a clip_id, or fewer than min_kept clips remain.
        ConfigError: If out holds what something else made.
        OSError: If the disk is full; run again to go on.
    """
    options = options or BuildOptions()
    entries = _by_clip_id(collection.entries)
    with claim_folder(out, made_by=made_by, overwrite=options.overwrite):
        _check_case(entries, out)
        earlier = _clips_before(out)
        drops = _unwanted(entries, options.rules)
        tasks = [
            _task(collection.root, out, entry, clip_id, options)
            for clip_id, entry in entries.items()
            if clip_id not in drops
        ]
        outcomes, worked = _listen(tasks, options, progress)
        sounds = {clip_id: outcome for clip_id, outcome in outcomes.items() if isinstance(outcome, Sound)}
        drops |= {clip_id: outcome for clip_id, outcome in outcomes.items() if isinstance(outcome, Drop)}
        if not collection.keep_duplicates:
            duplicates = find_duplicates(sounds)
            drops |= duplicates
            sounds = {clip_id: sound for clip_id, sound in sounds.items() if clip_id not in duplicates}
        worked += _restore_audio(tasks, sounds, options)

        tables = _tables(entries, sounds, drops, out=out, fractions=options.fractions)
        contents = {name: parquet_bytes(table) for name, table in tables.items()}
        if len(sounds) < options.min_kept:
            raise _too_few(tables, options.min_kept, out=out, table=write_refused(out, contents[DROPPED_FILE]))
        statistics = count_manifest(
            tables[MANIFEST_FILE], tables[DROPPED_FILE], flags=tables[FLAGS_FILE], options=_deciding(options)
        )
        contents[STATISTICS_FILE] = (json.dumps(statistics, ensure_ascii=False, indent=1) + "\n").encode()
        is_new = publish(out, contents)
        tidy(out, clips=sounds, known=entries)
        return BuildReport(
            statistics=statistics,
            worked=worked,
            is_new=is_new,
            gone=len(earlier - sounds.keys()),
            unmatched_opt_outs=_unmatched(entries, options.rules.opted_out),
            missing=[drop.detail for _, drop in sorted(drops.items()) if drop.reason is DropReason.MISSING_AUDIO][:5],
        )


def _by_clip_id(entries: Sequence[Entry]) -> dict[str, Entry]:
    by_id: dict[str, Entry] = {}
    for entry in entries:
        other = by_id.setdefault(entry.clip_id, entry)
        if other is not entry:
            raise ManifestError(
                f"two clips of {entry.source} are both {entry.clip_id}: source_id {other.source_id!r} and "
                f"{entry.source_id!r}; give each clip a key of its own"
            )
    return dict(sorted(by_id.items()))


def _check_case(entries: Mapping[str, Entry], out: Path) -> None:
    """Refuse clip_ids that differ in case alone where the disk takes them for one file."""
    if not (out / WORK_FOLDER.upper()).exists():
        return
    seen: dict[str, str] = {}
    for clip_id in entries:
        other = seen.setdefault(clip_id.casefold(), clip_id)
        if other != clip_id:
            raise ManifestError(
                f"{other} and {clip_id} would be one file on this disk, which does not tell upper from lower case; "
                "name another disk with --out"
            )


def _clips_before(out: Path) -> set[str]:
    try:
        return set(read_clip_ids(out))
    except ManifestError:  # none yet, or one of another version
        return set()


def _unmatched(entries: Mapping[str, Entry], opted_out: frozenset[str]) -> int:
    names = (map(address_key, _names(clip_id, entry)) for clip_id, entry in entries.items())
    return len(opted_out.difference(*names))


def _names(clip_id: str, entry: Entry) -> tuple[str, str, str]:
    """Return what an opt-out may call an entry."""
    return clip_id, entry.page_url, entry.audio_url


def _unwanted(entries: Mapping[str, Entry], rules: RecordRules) -> dict[str, Drop]:
    drops = {}
    for clip_id, entry in entries.items():
        drop = check_record(
            rules,
            names=_names(clip_id, entry),
            title=entry.title,
            description=entry.description,
            license_id=entry.license,
            has_other_text=bool(entry.captions or entry.labels),
        )
        if drop is not None:
            drops[clip_id] = drop
    return drops


def _task(root: Path | None, out: Path, entry: Entry, clip_id: str, options: BuildOptions) -> ClipTask:
    out = out.absolute()  # workers have working folders of their own
    return ClipTask(
        clip_id=clip_id,
        source_file=root.absolute() / entry.audio_file if root is not None and entry.audio_file else None,
        shown=entry.audio_file,
        expected_bytes=entry.expected_bytes,
        expected_sha256=entry.expected_sha256,
        out=out,
        manifest=out / MANIFEST_FILE,
        limits=options.limits,
        bits=options.bits,
    )


def _listen(tasks: list[ClipTask], options: BuildOptions, progress: Progress) -> tuple[dict[str, Sound | Drop], int]:
    """Return what came out of each clip's audio, finished before or now, and for how many now."""
    recalled = map_reads(recall, tasks, is_remote=bool(tasks) and not is_local(tasks[0].out))
    outcomes = {task.clip_id: found for task, found in zip(tasks, recalled, strict=True) if found is not None}
    pending = [task for task in tasks if task.clip_id not in outcomes]
    dropped = 0
    with contextlib.closing(_run(pending, options)) as results:
        for done, (task, outcome) in enumerate(results, start=1):
            outcomes[task.clip_id] = _or_drop(task, outcome)
            dropped += isinstance(outcomes[task.clip_id], Drop)
            progress(done, len(pending), dropped)
    return outcomes, len(pending)


def _restore_audio(tasks: list[ClipTask], sounds: dict[str, Sound], options: BuildOptions) -> int:
    """Write the FLACs of finished clips that lack one: lost, or clips that were duplicates until now."""
    there = sizes_in(tasks[0].flac.parent) if tasks else {}
    lost = [
        task
        for task in tasks
        if task.clip_id in sounds and there.get(task.flac.name) != sounds[task.clip_id].flac_bytes
    ]
    if lost:
        retract_manifest(lost[0].out)
    for task, outcome in _run(lost, options):
        if not isinstance(outcome, Sound) or outcome.pcm_sha256 != sounds[task.clip_id].pcm_sha256:
            raise ManifestError(f"{task.source_file}: changed while it was being curated; run the same command again")
        sounds[task.clip_id] = outcome  # what a journal said of the lost file may have been edited
    return len(lost)


def _run(tasks: list[ClipTask], options: BuildOptions) -> Generator[tuple[ClipTask, Sound | Drop | WorkerDied]]:
    workers = _useful(options.workers, tasks)
    yield from run_tasks(finish, tasks, workers=workers, scheduler=options.scheduler)


def _useful(workers: int, tasks: list[ClipTask]) -> int:
    return min(workers, len(tasks), max(available_cores(), _MOST_WORKERS))


def _or_drop(task: ClipTask, outcome: Sound | Drop | WorkerDied) -> Sound | Drop:
    if isinstance(outcome, WorkerDied):
        return Drop(DropReason.UNDECODABLE, f"{task.shown}: decoding it ends the worker process")
    return outcome


def _tables(
    entries: Mapping[str, Entry],
    sounds: Mapping[str, Sound],
    drops: Mapping[str, Drop],
    *,
    out: Path,
    fractions: SplitFractions,
) -> dict[str, Any]:
    """Return the tables of a build by the name of their file."""
    if len(sounds) + len(drops) != len(entries):
        raise RuntimeError(f"{len(entries)} entries in, {len(sounds)} clips and {len(drops)} drops out")
    clip_ids = sorted(sounds)
    near = find_near_same({clip_id: sounds[clip_id].fingerprint for clip_id in clip_ids})
    pairs = [(pair.clip_id, pair.other_clip_id) for pair in near]
    pairs += duplicate_pairs(sounds)
    groups = duplicate_groups(clip_ids, pairs)
    sides = duplicate_groups(clip_ids, [*pairs, *_same_recordings(clip_ids, entries)])
    published: dict[str, str] = {}
    for clip_id in clip_ids:
        if entries[clip_id].split:
            published.setdefault(sides[clip_id], entries[clip_id].split)

    def split(clip_id: str) -> str:
        side = sides[clip_id]
        return entries[clip_id].split or published.get(side) or split_of(side, fractions)

    rows = (
        manifest_row(
            entries[clip_id],
            sounds[clip_id],
            duplicate_group=groups[clip_id],
            split=split(clip_id),
        )
        for clip_id in clip_ids
    )
    flags = flag_clips({clip_id: entries[clip_id] for clip_id in clip_ids}, near)
    prints = ({"clip_id": clip_id, "fingerprint": sounds[clip_id].fingerprint} for clip_id in clip_ids)
    dropped = (dropped_row(entries[clip_id], drop) for clip_id, drop in drops.items())
    return {
        MANIFEST_FILE: manifest_table(rows, file=out / MANIFEST_FILE),
        DROPPED_FILE: dropped_table(dropped, file=out / DROPPED_FILE),
        FLAGS_FILE: table_of(flags, FLAGS_SCHEMA, file=out / FLAGS_FILE),
        FINGERPRINTS_FILE: table_of(prints, FINGERPRINTS_SCHEMA, file=out / FINGERPRINTS_FILE),
    }


def _same_recordings(clip_ids: Sequence[str], entries: Mapping[str, Entry]) -> list[tuple[str, str]]:
    """Return pairs of clips that are parts of one recording, each with the first: a split between them would leak."""
    first: dict[tuple[str, str], str] = {}
    pairs = []
    for clip_id in clip_ids:
        entry = entries[clip_id]
        if entry.origin_id:
            pairs.append((first.setdefault((entry.origin, entry.origin_id), clip_id), clip_id))
    return pairs


def _too_few(tables: Mapping[str, Any], min_kept: int, *, out: Path, table: Path) -> ManifestError:
    kept, dropped = len(tables[MANIFEST_FILE]), tables[DROPPED_FILE].to_pylist()
    first = f"; the first: {dropped[0]['clip_id']}: {dropped[0]['reason']}: {dropped[0]['detail']}" if dropped else ""
    stands = (out / MANIFEST_FILE).is_file()
    written = f"{out / MANIFEST_FILE} still is that of an earlier build" if stands else "no manifest written"
    return ManifestError(
        f"{kept} of {kept + len(dropped)} records kept, --min-kept asks for {min_kept}; "
        f"{written}; every drop is in {table}{first}"
    )


def _deciding(options: BuildOptions) -> dict[str, Any]:
    """Return the options that decide what comes out, as statistics.json shows them."""
    return {
        "require": list(options.rules.require),
        "exclude_licenses": list(options.rules.exclude_licenses),
        "opted_out": len(options.rules.opted_out),
        **dataclasses.asdict(options.limits),
        "bits": options.bits,
        "val_fraction": options.fractions.val,
        "test_fraction": options.fractions.test,
    }
