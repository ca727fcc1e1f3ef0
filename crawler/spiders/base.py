"""What every spider of a site shares: arguments, the book of known clips, and a clip's page on its way to an item.

A spider of its own says where clips are listed (``start`` and its callbacks) and which function reads a page. A second
run of a spider asks the listing again and then only for clips that are not stored whole.
"""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Iterator
from difflib import get_close_matches
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar, Self

import scrapy
from scrapy import Request
from scrapy.http import Response, TextResponse

from crawler.failures import rejection_of
from crawler.items import CrawlRecord, RecordError, record_file
from crawler.pages.fields import PageError, PageFields
from crawler.report import FailureReason
from crawler.reporter import Reporter
from crawler.site import Site

if TYPE_CHECKING:
    from pathlib import Path

    from scrapy.crawler import Crawler
    from scrapy.settings import BaseSettings
    from twisted.python.failure import Failure

LISTING_PRIORITY = 10
"""Listing pages come before clips, so that progress knows the whole early."""


ARGUMENTS = ("base_url", "limit", "dry_run")
DRY_RUN = {"1": True, "true": True, "yes": True, "": False, "0": False, "false": False, "no": False}


class SiteSpider(scrapy.Spider):
    """One site. Arguments, as Scrapy gives them: base_url, limit, dry_run."""

    home: ClassVar[str]
    hosts: ClassVar[tuple[str, ...]]

    def __init__(self, base_url: str = "", limit: str = "", dry_run: str = "", **arguments: Any) -> None:
        """Check the arguments.

        Args:
            base_url: Another host that serves the same pages: http://127.0.0.1:8000.
            limit: Stop after this many clips, stored ones included.
            dry_run: "1" lists and plans only.
            **arguments: None; Scrapy itself takes whatever is given, a misspelt limit too.

        Raises:
            ValueError: If one of them cannot be.
        """
        for name in arguments:
            if near := get_close_matches(name, ARGUMENTS, 1):
                raise ValueError(f"no argument is called {name!r}; did you mean {near[0]!r}?")
            raise ValueError(f"no argument is called {name!r}; there are {', '.join(ARGUMENTS)}")
        super().__init__()
        self.site = Site(self.home, self.hosts, base_url)
        if limit and not (str(limit).isdecimal() and int(limit) > 0):
            raise ValueError(f"limit must be a whole number, 1 or more, got {limit!r}")
        self.limit = int(limit) if limit else None
        if str(dry_run).lower() not in DRY_RUN:
            raise ValueError(f"dry_run must be 1 or 0, got {dry_run!r}")
        self.dry_run = DRY_RUN[str(dry_run).lower()]

    @classmethod
    def from_crawler(cls, crawler: Crawler, *args: Any, **kwargs: Any) -> Self:
        """Make the spider; arguments that cannot be end the process, as ``scrapy crawl`` would show a traceback."""
        try:
            return super().from_crawler(crawler, *args, **kwargs)
        except ValueError as error:
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(2) from error

    @classmethod
    def update_settings(cls, settings: BaseSettings) -> None:
        """Put the name, version and contact into the user agent, unless one was given on the command line."""
        super().update_settings(settings)
        contact = settings["CONTACT"]
        agent = f"{settings['BOT_NAME']}/{version('wavtext5k')}" + (f" (+{contact})" if contact else "")
        settings.set("USER_AGENT", agent, priority="spider")

    @abstractmethod
    def parse_detail(self, html: str, url: str) -> PageFields:
        """Return what a clip's page tells; PageError if it is not one."""

    @property
    def reporter(self) -> Reporter:
        return self.crawler.get_extension(Reporter)  # type: ignore[return-value]

    @property
    def has_enough(self) -> bool:
        """Whether ``limit`` clips are known."""
        return self.limit is not None and len(self.reporter.report.known) >= self.limit

    def listing(self, url: str, callback: Any, errback: Any, **arguments: Any) -> Request:
        """Return a request for a page that lists clips."""
        self.reporter.listing_asked()
        return Request(url, callback, errback=errback, cb_kwargs=arguments, priority=LISTING_PRIORITY, dont_filter=True)

    def clips(self, links: dict[str, str]) -> Iterator[Request]:
        """Note the clips that a listing names and yield a request for each that is new and not stored."""
        for source_id, url in links.items():
            if source_id in self.reporter.report.known:
                continue
            if self.has_enough:
                return
            already = is_stored(self.raw, self.name, source_id)
            page_url = self.site.canonical(url)
            self.reporter.listed(source_id, page_url, already=already)
            if not (already or self.dry_run):
                # dont_filter: we know by id what was asked, and two pages that redirect to one are two failures.
                yield Request(
                    page_url,
                    self.clip_page,
                    errback=self.clip_failed,
                    cb_kwargs={"source_id": source_id},
                    dont_filter=True,
                )

    def clip_page(self, response: Response, source_id: str) -> Iterator[PageFields]:
        """Yield what a clip's page tells, or note why it tells nothing."""
        url = self.site.canonical(response.url)
        try:
            if not isinstance(response, TextResponse):
                raise PageError("the answer is not a page")
            fields = self.parse_detail(response.text, url)
            if fields.source_id != source_id:
                raise PageError(f"the site answers with clip {fields.source_id}")
        except PageError as error:
            self.reporter.failed(source_id, url, FailureReason.NO_PAGE, str(error))
            return
        self.reporter.parsed(fields)
        yield fields

    def clip_failed(self, failure: Failure) -> None:
        """Note why a clip's page did not come."""
        request = failure.request  # type: ignore[attr-defined]
        rejection = rejection_of(failure.value)
        url = self.site.canonical(request.url)
        self.reporter.failed(request.cb_kwargs["source_id"], url, rejection.reason, f"its page: {rejection}")

    def listing_failed(self, failure: Failure) -> None:
        """Note that the list of clips is not whole; this fails the crawl's verdict, not the clips that are known."""
        request = failure.request  # type: ignore[attr-defined]
        self.reporter.listing_answered(is_page=False)
        self.reporter.listing_broke(f"{request.url} could not be read: {rejection_of(failure.value)}")

    @property
    def raw(self) -> Path:
        return self.reporter.raw


def is_stored(raw: Path, source: str, source_id: str) -> bool:
    """Return whether a clip's record is whole and its audio has the size that the record tells."""
    try:
        record = CrawlRecord.from_json(record_file(raw, source, source_id).read_text(encoding="utf-8"))
        return (raw / source / record.audio_file).stat().st_size == record.bytes
    except (OSError, RecordError, UnicodeDecodeError):
        return False
