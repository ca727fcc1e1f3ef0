"""The verdict on a crawl: what was asked, stored and not got, and why. Scrapy itself exits 0 when everything failed.

This is the text of ``<raw>/<source>/crawl_report.json``; crawler/reporter.py fills and writes it. Clips are counted by
id, so a clip is one outcome however many addresses were asked for it.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from crawler.drift import drift
from crawler.items import open_whole


class FailureReason(StrEnum):
    """Why a clip was asked for and not stored: closed list."""

    NOT_FOUND = "not_found"
    """404 or 410, or no address is named at all."""
    FORBIDDEN = "forbidden"
    """401, 403 or 451."""
    HTTP_ERROR = "http_error"
    """Any other status that is not 200, too many redirects, one that leaves the site, or audio that comes packed."""
    NOT_AUDIO = "not_audio"
    """The first bytes are those of no audio format: a page saved as .wav."""
    EMPTY_AUDIO = "empty_audio"
    TRUNCATED = "truncated"
    """Less than Content-Length."""
    TOO_LARGE = "too_large"
    """More than DOWNLOAD_MAXSIZE, or a page of more than PAGE_MAXSIZE."""
    NETWORK = "network"
    """No connection, no answer in time, or one that came too slowly."""
    ROBOTS = "robots"
    """robots.txt forbids it."""
    NO_PAGE = "no_page"
    """The clip's page answers, but is not the page of that clip."""
    IO_ERROR = "io_error"
    """It could not be written."""
    CRAWLER_ERROR = "crawler_error"
    """A bug of ours; the detail names it."""


LASTING = frozenset({"not_found", "not_audio", "empty_audio", "no_page"})
"""Reasons that are still there tomorrow: such a clip is asked again only after RETRY_FAILED_DAYS."""


class LeftOut(StrEnum):
    """Why a clip was not asked for, or not kept, though the site lists it; no failure."""

    OPTED_OUT = "opted_out"
    """It is on the opt-out list."""
    TDM_RESERVED = "tdm_reserved"
    """The site reserves text and data mining for it."""


@dataclasses.dataclass(frozen=True, slots=True)
class FailedClip:
    """One clip that was not stored."""

    source_id: str
    url: str
    reason: FailureReason
    detail: str
    asked_at: str = ""
    """UTC, ISO 8601."""


