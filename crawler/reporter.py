"""Scrapy extension that fills the crawl report, shows progress on stderr and writes crawl_report.json.

The report is written whole when a crawl opens (finish_reason "running", so that a killed crawl does not stand behind
the report of an earlier one) and when it closes.
"""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from traceback import extract_tb
from typing import IO, TYPE_CHECKING, NamedTuple, Self

from scrapy import signals
from scrapy.exceptions import CloseSpider

from crawler.items import CRAWL_REPORT, CrawlRecord
from crawler.notices import NOTICES, keep_notice
from crawler.report import (
    CrawlReport,
    FailureReason,
    LeftOut,
    counted,
    lasting_failures,
    progress_line,
    write_report,
)
from crawler.store import NEXT_STEP, BusyFolderError, claim_folder, is_full, words_of

if TYPE_CHECKING:
    from scrapy import Request
    from scrapy.crawler import Crawler
    from scrapy.http import Response
    from twisted.python.failure import Failure

    from crawler.pages.fields import PageFields
    from crawler.spiders.base import SiteSpider


class StoredAudio(NamedTuple):
    """Audio that lies beside its record."""

    file: str
    bytes: int
    content_type: str


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
        self.is_reserved = False
        self.lock: IO[bytes] | None = None
        self.addresses: dict[str, str] = {}
        self.shared: dict[str, StoredAudio] = {}
        """By audio address: no audio is asked twice."""

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        reporter = cls(crawler)
        for signal in (
            "spider_opened",
            "spider_closed",
            "spider_error",
            "item_error",
            "bytes_received",
            "response_downloaded",
            "request_left_downloader",
        ):
            crawler.signals.connect(getattr(reporter, signal), signal=getattr(signals, signal))
        return reporter

    @property
    def folder(self) -> Path:
        """Where the site's records lie."""
        return self.raw / self.report.source

    @property
    def path(self) -> Path:
        """Where the report lies."""
        return self.folder / CRAWL_REPORT

    def listing_asked(self) -> None:
        """Note that a listing page is on its way."""
        self.open_listings += 1
        self.progress()

    def listing_answered(self, *, is_page: bool) -> None:
        """Note that a listing page came, or that it did not."""
        self.open_listings -= 1
        self.report.listing_pages += is_page

    def listing_broke(self, message: str) -> None:
        """Note why the list of clips is not whole; this fails the crawl's verdict, not the clips that are known."""
        self.broken_listing = self.broken_listing or message

    def reserved(self, message: str) -> None:
        """Note that the site may not be read at all."""
        self.is_reserved = True
        self.report.error = self.report.error or message

    def warn(self, message: str) -> None:
        """Note what a reader of the report should know, once."""
        self.report.warn(message)

    def notice(self, url: str, response: Response | None) -> None:
        """Keep a copy of what the site says of itself; None: it did not answer."""
        if response is None or self.lock is None:  # no lock: a dry run, which writes nothing
            return
        try:
            changed = keep_notice(self.folder / NOTICES, url, status=response.status, body=response.body)
        except OSError as error:
            self.warn(f"no copy of {url} was kept: {words_of(error)}")
            return
        if response.status == 200 and url not in self.report.notices:
            self.report.notices.append(url)
        if changed:
            self.warn(f"{url} has changed since the last crawl: read it; both copies are in {self.folder / NOTICES}")

    def listed(self, source_id: str, page_url: str, *, already: CrawlRecord | None = None) -> None:
        """Note a clip that the site lists; ``already``: the whole record that an earlier run stored."""
        self.addresses[source_id] = page_url
        self.report.known.add(source_id)
        if already is not None:
            self.report.already.add(source_id)
            self.report.stored.add(source_id)
            self.share(already)
            selectors = already.extra.get("selectors") if "replay" not in already.extra else None  # a CSV is no page
            for name, selector in (selectors if isinstance(selectors, dict) else {}).items():
                self.report.known_selectors[str(name)][str(selector)] += 1
        elif source_id in self.report.remembered:
            self.report.failures[source_id] = self.report.remembered[source_id]

    def left_out(self, source_id: str, why: LeftOut, *, stored: bool = False) -> None:
        """Note a clip that may not be taken; ``stored``: an earlier run did."""
        self.report.leave_out(source_id, why, stored_in=self.folder if stored else None)

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

    def share(self, record: CrawlRecord) -> None:
        """Note whose audio an address gave, for another clip that names the same."""
        self.shared[record.audio_url] = StoredAudio(record.audio_file, record.bytes, record.content_type)

    def failed(self, source_id: str, url: str, reason: FailureReason, detail: str) -> None:
        """Note a clip that was asked for and not got."""
        if source_id in self.report.stored:
            return
        self.report.fail(source_id, url, reason, detail)
        self.last_failure = f"last failure {source_id} {reason}"
        self.progress()

    def progress(self) -> None:
        """Write a line to stderr when the last one is some seconds old."""
        now = time.monotonic()
        if now - self.last_line < self.every_s:
            return
        self.last_line = now
        report = self.report
        if self.crawler.spider.dry_run:  # type: ignore[union-attr]
            doing = "listed so far" if self.open_listings else "listed; asking some for their size"
            print(f"{report.source}: {counted(len(report.known), 'clip')} {doing}", file=sys.stderr, flush=True)
            return
        fresh = report.asked - len(report.already) - len(report.failures.keys() & report.remembered.keys())
        line = progress_line(
            report.source,
            f"{report.asked} of {len(report.known)} clips" + (" listed so far" if self.open_listings else ""),
            failed=len(report.failures),
            per_s=fresh / (now - report.started),
            left=None if self.open_listings else len(report.known) - report.asked - len(report.left_out),
            last_failure=self.last_failure,
        )
        print(line, file=sys.stderr, flush=True)

    # Signals.

    def spider_opened(self, spider: SiteSpider) -> None:
        self.report = CrawlReport(spider.name, spider.site.asked)
        settings = self.crawler.settings
        self.report.delay_s = settings.getfloat("DOWNLOAD_DELAY")
        self.report.limit, self.report.verified = spider.limit, spider.verify
        if not (spider.site.base_url or settings["CONTACT"]):
            option = "-s CONTACT=" if settings.getbool("PRINT_RESULT") else "--contact "
            print(f"{spider.name}: name yourself to the site: {option}mailto:you@example.org", file=sys.stderr)
        if not spider.retry_failed:
            since = datetime.now(UTC) - timedelta(days=settings.getfloat("RETRY_FAILED_DAYS"))
            self.report.remembered = lasting_failures(self.path, spider.site.asked, command="crawl", since=since)
        if spider.dry_run:
            return
        try:
            self.lock = claim_folder(self.folder)
            self._write()  # with what earlier runs learnt, so that a killed one does not lose it
        except BusyFolderError as error:
            self.report.error = str(error)
            raise CloseSpider("busy") from error
        except OSError as error:
            self.report.error = f"cannot write to {self.folder}: {words_of(error)}; {NEXT_STEP}"
            raise CloseSpider("no_space" if is_full(error) else "io_error") from error

    def bytes_received(self, data: bytes) -> None:
        self.report.bytes += len(data)

    def response_downloaded(self, response: Response) -> None:
        self.report.requests[str(response.status)] += 1
        self.report.requests["no answer"] -= 1  # request_left_downloader comes with every answer too

    def request_left_downloader(self, request: Request) -> None:
        self.report.requests["no answer"] += 1

    def spider_error(self, failure: Failure, response: Response | None) -> None:
        request = getattr(response, "request", None)
        if request is not None and (source_id := request.cb_kwargs.get("source_id")):
            self._bug(source_id, request.url, failure)
        else:  # of a listing page, or of start(), which reads none
            url = self.report.base_url if response is None else response.url
            self.listing_broke(f"{url} could not be read: {_words_of_bug(failure)}")

    def item_error(self, item: PageFields, failure: Failure) -> None:
        self._bug(item.source_id, item.page_url, failure)

    def _bug(self, source_id: str, url: str, failure: Failure) -> None:
        self.failed(source_id, url, FailureReason.CRAWLER_ERROR, _words_of_bug(failure))

    def spider_closed(self, spider: SiteSpider, reason: str) -> None:
        report = self.report
        if not report.requests["no answer"]:
            del report.requests["no answer"]
        report.seconds = time.monotonic() - report.started
        report.finish_reason = reason
        if reason == "finished" and not spider.dry_run:
            outcomes = report.stored | report.failures.keys() | report.left_out.keys()
            for source_id in sorted(report.known - outcomes):
                self.failed(source_id, self.addresses[source_id], FailureReason.CRAWLER_ERROR, "no outcome")
        if reason == "finished" and spider.limit is None and not self.broken_listing:
            for line in spider.opt_outs.unmatched(report.known):
                self.warn(f"opt-out list: {line} names no clip that the site lists")
        if self.broken_listing and not report.error:
            is_or_are = "is" if len(report.known) == 1 else "are"
            known = (
                f"only {counted(len(report.known), 'clip')} {is_or_are} known" if report.known else "no clip is known"
            )
            report.error = f"{self.broken_listing}; {known}"
        if report.error and reason == "finished":
            incomplete = "listing_incomplete" if report.known else "unreachable"
            report.finish_reason = "reserved" if self.is_reserved else incomplete
        if self.lock is not None:
            try:
                self._write()
            except OSError as error:
                report.error = report.error or f"cannot write {self.path}: {words_of(error)}; {NEXT_STEP}"
            self.lock.close()
        if self.crawler.settings.getbool("PRINT_RESULT"):
            print(report.plan() if spider.dry_run else report.table(), flush=True)
            if report.stored and not spider.dry_run:
                print(f"wrote              {self.folder}", flush=True)
            if report.error:
                print(f"error: {report.error}", file=sys.stderr, flush=True)

    def _write(self) -> None:
        write_report(self.path, self.report)


def _words_of_bug(failure: Failure) -> str:
    """Return an exception and, for whoever mends it, the line that raised it."""
    words = f"{type(failure.value).__name__}: {failure.value}".splitlines()[0]
    words = words if len(words) <= 300 else f"{words[:300]}..."
    frames = extract_tb(failure.getTracebackObject())  # type: ignore[no-untyped-call]
    return f"{words} ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else words
