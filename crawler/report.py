"""The verdict on a crawl: what was asked, stored and not got, and why. Scrapy itself exits 0 when everything failed.

This is the text of ``<raw>/<source>/crawl_report.json``; crawler/reporter.py fills and writes it. Clips are counted by
id, so a clip is one outcome however many addresses were asked for it.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections import Counter, defaultdict
from datetime import UTC, datetime
from enum import StrEnum


class FailureReason(StrEnum):
    """Why a clip was asked for and not stored: closed list."""

    NOT_FOUND = "not_found"
    """404 or 410."""
    FORBIDDEN = "forbidden"
    """401, 403 or 451."""
    HTTP_ERROR = "http_error"
    """Any other status that is not 200, too many redirects, or a redirect that leaves the site."""
    NOT_AUDIO = "not_audio"
    """The first bytes are those of no audio format: a page saved as .wav."""
    EMPTY_AUDIO = "empty_audio"
    TRUNCATED = "truncated"
    """Less than Content-Length."""
    TOO_LARGE = "too_large"
    """More than DOWNLOAD_MAXSIZE."""
    NETWORK = "network"
    ROBOTS = "robots"
    """robots.txt forbids it."""
    NO_PAGE = "no_page"
    """The clip's page answers, but is not the page of that clip."""
    IO_ERROR = "io_error"
    """It could not be written."""
    CRAWLER_ERROR = "crawler_error"
    """A bug of ours; the detail names it."""


@dataclasses.dataclass(frozen=True, slots=True)
class FailedClip:
    """One clip that was not stored."""

    source_id: str
    url: str
    reason: FailureReason
    detail: str


class CrawlReport:
    """Counts of one crawl. ``asked == stored + sum(failed)`` always: a clip is asked once its outcome is known."""

    def __init__(self, source: str, base_url: str) -> None:
        self.source = source
        self.base_url = base_url
        self.started_at = datetime.now(UTC)
        self.started = time.monotonic()
        self.seconds = 0.0
        self.delay_s = 0.0
        """Seconds between two requests, as set."""
        self.finish_reason = "running"
        self.error = ""
        """What stopped the crawl as a whole, or kept its list of clips from being complete; "" if nothing did."""
        self.known: set[str] = set()
        """source_id of every clip that the site lists, as far as it was read (or up to the limit)."""
        self.stored: set[str] = set()
        self.already: set[str] = set()
        self.failures: dict[str, FailedClip] = {}
        self.selectors: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.requests: dict[str, int] = {}
        self.bytes = 0
        self.listing_pages = 0
        self.warnings: list[str] = []

    @property
    def asked(self) -> int:
        return len(self.stored) + len(self.failures)

    @property
    def failed(self) -> dict[str, int]:
        """Reason -> clips, most first."""
        return dict(Counter(str(failure.reason) for failure in self.failures.values()).most_common())

    def verdict(self, max_failed: float) -> str | None:
        """Return what is wrong with the crawl, in one line; None if it may be used.

        Args:
            max_failed: Share of the asked clips, 0 to 1, that may be missing.
        """
        if self.error:
            return self.error
        if self.finish_reason != "finished":
            return f"the crawl did not finish ({self.finish_reason}); run the same command again to go on"
        if not self.asked:
            return f"{self.base_url} lists no clip"
        if len(self.failures) > max_failed * self.asked:
            share = f"{len(self.failures)} of {self.asked} clips failed ({_counts(self.failed)})"
            return f"{share}, more than --max-failed {max_failed:g}"
        return None

    def to_json(self, *, ascii_only: bool = False) -> str:
        """Return the text of crawl_report.json. "bytes" is what came over the line, headers and pages included."""
        values = {
            "source": self.source,
            "base_url": self.base_url,
            "started_at": self.started_at.isoformat(timespec="seconds"),
            "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(self.seconds, 3),
            "finish_reason": self.finish_reason,
            "error": self.error,
            "known": len(self.known),
            "asked": self.asked,
            "stored": len(self.stored),
            "already": len(self.already),
            "failed": self.failed,
            "failures": [dataclasses.asdict(failure) for failure in self.failures.values()],
            "selectors": {name: dict(counts.most_common()) for name, counts in sorted(self.selectors.items())},
            "requests": self.requests,
            "bytes": self.bytes,
            "listing_pages": self.listing_pages,
            "warnings": self.warnings,
        }
        return json.dumps(values, ensure_ascii=ascii_only, indent=1) + "\n"

    def plan(self) -> str:
        """Return what a crawl of the known clips would ask, for a dry run."""
        missing = len(self.known) - len(self.already)
        listed = f"{counted(len(self.known), 'clip')} on {counted(self.listing_pages, 'page')}"
        minutes = f"{2 * missing * self.delay_s / 60:.0f} minutes or more at {self.delay_s:g} s between two"
        return (
            f"{self.source}: {self.base_url} lists {listed}; {len(self.already)} are stored already\n"
            f"{self.source}: a crawl would ask {counted(missing, 'page')} and {counted(missing, 'audio file')}: "
            f"{2 * missing} requests or a few more, {minutes}"
        )

    def table(self) -> str:
        """Return the closing table."""
        rows = [
            (
                "asked",
                len(self.stored) + len(self.failures),
                f"of {len(self.known)} listed on {counted(self.listing_pages, 'page')}",
            ),
            ("stored", len(self.stored), f"{len(self.already)} of them by earlier runs"),
            ("failed", len(self.failures), _counts(self.failed)),
            ("requests", sum(self.requests.values()), _counts(self.requests)),
            ("seconds", round(self.seconds), f"{self.bytes / 2**20:.1f} MiB"),
        ]
        lines = [f"{name:9}{count:8}  {more}".rstrip() for name, count, more in rows]
        for name, counts in sorted(self.selectors.items()):
            lines.append(f"  {name:15}  {_counts(dict(counts.most_common()))}")
        return "\n".join(lines + [f"warning: {warning}" for warning in self.warnings])


def counted(number: int, noun: str) -> str:
    """Return "1 page", "2 pages"."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