class CrawlReport:
    """Counts of one crawl. ``asked == stored + sum(failed)`` always: a clip is asked once its outcome is known."""

    def __init__(self, source: str, base_url: str, command: str = "crawl") -> None:
        self.source = source
        self.command = command
        """What made the report: crawl or replay."""
        self.base_url = base_url
        self.started_at = datetime.now(UTC)
        self.started = time.monotonic()
        self.seconds = 0.0
        self.delay_s = 0.0
        """Seconds between two requests, as set."""
        self.limit: int | None = None
        """Clips that were wanted at most, None for all."""
        self.verified = False
        """Whether the SHA-256 of what was stored before was compared."""
        self.finish_reason = "running"
        self.error = ""
        """What stopped the crawl as a whole, or kept its list of clips from being complete; "" if nothing did."""
        self.known: set[str] = set()
        """source_id of every clip that the site lists, as far as it was read (or up to the limit)."""
        self.stored: set[str] = set()
        self.already: set[str] = set()
        self.left_out: dict[str, LeftOut] = {}
        self.failures: dict[str, FailedClip] = {}
        self.remembered: dict[str, FailedClip] = {}
        """Lasting failures of earlier runs that are not asked again yet."""
        self.selectors: defaultdict[str, Counter[str]] = defaultdict(Counter)
        """Field -> selector -> pages of this run."""
        self.known_selectors: defaultdict[str, Counter[str]] = defaultdict(Counter)
        """The same of the clips that earlier runs stored."""
        self.requests: Counter[str] = Counter()
        """Status -> answers, those from the page cache not among them."""
        self.bytes = 0
        self.listing_pages = 0
        self.notices: list[str] = []
        """Addresses of robots.txt, tdmrep.json and terms that were kept."""
        self.sample: tuple[int, ...] = ()
        """Bytes of the clips that a dry run asked about."""
        self.requests_a_clip = 2.0
        """Its page and its audio; more where addresses redirect, as a dry run finds."""
        self.warnings: list[str] = []

    @property
    def asked(self) -> int:
        return len(self.stored) + len(self.failures)

    @property
    def failed(self) -> dict[str, int]:
        """Reason -> clips, most first."""
        return _most_first(str(failure.reason) for failure in self.failures.values())

    @property
    def missing(self) -> set[str]:
        """Clips that a crawl would ask."""
        return self.known - self.already - self.left_out.keys() - self.remembered.keys()

    def warn(self, message: str) -> None:
        """Note what a reader should know, once; "" is nothing."""
        if message and message not in self.warnings:
            self.warnings.append(message)

    def fail(self, source_id: str, url: str, reason: FailureReason, detail: str) -> None:
        """Note a clip that was asked for now and not got."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self.failures[source_id] = FailedClip(source_id, url, reason, detail, now)

    def leave_out(self, source_id: str, why: LeftOut, *, stored_in: Path | None = None) -> None:
        """Note a clip that may not be taken; ``stored_in``: the site's folder, if an earlier run did take it."""
        self.left_out[source_id] = why
        if stored_in is not None:
            words = f"clip {source_id} is stored by an earlier run and now {why}"
            self.warn(f"{words}: delete records/{source_id}.json and its audio in {stored_in}")

    def verdict(self, max_failed: float) -> str | None:
        """Return what is wrong with the crawl, in one line; None if it may be used.

        Args:
            max_failed: Share of the asked clips, 0 to 1, that may be missing.
        """
        if self.error:
            return self.error
        if self.finish_reason != "finished":
            return f"the crawl did not finish ({self.finish_reason}); run the same command again to go on"
        if not self.known:
            return f"{self.base_url} lists no clip"
        if not self.asked:
            return f"none of the {counted(len(self.known), 'clip')} may be taken ({_counts(self._left_out())})"
        if len(self.failures) > max_failed * self.asked:
            share = f"{len(self.failures)} of {self.asked} clips failed ({_counts(self.failed)})"
            return f"{share}, more than --max-failed {max_failed:g}"
        return None

    def to_json(self, *, ascii_only: bool = False) -> str:
        """Return the text of crawl_report.json. "bytes" is what came over the line, without headers."""
        values = {
            "source": self.source,
            "command": self.command,
            "base_url": self.base_url,
            "started_at": self.started_at.isoformat(timespec="seconds"),
            "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(self.seconds, 3),
            "finish_reason": self.finish_reason,
            "error": self.error,
            "limit": self.limit,
            "known": len(self.known),
            "asked": self.asked,
            "stored": len(self.stored),
            "already": len(self.already),
            "left_out": self._left_out(),
            "failed": self.failed,
            "failures": [dataclasses.asdict(failure) for _, failure in sorted(self.failures.items())],
            "earlier_failures": [
                dataclasses.asdict(failure)
                for source_id, failure in sorted(self.remembered.items())
                if source_id not in self.known
            ],
            "selectors": {name: dict(counts.most_common()) for name, counts in sorted(self.selectors.items())},
            "requests": dict(sorted(self.requests.items())),
            "bytes": self.bytes,
            "listing_pages": self.listing_pages,
            "notices": self.notices,
            "warnings": self.all_warnings(),
        }
        return json.dumps(values, ensure_ascii=ascii_only, indent=1) + "\n"

    def all_warnings(self) -> list[str]:
        """Return the warnings, and what this run's selectors say of a change of the site."""
        return self.warnings + drift(self.selectors, self.known_selectors)

    def plan_json(self) -> dict[str, Any]:
        """Return what a crawl of the known clips would ask, for a program; bytes is None where no clip told."""
        missing = len(self.missing)
        requests = round(missing * self.requests_a_clip)
        mean = sum(self.sample) / len(self.sample) if self.sample else None
        return {
            "pages": missing,
            "audio_files": missing,
            "requests": requests,
            "seconds": requests * self.delay_s,
            "bytes": None if mean is None else round(missing * mean),
            "sampled": len(self.sample),
        }

    def plan(self) -> str:
        """Return what a crawl of the known clips would ask, for a dry run."""
        plan = self.plan_json()
        listed = f"{counted(len(self.known), 'clip')} on {counted(self.listing_pages, 'page')}{self._up_to_limit()}"
        minutes = f"{counted(round(plan['seconds'] / 60), 'minute')} or more at {self.delay_s:g} s between two"
        not_asked = [f"{len(self.already)} are stored already"]
        not_asked += [f"{count} left out ({name})" for name, count in self._left_out().items()]
        not_asked += [f"{len(self.remembered)} failed for good lately"] if self.remembered else []
        lines = [
            f"{self.source}: {self.base_url} lists {listed}; {', '.join(not_asked)}",
            f"{self.source}: a crawl would ask {counted(plan['pages'], 'page')} and "
            f"{counted(plan['audio_files'], 'audio file')}: about {plan['requests']} requests, {minutes}",
        ]
        if plan["pages"]:
            lines.append(f"{self.source}: {self._bytes(plan['bytes'])}")
        return "\n".join(lines + [f"warning: {warning}" for warning in self.all_warnings()])

    def _bytes(self, planned: int | None) -> str:
        if planned is None:
            return "how many bytes that is cannot be said: no clip that was asked about tells its size"
        asked = f"{counted(len(self.sample), 'clip')} of {_size(min(self.sample))} to {_size(max(self.sample))}"
        return f"about {_size(planned)} of audio, judged by {asked}"

    def table(self) -> str:
        """Return the closing table."""
        by_earlier = len(self.failures.keys() & self.remembered.keys())
        again = f"; {by_earlier} of them by earlier runs, not asked again yet" if by_earlier else ""
        on_pages = f" on {counted(self.listing_pages, 'page')}" if self.listing_pages else ""  # none: a replay
        compared = ", their SHA-256 compared" if self.verified else ""
        rows = [
            ("asked", self.asked, f"of {len(self.known)} listed{on_pages}{self._up_to_limit()}"),
            ("stored", len(self.stored), f"{len(self.already)} of them by earlier runs{compared}"),
            ("failed", len(self.failures), _counts(self.failed) + again),
            ("requests", self.requests.total(), _counts(dict(sorted(self.requests.items())))),
            ("seconds", round(self.seconds), f"{self.bytes / 2**20:.1f} MiB"),
        ]
        if self.left_out:
            rows.insert(3, ("left out", len(self.left_out), _counts(self._left_out())))
        lines = [f"{name:9}{count:8}  {more}".rstrip() for name, count, more in rows]
        for name, counts in sorted(self.selectors.items()):
            lines.append(f"  {name:15}  {_counts(dict(counts.most_common()))}")
        return "\n".join(lines + [f"warning: {warning}" for warning in self.all_warnings()])

    def _up_to_limit(self) -> str:
        return f", read up to --limit {self.limit}" if self.limit is not None else ""

    def _left_out(self) -> dict[str, int]:
        return _most_first(str(why) for why in self.left_out.values())


