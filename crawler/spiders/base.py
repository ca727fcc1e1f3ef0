"""What every spider of a site shares: arguments, the book of known clips, and a clip's page on its way to an item.

A spider of its own says where clips are listed (``listings`` and its callbacks) and which module reads pages. A second
run of a spider asks the listing again and then only for clips that are not stored whole.
"""

from __future__ import annotations

import re
import sys
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self
from urllib.parse import urldefrag, urlsplit

import scrapy
from scrapy import Request
from scrapy.http import Response
from scrapy.http.request import NO_CALLBACK

from crawler.failures import DOWNLOAD_ERRORS, LeftOutError, rejection_of
from crawler.items import CrawlRecord, RecordError, read_opt_outs
from crawler.notices import NOTICES
from crawler.opt_outs import OptOuts
from crawler.pages.fields import TERMS_MAX, PageError, PageFields, decode_page, terms_links
from crawler.pipelines import header_of
from crawler.report import FailureReason, LeftOut
from crawler.reporter import Reporter
from crawler.site import Site, user_agent
from crawler.store import stored_record
from crawler.tdm import HEADER, TDMREP, TdmRules, header_reserves, page_reserves, read_tdmrep

if TYPE_CHECKING:
    from scrapy.crawler import Crawler
    from scrapy.settings import BaseSettings
    from twisted.python.failure import Failure

LISTING_PRIORITY = 10
"""Listing pages come before clips, so that progress knows the whole early."""


ARGUMENTS = ("base_url", "limit", "dry_run", "opt_out", "retry_failed", "verify")
SWITCH = {"1": True, "true": True, "yes": True, "": False, "0": False, "false": False, "no": False}


class Pages(Protocol):
    """A module of page functions, such as crawler.pages.soundbible."""

    def parse_detail(self, html: str, url: str) -> PageFields:
        """Return what a clip's page tells; PageError if it is not one."""

    def id_of(self, url: str) -> str | None:
        """Return the clip that an address of the site, past or present, shows; None if it is no clip's page."""


