"""Reads what crawls left in the raw folder: records, and each crawl's own report; opens no audio.

A record that breaks the raw layout stops the build: the crawler writes records whole or not at all, so a broken one
means another version or an edited file, and dropping it would hide that.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from crawler.items import CRAWL_REPORT, CrawlRecord, RecordError
from curation.errors import ManifestError


@dataclass(frozen=True, slots=True, kw_only=True)
class CrawlVerdict:
    """What one crawl's report says."""

    source: str
    asked: int
    failed: dict[str, int]
    """Clips by reason."""

    @property
    def failed_fraction(self) -> float:
        """Failed clips over asked ones; 0 where nothing was asked."""
        return sum(self.failed.values()) / self.asked if self.asked else 0.0

    def __str__(self) -> str:
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(self.failed.items()) if count)
        return f"{self.source}: {sum(self.failed.values())} of {self.asked} clips failed" + (
            f" ({reasons})" if reasons else ""
        )


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


def read_records(raw: Path) -> dict[str, CrawlRecord]:
    """Return every record under the raw folder by clip_id, in the order of clip_id.

    Raises:
        ManifestError: If there is no source, or a record breaks the raw layout; names the file.
    """
    files = [file for folder in source_folders(raw) for file in (folder / "records").glob("*.json")]
    records = {clip_id_of(record): record for record in map(_read_record, files)}
    return dict(sorted(records.items()))


def read_verdicts(raw: Path) -> list[CrawlVerdict]:
    """Return what the crawl reports under the raw folder say, by source; a source without a report is left out.

    Raises:
        ManifestError: If a report cannot be read; names the file.
    """
    files = [folder / CRAWL_REPORT for folder in source_folders(raw)]
    return [_read_verdict(file) for file in files if file.is_file()]


def read_opt_outs(file: Path) -> frozenset[str]:
    """Return the clip_ids and page addresses of an opt-out list: one a line, "#" begins a comment line."""
    lines = (line.strip() for line in file.read_text(encoding="utf-8").splitlines())
    return frozenset(line for line in lines if line and not line.startswith("#"))


def check_crawls(raw: Path, max_failed: float) -> None:
    """Refuse crawls of which more than a share failed.

    Raises:
        ManifestError: If a crawl failed too often, or left no report to judge by.
    """
    verdicts = {verdict.source: verdict for verdict in read_verdicts(raw)}
    for folder in source_folders(raw):
        verdict = verdicts.get(folder.name)
        if verdict is None:
            raise ManifestError(
                f"{folder / CRAWL_REPORT}: no such file, so --max-crawl-failed cannot be judged; crawl again"
            )
        if verdict.failed_fraction > max_failed:
            raise ManifestError(
                f"{folder / CRAWL_REPORT}: {verdict}, more than --max-crawl-failed {max_failed:g} allows; "
                "crawl again, or allow more"
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
        failed = {str(reason): int(count) for reason, count in report["failed"].items()}
        return CrawlVerdict(source=file.parent.name, asked=int(report["asked"]), failed=failed)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ManifestError(f"{file}: not a crawl report ({error!r}); crawl again") from error