def write_report(path: Path, report: CrawlReport) -> None:
    """Write a report, whole or not at all; OSError if it cannot be."""
    # A folder's name that is not UTF-8 may stand in a message: a lone surrogate, which JSON writes as an escape.
    with open_whole(path) as file:
        file.write(report.to_json().encode("utf-8", "backslashreplace"))


def command_of(path: Path) -> str:
    """Return which command made a report: crawl or replay; "" if there is no report."""
    try:
        return str(json.loads(path.read_text(encoding="utf-8")).get("command", "crawl"))
    except (OSError, ValueError, AttributeError, RecursionError):
        return ""


def lasting_failures(path: Path, base_url: str, *, command: str, since: datetime) -> dict[str, FailedClip]:
    """Return the failures of an earlier report that need not be asked again yet, by source_id.

    Args:
        path: crawl_report.json; {} if it is not there, or is no report.
        base_url: Only what this very host answered counts.
        command: Only a report of this command: a replay asks other addresses than a crawl.
        since: Only what was asked since then counts.
    """
    found = {}
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        if (report["base_url"], report.get("command", "crawl")) != (base_url, command):
            return {}
        for entry in report["failures"] + report.get("earlier_failures", []):
            failure = FailedClip(**{**entry, "reason": FailureReason(entry["reason"])})
            is_recent = since <= datetime.fromisoformat(failure.asked_at) <= datetime.now(UTC)
            if failure.reason in LASTING and is_recent and isinstance(failure.source_id, str):
                found[failure.source_id] = failure
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return {}  # of another version, or not of ours
    return found


def _most_first(words: Iterable[str]) -> dict[str, int]:
    counts = Counter(words)
    return {word: counts[word] for word in sorted(counts, key=lambda word: (-counts[word], word))}


def progress_line(source: str, done: str, *, failed: int, per_s: float, left: int | None, last_failure: str) -> str:
    """Return how far a run is.

    Args:
        source: The site.
        done: Clips done of those known, in words.
        failed: Clips that failed.
        per_s: Clips a second.
        left: Clips that are left, None where that is not known yet.
        last_failure: In words, "" if there was none.
    """
    parts = [f"{source}: {done}", f"{failed} failed"]
    parts.append(f"{per_s:.1f} clips/s" if per_s >= 1 else f"{60 * per_s:.1f} clips/min")
    if per_s and left is not None:
        left_s = round(left / per_s)
        parts.append(f"{left_s // 60}:{left_s % 60:02} left")
    return ", ".join([*parts, last_failure] if last_failure else parts)


def counted(number: int, noun: str) -> str:
    """Return "1 page", "2 pages"."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _size(count: float) -> str:
    """Return bytes as a reader wants them."""
    for unit, step in (("GiB", 2**30), ("MiB", 2**20)):
        if count >= step:
            return f"{count / step:.1f} {unit}"
    return f"{count / 2**10:.0f} KiB"