class SiteSpider(scrapy.Spider):
    """One site. A spider of its own says name, home, hosts, pages and ``listings``."""

    name: str
    """That of its module: ``[a-z0-9_]+``."""
    home: ClassVar[str]
    """Public address of the site, without a slash at the end."""
    hosts: ClassVar[tuple[str, ...]]
    """Every host name that the site's own links use."""
    pages: Pages
    """The module that reads its pages."""
    terms: ClassVar[tuple[str, ...]] = ()
    """Addresses of the site's terms that are known; links to others are found on its listing pages."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Check what a spider of its own says.

        Raises:
            TypeError: If something is missing or wrong; names the class.
        """
        super().__init_subclass__(**kwargs)
        missing = [name for name in ("name", "home", "hosts", "pages") if not getattr(cls, name, None)]
        if cls.listings is SiteSpider.listings:
            missing.append("listings()")
        if missing:
            raise TypeError(f"{cls.__module__}.{cls.__name__} does not say {', '.join(missing)}; see SiteSpider")
        if not re.fullmatch(r"[a-z0-9_]+", cls.name):
            raise TypeError(f"{cls.__module__}.{cls.__name__}: name must match [a-z0-9_]+, got {cls.name!r}")
        home = urlsplit(cls.home)
        if home.hostname not in cls.hosts or home.path or not home.scheme:
            wrong = f"home must be scheme and host alone, the host one of hosts {cls.hosts}, got {cls.home!r}"
            raise TypeError(f"{cls.__module__}.{cls.__name__}: {wrong}")

    def __init__(
        self,
        base_url: str = "",
        limit: str = "",
        dry_run: str = "",
        opt_out: str = "",
        retry_failed: str = "",
        verify: str = "",
        **arguments: Any,
    ) -> None:
        """Check the arguments.

        Args:
            base_url: Another host that serves the same pages: http://127.0.0.1:8000.
            limit: Stop after this many clips, stored ones included.
            dry_run: "1" lists and plans only.
            opt_out: A file of clip_ids and addresses that are left out, one a line.
            retry_failed: "1" asks clips again that failed for good lately.
            verify: "1" compares the SHA-256 of each stored audio file, not only its size.
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
        self.dry_run = _switch("dry_run", dry_run)
        self.retry_failed = _switch("retry_failed", retry_failed)
        self.verify = _switch("verify", verify)
        self.opt_outs = self._opt_outs(opt_out)
        self.tdm = TdmRules()
        self.sitemaps: dict[str, None] = {}
        """Addresses of the sitemaps that robots.txt names, in its order."""
        self.terms_seen: set[str] = set()
        self.listings_asked = 0
        self.queued: set[str] = set()
        self.waiting: deque[str] = deque()

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
        settings.set("USER_AGENT", user_agent(settings["CONTACT"]), priority="spider")
        # No more under way than is sent, and one that waits: else sixteen clips wait before each listing page.
        at_once = settings.getint("CONCURRENT_REQUESTS_PER_DOMAIN") + 1
        settings.set("CONCURRENT_REQUESTS", at_once, priority="spider")

    def listings(self) -> Iterable[Request]:
        """Return the requests that the list of clips begins with: see ``listing`` and ``next_listing``."""
        raise NotImplementedError

    async def start(self) -> AsyncIterator[Any]:
        """Read what the site reserves and its terms, then the list of clips."""
        await self._read_tdmrep()
        if self.obeys_tdm and self.tdm.reserves("/"):
            self.reporter.reserved(f"{self.home}{TDMREP} reserves text and data mining of the whole site")
            return
        for request in self._terms_pages(self.terms):
            yield request
        for request in self.listings():
            yield request

    @property
    def reporter(self) -> Reporter:
        return self.crawler.get_extension(Reporter)  # type: ignore[return-value]

    @property
    def has_enough(self) -> bool:
        """Whether ``limit`` clips are known."""
        return self.limit is not None and len(self.reporter.report.known) >= self.limit

    @property
    def obeys_tdm(self) -> bool:
        """Whether reservations of text and data mining hold (TDMREP_OBEY)."""
        return bool(self.settings.getbool("TDMREP_OBEY"))

    def listing(self, url: str, callback: Any, errback: Any, **arguments: Any) -> Request:
        """Return a request for a page that lists clips; it is asked in every run."""
        self.listings_asked += 1
        self.reporter.listing_asked()
        return Request(
            self.site.asked_url(url),
            callback,
            errback=errback,
            cb_kwargs=arguments,
            meta={"revalidate": True},
            priority=LISTING_PRIORITY,
            dont_filter=True,
        )

    def queue_listings(self, urls: Iterable[str]) -> None:
        """Note further listing pages for ``next_listing``: those of the site, each once a crawl."""
        for url in urls:
            page_url = urldefrag(self.site.canonical(url)).url
            if page_url not in self.queued and self.site.target(page_url) is not None:
                self.queued.add(page_url)
                self.waiting.append(page_url)

    def next_listing(self, callback: Any, errback: Any, **arguments: Any) -> Iterator[Request]:
        """Yield a request for the next page that was noted, if one is left and more clips are wanted.

        One page after the other, so that a crawl with a limit reads no more of them than it needs: call it once at the
        end of each callback, and of the errback.
        """
        most = self.settings.getint("LISTING_PAGES_MAX")
        if not self.waiting or self.has_enough:
            return
        if self.listings_asked >= most:
            words = f"{self.waiting[0]} is left after {most} listing pages"
            self.reporter.listing_broke(f"{words}; -s LISTING_PAGES_MAX=N reads on")
            return
        yield self.listing(self.waiting.popleft(), callback, errback, **arguments)

    def listing_text(self, response: Response) -> str:
        """Return the text of a listing page, and note that it came."""
        self.reporter.listing_answered(is_page=True)
        if self.obeys_tdm and header_reserves(header_of(response, HEADER)):
            self.reporter.reserved(f"{response.url} reserves text and data mining (header {HEADER})")
            return ""
        return self.text_of(response)

    def text_of(self, response: Response) -> str:
        """Return the decoded text of a page."""
        return decode_page(response.body, header_of(response, "Content-Type"))

    def terms_found(self, html: str, url: str) -> Iterator[Request]:
        """Yield requests for the site's terms that a page links to, each once a crawl."""
        for link in terms_links(html, url):
            is_clip = self.pages.id_of(link) is not None  # a sound called "License plate"
            if self.site.target(link) is not None and not is_clip:
                yield from self._terms_pages([self.site.canonical(link)])

    def clips(self, links: dict[str, str]) -> Iterator[Request]:
        """Note the clips that a listing names and yield a request for each that is new and not stored."""
        report = self.reporter.report
        for source_id, url in links.items():
            if source_id in report.known or self.site.target(url) is None:  # a foreign page that looks like a clip's
                continue
            if self.has_enough:
                return
            page_url = self.site.canonical(url)
            record = stored_record(self.raw, self.name, source_id, verify=self.verify)
            if why := self._left_out(source_id, page_url, record):
                report.known.add(source_id)
                self.reporter.left_out(source_id, why, stored=record is not None)
                continue
            if self.verify and record is None and (old := stored_record(self.raw, self.name, source_id)):
                self.reporter.warn(f"{old.audio_file} is not what was stored; it is asked again")
            self.reporter.listed(source_id, page_url, already=record)
            self.reporter.progress()  # with --verify a listing takes its time
            if not (record or self.dry_run or source_id in report.remembered):
                # dont_filter: we know by id what was asked, and two pages that redirect to one are two failures.
                yield Request(
                    self.site.asked_url(page_url),
                    self.clip_page,
                    errback=self.clip_failed,
                    cb_kwargs={"source_id": source_id},
                    meta={"revalidate": self.retry_failed},  # what was wrong with a clip may be its page
                    dont_filter=True,
                )

    def clip_page(self, response: Response, source_id: str) -> Iterator[PageFields]:
        """Yield what a clip's page tells, or note why it tells nothing."""
        url = self.site.canonical(response.url)
        html = self.text_of(response)
        try:
            fields = self.pages.parse_detail(html, url)
            if fields.source_id != source_id:
                raise PageError(f"the site answers with clip {fields.source_id}")
        except PageError as error:
            self.reporter.failed(source_id, url, FailureReason.NO_PAGE, str(error))
            return
        self.reporter.parsed(fields)
        if self.opt_outs.names(source_id, *(link.url for link in fields.audio)):
            self.reporter.left_out(source_id, LeftOut.OPTED_OUT)
        elif self.obeys_tdm and (header_reserves(header_of(response, HEADER)) or page_reserves(html)):
            self.reporter.left_out(source_id, LeftOut.TDM_RESERVED)
        else:
            yield fields

    def clip_failed(self, failure: Failure) -> None:
        """Note why a clip's page did not come."""
        request = failure.request  # type: ignore[attr-defined]
        if isinstance(failure.value, LeftOutError):  # where its page led to
            self.reporter.left_out(request.cb_kwargs["source_id"], failure.value.why)
            return
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

    def _opt_outs(self, file: str) -> OptOuts:
        try:
            lines = read_opt_outs(Path(file)) if file else frozenset()
        except OSError as error:
            raise ValueError(f"opt_out: {file}: {error.strerror or error}") from error
        except RecordError as error:
            raise ValueError(f"opt_out: {error}") from error
        return OptOuts(self.name, self.site, self.pages.id_of, lines)

    def left_out(self, url: str) -> LeftOut | None:
        """Return why an address may not be asked; None if it may."""
        if self.opt_outs.names_address(url):
            return LeftOut.OPTED_OUT
        if self.obeys_tdm and self.tdm.reserves_url(url):
            return LeftOut.TDM_RESERVED
        return None

    def _left_out(self, source_id: str, page_url: str, record: CrawlRecord | None) -> LeftOut | None:
        if self.opt_outs.names(source_id, *([record.audio_url] if record else [])):
            return LeftOut.OPTED_OUT
        return self.left_out(page_url)

    async def _read_tdmrep(self) -> None:
        url = self.home + TDMREP
        kept_in = self.raw / self.name / NOTICES
        try:
            request = Request(url, callback=NO_CALLBACK, meta={"revalidate": True})
            response = await self.crawler.engine.download_async(request)
        except DOWNLOAD_ERRORS as error:
            self.tdm = read_tdmrep(None, b"", why=str(rejection_of(error)), kept_in=kept_in)
        else:
            self.reporter.notice(url, response)
            self.tdm = read_tdmrep(response.status, response.body, kept_in=kept_in)
        self.reporter.warn(self.tdm.note)

    def _terms_pages(self, urls: Iterable[str]) -> Iterator[Request]:
        for url in urls:
            if url not in self.terms_seen and len(self.terms_seen) < TERMS_MAX:
                self.terms_seen.add(url)
                yield Request(
                    self.site.asked_url(url),
                    self.terms_page,
                    errback=self.terms_failed,
                    meta={"revalidate": True, "notice": url},
                    priority=LISTING_PRIORITY,
                    dont_filter=True,
                )

    def terms_page(self, response: Response) -> None:
        """Keep a copy of a page of terms."""
        self.reporter.notice(response.meta["notice"], response)

    def terms_failed(self, failure: Failure) -> None:
        """Nothing: a page of terms that is not there is none; the report names those that were kept."""


def _switch(name: str, value: str) -> bool:
    if str(value).lower() not in SWITCH:
        raise ValueError(f"{name} must be 1 or 0, got {value!r}")
    return SWITCH[str(value).lower()]
