"""Raw records to a manifest: the whole of ``wavtext5k-curate build``.

Reads ``<raw>/<source>/``; writes ``<out>/manifest.parquet``, ``dropped.parquet``, ``statistics.json`` and ``audio/``.
Everything but the audio is decided anew on every run, from records and the journal of finished clips: that is cheap,
and no second record of what is up to date can go stale.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crawler.items import CrawlRecord, address_key
from curation.clips import ClipTask, Sound, finish, has_flac, recall
from curation.duplicates import duplicate_groups, find_duplicates
from curation.engine import WorkerDied, available_cores, run_tasks
from curation.errors import ConfigError, ManifestError
from curation.filters import Drop, DropReason, Limits, RecordRules, check_record
from curation.folder import claim_folder, publish, retract_manifest, tidy, write_refused
from curation.manifest import DROPPED_FILE, MANIFEST_FILE, dropped_bytes, manifest_bytes, read_clip_ids
from curation.records import check_crawls, read_records
from curation.rows import CleanText, clean_record, dropped_row, manifest_row
from curation.splits import SplitFractions, split_of
from curation.statistics import count_build

Progress = Callable[[int, int, int], None]

_MOST_WORKERS = 64  # or one a core: more processes only take memory from each other


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """What a build may be told."""

    rules: RecordRules = field(default_factory=RecordRules)
    limits: Limits = field(default_factory=Limits)
    fractions: SplitFractions = field(default_factory=SplitFractions)
    min_kept: int = 1
    """A build that keeps fewer clips fails and publishes nothing."""
    max_crawl_failed: float | None = None
    """Share of a crawl's clips that may have failed; None: any."""
    workers: int = field(default_factory=available_cores)
    """Processes; 0: this one."""
    overwrite: bool = False
    """Also build in a folder that something else made."""

    def __post_init__(self) -> None:
        if self.max_crawl_failed is not None and not 0 <= self.max_crawl_failed <= 1:
            raise ConfigError(f"max_crawl_failed={self.max_crawl_failed} must be between 0 and 1")


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
    records = read_records(raw)
    if options.max_crawl_failed is not None:
        check_crawls(raw, options.max_crawl_failed)
    with claim_folder(out, raw=raw, overwrite=options.overwrite):
        earlier = _clips_before(out)
        texts = {clip_id: clean_record(record) for clip_id, record in records.items()}
        drops = _unwanted(records, texts, options.rules)
        tasks = [
            _task(raw, out, record, clip_id, options) for clip_id, record in records.items() if clip_id not in drops
        ]

        outcomes, worked = _listen(tasks, options.workers, progress)
        sounds = {clip_id: outcome for clip_id, outcome in outcomes.items() if isinstance(outcome, Sound)}
        drops |= {clip_id: outcome for clip_id, outcome in outcomes.items() if isinstance(outcome, Drop)}
        duplicates = find_duplicates(sounds)
        drops |= duplicates
        sounds = {clip_id: sound for clip_id, sound in sounds.items() if clip_id not in duplicates}
        worked += _restore_audio(tasks, sounds, options.workers)

        rows = _rows(records, texts, sounds, options.fractions)
        dropped = [dropped_row(records[clip_id], clip_id, drop) for clip_id, drop in sorted(drops.items())]
        if len(rows) + len(dropped) != len(records):
            raise RuntimeError(f"{len(records)} records in, {len(rows)} clips and {len(dropped)} drops out")
        drop_table = dropped_bytes(dropped, file=out / DROPPED_FILE)
        if len(rows) < options.min_kept:
            raise _too_few(rows, dropped, options.min_kept, out=out, table=write_refused(out, drop_table))
        statistics = count_build(rows, dropped, options=_deciding(options))
        is_new = publish(
            out,
            manifest=manifest_bytes(rows, file=out / MANIFEST_FILE),
            dropped=drop_table,
            statistics=(json.dumps(statistics, ensure_ascii=False, indent=1) + "\n").encode(),
        )
        tidy(out, clips=sounds, known=records)
        return BuildReport(
            statistics=statistics,
            worked=worked,
            is_new=is_new,
            gone=len(earlier - sounds.keys()),
            unmatched_opt_outs=_unmatched(records, options.rules.opted_out),
        )


def _clips_before(out: Path) -> set[str]:
    try:
        return set(read_clip_ids(out))
    except ManifestError:  # none yet, or one of another version
        return set()


def _unmatched(records: Mapping[str, CrawlRecord], opted_out: frozenset[str]) -> int:
    names = (map(address_key, _names(clip_id, record)) for clip_id, record in records.items())
    return len(opted_out.difference(*names))


