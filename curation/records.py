"""Reads what crawls left in the raw folder: records, as entries to curate, and each crawl's own report; opens no audio.

A record that breaks the raw layout stops the build: the crawler writes records whole or not at all, so a broken one
means another version or an edited file, and dropping it would hide that.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crawler.items import CRAWL_REPORT, CrawlRecord, RecordError
from crawler.items import read_opt_outs as opt_out_lines
from curation.entries import Collection, Entry
from curation.errors import ConfigError, ManifestError
from curation.storage import is_local, map_reads
from curation.text import clean_tags, clean_text, valid_text


@dataclass(frozen=True, slots=True, kw_only=True)
class CrawlVerdict:
    """What one crawl's report says."""

    source: str
    asked: int
    failed: dict[str, int]
    """Clips by reason."""
    finish_reason: str
    """"finished", or what kept the crawl from its end: running (or killed), unreachable, no_space, shutdown, ..."""
    error: str = ""
    """What stopped the crawl as a whole; "" if nothing did."""

    @property
    def is_whole(self) -> bool:
        """Whether the crawl came to its end and met clips on the way: else its share of failures says nothing."""
        return self.finish_reason == "finished" and not self.error and self.asked > 0

    @property
    def failed_fraction(self) -> float:
        """Failed clips over asked ones; 0 where nothing was asked."""
        return sum(self.failed.values()) / self.asked if self.asked else 0.0

    def __str__(self) -> str:
        said = []
        if self.finish_reason != "finished" or self.error:
            said.append(f"did not finish ({self.finish_reason})" + (f": {self.error}" if self.error else ""))
        elif not self.asked:
            said.append("met no clip")
        if self.asked:
            reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(self.failed.items()) if count)
            counts = f"{sum(self.failed.values())} of {self.asked} clips failed"
            said.append(counts + (f" ({reasons})" if reasons else ""))
        return f"{self.source}: {'; '.join(said)}"


def clip_id_of(record: CrawlRecord) -> str:
    """Return "<source>-<source_id>"; unique, since a source has no "-" in it."""
    return f"{record.source}-{record.source_id}"


def source_folders(raw: Path) -> list[Path]:
    """Return the folders ``<raw>/<source>`` that hold records, by name.

    Raises:
        ManifestError: If there is none.
    """
    if not raw.is_dir():
        raise ManifestError(f"{raw}: no such folder; crawl first: wavtext5k-crawl soundbible --raw {raw}")
    folders = sorted(path for path in raw.iterdir() if (path / "records").is_dir())
    if not folders:
        hint = f"; name the folder above it: --raw {raw.parent}" if (raw / "records").is_dir() else ""
        raise ManifestError(f"{raw}: no records: looked for <source>/records/*.json{hint}")
    return folders


def read_raw(raw: Path) -> Collection:
    """Return every record under the raw folder as an entry to curate, in the order of clip_id.

    Raises:
        ManifestError: If there is no source, or a record breaks the raw layout; names the file.
    """
    return Collection(entries=[_entry(record) for record in read_records(raw).values()], root=raw)


def read_records(raw: Path) -> dict[str, CrawlRecord]:
    """Return every record under the raw folder by clip_id, in the order of clip_id.

    Raises:
        ManifestError: If there is no source, or a record breaks the raw layout; names the file.
    """
    files = [file for folder in source_folders(raw) for file in (folder / "records").glob("*.json")]
    files = [file for file in files if not file.name.startswith(".")]  # what macOS and editors leave beside a file
    records = {clip_id_of(record): record for record in map_reads(_read_record, files, is_remote=not is_local(raw))}
    return dict(sorted(records.items()))


def read_verdicts(raw: Path) -> list[CrawlVerdict]:
    """Return what the crawl reports under the raw folder say, by source; a source without a report is left out.

    Raises:
        ManifestError: If a report cannot be read; names the file.
    """
    files = [folder / CRAWL_REPORT for folder in source_folders(raw)]
    return [_read_verdict(file) for file in files if file.is_file()]


def read_opt_outs(file: Path) -> frozenset[str]:
    """Return the clip_ids and addresses of an opt-out list: one a line, "#" begins a comment line.

    Raises:
        ConfigError: If it is not UTF-8 text; names the file.
    """
    try:
        return opt_out_lines(file)
    except RecordError as error:
        raise ConfigError(str(error)) from error


def check_crawls(raw: Path, max_failed: float) -> None:
    """Refuse crawls that did not finish, or of which more than a share failed.

    Raises:
        ManifestError: If a crawl failed too often, did not finish, or left no report to judge by.
    """
    verdicts = {verdict.source: verdict for verdict in read_verdicts(raw)}
    for folder in source_folders(raw):
        verdict = verdicts.get(folder.name)
        if verdict is None:
            raise ManifestError(
                f"{folder / CRAWL_REPORT}: no such file, so --max-crawl-failed cannot be judged; crawl again"
            )
        if not verdict.is_whole:
            raise ManifestError(
                f"{folder / CRAWL_REPORT}: {verdict}, so --max-crawl-failed cannot be judged; "
                "let the crawl end, or crawl again"
            )
        if verdict.failed_fraction > max_failed:
            raise ManifestError(
                f"{folder / CRAWL_REPORT}: {verdict}, more than --max-crawl-failed {max_failed:g} allows; "
                "crawl again, or allow more"
            )


def _entry(record: CrawlRecord) -> Entry:
    return Entry(
        source=record.source,
        source_id=record.source_id,
        origin=record.source,
        origin_id=record.source_id,
        page_url=valid_text(record.page_url),
        audio_url=valid_text(record.audio_url),
        retrieved_at=valid_text(record.retrieved_at),
        title=clean_text(record.title),
        description=clean_text(record.description),
        tags=tuple(clean_tags(record.tags)),
        author=clean_text(record.author),
        license=record.license,
        license_url=valid_text(record.license_url),
        audio_file=f"{record.source}/{record.audio_file}",
        expected_sha256=record.sha256,
        expected_bytes=record.bytes,
    )


def _read_record(file: Path) -> CrawlRecord:
    try:
        record = CrawlRecord.from_json(file.read_text(encoding="utf-8"))
    except (RecordError, UnicodeDecodeError) as error:
        raise ManifestError(f"{file}: {error}; crawl that clip again, or remove the file") from error
    expected = (file.parent.parent.name, file.stem)
    if (record.source, record.source_id) != expected:
        raise ManifestError(
            f"{file}: the record is of source {record.source!r} and source_id {record.source_id!r}, "
            f"its place says {expected[0]!r} and {expected[1]!r}"
        )
    return record


def _read_verdict(file: Path) -> CrawlVerdict:
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
        failed = {str(reason): _count(count) for reason, count in report["failed"].items()}
        verdict = CrawlVerdict(
            source=file.parent.name,
            asked=_count(report["asked"]),
            failed=failed,
            finish_reason=_line(report["finish_reason"]),
            error=_line(report.get("error", "")),
        )
        if sum(failed.values()) > verdict.asked:
            raise ValueError(f"{sum(failed.values())} clips failed, {verdict.asked} were asked")
        return verdict
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ManifestError(f"{file}: not a crawl report ({error!r}); crawl again") from error


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"a count of clips must be a whole number, 0 or more, got {value!r}")
    return value


def _line(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"finish_reason and error must be strings, got {value!r}")
    return " ".join(value.split())
