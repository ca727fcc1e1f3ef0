"""Scrapy extension that fills the crawl report, shows progress on stderr and writes crawl_report.json.

The report is written whole when a crawl opens (finish_reason "running", so that a killed crawl does not stand behind
the report of an earlier one) and when it closes.
"""

from __future__ import annotations

import errno
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

from scrapy import signals
from scrapy.exceptions import CloseSpider

from crawler.items import CRAWL_REPORT, open_whole, take_lock
from crawler.report import CrawlReport, FailedClip, FailureReason, counted

if TYPE_CHECKING:
    from scrapy.crawler import Crawler
    from scrapy.http import Response
    from twisted.python.failure import Failure

    from crawler.pages.fields import PageFields
    from crawler.spiders.base import SiteSpider


NEXT_STEP = "mend that and run the same command again"


def is_full(error: OSError) -> bool:
    """Return whether a disk, or what a user may have of it, is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def words_of(error: OSError) -> str:
    """Return what the file system says, for a message."""
    return "no space left on the disk" if is_full(error) else error.strerror or str(error)


class Reporter:
    """Scrapy extension: owns the report of a crawl, shows its progress, writes it."""

    def __init__(self, crawler: Crawler) -> None:
        self.crawler = crawler
        self.raw = Path(crawler.settings["RAW_DIR"])
        self.every_s = crawler.settings.getfloat("PROGRESS_SECONDS")
        self.report = CrawlReport("", "")
        self.last_line = time.monotonic()
        self.last_failure = ""
        self.open_listings = 0
        self.broken_listing = ""
        self.lock: IO[bytes] | None = None
        self.addresses: dict[str, str] = {}

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        reporter = cls(crawler)
        for signal in ("spider_opened", "spider_closed", "spider_error", "item_error"):
            crawler.signals.connect(getattr(reporter, signal), signal=getattr(signals, signal))
        return reporter

    @property
    def path(self) -> Path:
        """Where the report lies."""
        return self.raw / self.report.source / CRAWL_REPORT

    def listing_asked(self) -> None:
        """Note that a listing page is on its way."""
        self.open_listings += 1

    def listing_answered(self, *, is_page: bool) -> None:
        """Note that a listing page came, or that it did not."""
        self.open_listings -= 1
        self.report.listing_pages += is_page
        self.progress()

    def listing_broke(self, message: str) -> None:
        """Note why the list of clips is not whole; this fails the crawl's verdict, not the clips that are known."""
        self.broken_listing = self.broken_listing or message

    def listed(self, source_id: str, page_url: str, *, already: bool) -> None:
        """Note a clip that the site lists; ``already``: an earlier run stored it whole."""
        self.addresses[source_id] = page_url
        self.report.known.add(source_id)
        if already:
            self.report.already.add(source_id)
            self.report.stored.add(source_id)

    def parsed(self, fields: PageFields) -> None:
        """Note which selectors hit on a page."""
        for name, selector in fields.selectors.items():
            self.report.selectors[name][selector] += 1

    def stored(self, source_id: str, *, audio_selector: str) -> None:
        """Note a clip whose record is on disk."""
        self.report.selectors["audio"][audio_selector] += 1
        self.report.failures.pop(source_id, None)
        self.report.stored.add(source_id)
        self.progress()

    def failed(self, source_id: str, url: str, reason: FailureReason, detail: str) -> None:
        """Note a clip that was asked for and not got."""
        if source_id in self.report.stored:
            return
        self.report.failures[source_id] = FailedClip(source_id, url, reason, detail)
        self.last_failure = f"last failure {source_id} {reason}"
        self.progress()

    def progress(self) -> None:
        """Write a line to stderr when the last one is some seconds old."""
        now = time.monotonic()
        if now - self.last_line < self.every_s:
            return
        self.last_line = now
        report = self.report
        fresh = report.asked - len(report.already)
        rate = fresh / (now - report.started)
        known = f"{len(report.known)} clips" + (" listed so far" if self.open_listings else "")
        parts = [f"{report.source}: {report.asked} of {known}", f"{len(report.failures)} failed", f"{rate:.1f} clips/s"]
        if rate and not self.open_listings:
            left_s = round((len(report.known) - report.asked) / rate)
            parts.append(f"{left_s // 60}:{left_s % 60:02} left")
        print(", ".join([*parts, self.last_failure] if self.last_failure else parts), file=sys.stderr, flush=True)

    # Signals.

    def spider_opened(self, spider: SiteSpider) -> None:
        self.report = CrawlReport(spider.name, spider.site.asked)
        if not (spider.site.base_url or self.crawler.settings["CONTACT"]):
            print(f"{spider.name}: name yourself to the site: -s CONTACT=mailto:you@example.org", file=sys.stderr)
        if spider.dry_run:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.lock = take_lock(self.path.parent / ".lock")  # a second crawl would remove what this one is writing
            for part in self.path.parent.glob("*/*.part"):  # what a killed crawl left half-written
                part.unlink(missing_ok=True)
            self._write()
        except BlockingIOError as error:
            self.report.error = f"another crawl is at work in {self.path.parent}; wait for it to end"
            raise CloseSpider("busy") from error
        except OSError as error:
            self.report.error = f"cannot write to {self.path.parent}: {words_of(error)}; {NEXT_STEP}"
            raise CloseSpider("no_space" if is_full(error) else "io_error") from error

    def spider_error(self, failure: Failure, response: Response) -> None:
        request = getattr(response, "request", None)
        if request is not None and (source_id := request.cb_kwargs.get("source_id")):
            self._bug(source_id, request.url, failure)
        else:
            url = response.url if request is None else request.url
            self.listing_broke(f"{url} could not be read: {_words_of_bug(failure)}")

    def item_error(self, item: PageFields, failure: Failure) -> None:
        self._bug(item.source_id, item.page_url, failure)

    def _bug(self, source_id: str, url: str, failure: Failure) -> None:
        self.failed(source_id, url, FailureReason.CRAWLER_ERROR, _words_of_bug(failure))

    def spider_closed(self, spider: SiteSpider, reason: str) -> None:
        report, stats = self.report, self.crawler.stats.get_stats()
        prefix = "downloader/response_status_count/"
        report.requests = {key.removeprefix(prefix): value for key, value in sorted(stats.items()) if prefix in key}
        if lost := stats.get("downloader/exception_count"):
            report.requests["no answer"] = lost
        report.bytes = stats.get("downloader/response_bytes", 0)
        report.seconds = time.monotonic() - report.started
        report.finish_reason = reason
        if reason == "finished" and not spider.dry_run:
            for source_id in sorted(report.known - report.stored - report.failures.keys()):
                self.failed(source_id, self.addresses[source_id], FailureReason.CRAWLER_ERROR, "no outcome")
        if self.broken_listing and not report.error:
            is_or_are = "is" if len(report.known) == 1 else "are"
            known = (
                f"only {counted(len(report.known), 'clip')} {is_or_are} known" if report.known else "no clip is known"
            )
            report.error = f"{self.broken_listing}; {known}"
        if report.error and reason == "finished":
            report.finish_reason = "listing_incomplete" if report.known else "unreachable"
        report.delay_s = self.crawler.settings.getfloat("DOWNLOAD_DELAY")
        if self.lock is not None:
            try:
                self._write()
            except OSError as error:
                report.error = report.error or f"cannot write {self.path}: {words_of(error)}; {NEXT_STEP}"
            self.lock.close()
        if self.crawler.settings.getbool("PRINT_RESULT"):
            print(report.plan() if spider.dry_run else report.table(), flush=True)
            if report.error:
                print(f"error: {report.error}", file=sys.stderr, flush=True)

    def _write(self) -> None:
        # A folder's name that is not UTF-8 may stand in a message: a lone surrogate, which JSON writes as an escape.
        with open_whole(self.path) as file:
            file.write(self.report.to_json().encode("utf-8", "backslashreplace"))


def _words_of_bug(failure: Failure) -> str:
    words = f"{type(failure.value).__name__}: {failure.value}".splitlines()[0]
    return words if len(words) <= 300 else f"{words[:300]}..."