def _names(clip_id: str, record: CrawlRecord) -> tuple[str, str, str]:
    """Return what an opt-out may call a record."""
    return clip_id, record.page_url, record.audio_url


def _unwanted(
    records: Mapping[str, CrawlRecord], texts: Mapping[str, CleanText], rules: RecordRules
) -> dict[str, Drop]:
    drops = {}
    for clip_id, record in records.items():
        text, names = texts[clip_id], _names(clip_id, record)
        drop = check_record(
            rules, names=names, title=text.title, description=text.description, license_id=record.license
        )
        if drop is not None:
            drops[clip_id] = drop
    return drops


def _task(raw: Path, out: Path, record: CrawlRecord, clip_id: str, options: BuildOptions) -> ClipTask:
    return ClipTask(
        clip_id=clip_id,
        source_file=raw / record.source / record.audio_file,
        shown=f"{record.source}/{record.audio_file}",
        expected_bytes=record.bytes,
        expected_sha256=record.sha256,
        out=out,
        manifest=out / MANIFEST_FILE,
        limits=options.limits,
    )


def _listen(tasks: list[ClipTask], workers: int, progress: Progress) -> tuple[dict[str, Sound | Drop], int]:
    """Return what came out of each clip's audio, finished before or now, and for how many now."""
    outcomes = {task.clip_id: recalled for task in tasks if (recalled := recall(task)) is not None}
    pending = [task for task in tasks if task.clip_id not in outcomes]
    dropped = 0
    for done, (task, outcome) in enumerate(run_tasks(finish, pending, workers=_useful(workers, pending)), start=1):
        outcomes[task.clip_id] = _or_drop(task, outcome)
        dropped += isinstance(outcomes[task.clip_id], Drop)
        progress(done, len(pending), dropped)
    return outcomes, len(pending)


def _restore_audio(tasks: list[ClipTask], sounds: dict[str, Sound], workers: int) -> int:
    """Write the FLACs of finished clips that lack one: lost, or clips that were duplicates until now."""
    lost = [task for task in tasks if task.clip_id in sounds and not has_flac(task, sounds[task.clip_id])]
    if lost:
        retract_manifest(lost[0].out)
    for task, outcome in run_tasks(finish, lost, workers=_useful(workers, lost)):
        if outcome != sounds[task.clip_id]:
            raise ManifestError(f"{task.source_file}: changed while it was being curated; run the same command again")
    return len(lost)


def _useful(workers: int, tasks: list[ClipTask]) -> int:
    return min(workers, len(tasks), max(available_cores(), _MOST_WORKERS))


def _or_drop(task: ClipTask, outcome: Sound | Drop | WorkerDied) -> Sound | Drop:
    if isinstance(outcome, WorkerDied):
        return Drop(DropReason.UNDECODABLE, f"{task.shown}: decoding it ends the worker process")
    return outcome


def _rows(
    records: Mapping[str, CrawlRecord],
    texts: Mapping[str, CleanText],
    sounds: Mapping[str, Sound],
    fractions: SplitFractions,
) -> list[dict[str, Any]]:
    groups = duplicate_groups(sounds)
    return [
        manifest_row(records[clip_id], texts[clip_id], sounds[clip_id], clip_id=clip_id)
        | {"duplicate_group": groups[clip_id], "split": split_of(groups[clip_id], fractions)}
        for clip_id in sorted(sounds)
    ]


def _too_few(
    rows: list[dict[str, Any]], dropped: list[dict[str, Any]], min_kept: int, *, out: Path, table: Path
) -> ManifestError:
    first = f"; the first: {dropped[0]['clip_id']}: {dropped[0]['reason']}: {dropped[0]['detail']}" if dropped else ""
    stands = (out / MANIFEST_FILE).is_file()
    written = f"{out / MANIFEST_FILE} still is that of an earlier build" if stands else "no manifest written"
    return ManifestError(
        f"{len(rows)} of {len(rows) + len(dropped)} records kept, --min-kept asks for {min_kept}; "
        f"{written}; every drop is in {table}{first}"
    )


def _deciding(options: BuildOptions) -> dict[str, Any]:
    """Return the options that decide what comes out, as statistics.json shows them."""
    return {
        "require": list(options.rules.require),
        "exclude_licenses": list(options.rules.exclude_licenses),
        "opted_out": len(options.rules.opted_out),
        **dataclasses.asdict(options.limits),
        "val_fraction": options.fractions.val,
        "test_fraction": options.fractions.test,
    }
