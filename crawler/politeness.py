"""Manners that Scrapy leaves to its user: to stay on the site, robots.txt to the letter, Crawl-delay, Retry-After.

Downloader middlewares. One site is one download slot, named after the spider, so that every host name of a site shares
one pace.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from scrapy import Request, Spider
from scrapy.downloadermiddlewares.retry import RetryMiddleware
from scrapy.exceptions import DownloadTimeoutError, IgnoreRequest, NotConfigured
from scrapy.extensions.throttle import AutoThrottle
from scrapy.http.request import NO_CALLBACK

from crawler.failures import DOWNLOAD_ERRORS, LeftOutError, RobotsForbidError, rejection_of
from crawler.rejections import retry_after_s
from crawler.reporter import Reporter
from crawler.robots import Rules, read_rules

if TYPE_CHECKING:
    from scrapy.crawler import Crawler
    from scrapy.http import Response

    from crawler.spiders.base import SiteSpider


NO_DELAY_S = 0.001
"""Between two requests where none is asked for: without any, Scrapy 2.19 sends what is queued at once, one at a time
or not."""


class LeftSite(IgnoreRequest):
    """A link or a redirect that leads to another host; it is not followed."""


class StayOnSite:
    """Downloader middleware: sends each request to where the site is asked; a foreign host is an IgnoreRequest.

    It also asks nothing that is opted out or reserved, and gives all requests of a site one download slot, hence one
    pace, and pages a size that a page may have.
    """

    def __init__(self, crawler: Crawler) -> None:
        self.crawler = crawler
        self.page_bytes = crawler.settings.getint("PAGE_MAXSIZE")

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        return cls(crawler)

    def process_request(self, request: Request) -> Request | None:
        spider: SiteSpider = self.crawler.spider  # type: ignore[assignment]
        if why := spider.left_out(request.url):  # also where a redirect leads to
            raise LeftOutError(why, request.url)
        request.meta["download_slot"] = spider.name
        request.meta.setdefault("download_maxsize", self.page_bytes)
        target = spider.site.target(request.url)
        if target is None:
            raise LeftSite(f"leads away from the site, to {request.url}")
        return None if target == request.url else request.replace(url=target)


class ObeyRobots:
    """Downloader middleware: reads robots.txt of each host once a crawl, keeps a copy, and holds to it.

    In place of Scrapy's own, which takes a server error for "everything is allowed" and knows no Crawl-delay
    (scrapy issue 892).
    """

    def __init__(self, crawler: Crawler) -> None:
        settings = crawler.settings
        if not settings.getbool("ROBOTSTXT_OBEY"):
            raise NotConfigured
        self.crawler = crawler
        self.agent: str = settings["ROBOTSTXT_USER_AGENT"] or settings["USER_AGENT"]
        self.max_delay_s = settings.getfloat("CRAWL_DELAY_MAX_S")
        self.rules: dict[str, asyncio.Future[Rules]] = {}

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        return cls(crawler)

    async def process_request(self, request: Request) -> None:
        """Let a request pass if it may.

        Raises:
            RobotsForbidError: If robots.txt forbids it.
        """
        if request.meta.get("dont_obey_robotstxt"):
            return
        parts = urlsplit(request.url)
        host = f"{parts.scheme}://{parts.netloc}"
        if host not in self.rules:
            self.rules[host] = asyncio.ensure_future(self._read(f"{host}/robots.txt"))
        rules = await self.rules[host]
        if not rules.allows(request.url):
            raise RobotsForbidError(rules.note if rules.parsed is None else "forbidden by robots.txt")

    async def _read(self, url: str) -> Rules:
        reporter: Reporter = self.crawler.get_extension(Reporter)  # type: ignore[assignment]
        meta = {"dont_obey_robotstxt": True, "revalidate": True}
        response, why = None, ""
        try:
            request = Request(url, callback=NO_CALLBACK, meta=meta, priority=1_000)
            response = await self.crawler.engine.download_async(request)
        except DOWNLOAD_ERRORS as error:
            why = str(rejection_of(error))
        status, body = (response.status, response.body) if response is not None else (None, b"")
        rules = read_rules(status, body, agent=self.agent, why=why, max_delay_s=self.max_delay_s)
        reporter.notice(self.crawler.spider.site.canonical(url), response)  # type: ignore[union-attr]
        reporter.warn(rules.note)
        self.crawler.spider.sitemaps.update(dict.fromkeys(rules.sitemaps))  # type: ignore[union-attr]
        if self.crawler.settings.getint("CONCURRENT_REQUESTS_PER_DOMAIN") == 1:
            slow_down(self.crawler, NO_DELAY_S)
        if rules.crawl_delay_s:
            slow_down(self.crawler, rules.crawl_delay_s)
            reporter.report.delay_s = max(reporter.report.delay_s, rules.crawl_delay_s)
        return rules


def slow_down(crawler: Crawler, delay_s: float) -> None:
    """Let at least so many seconds pass between two requests from now on, AutoThrottle or not."""
    delay_s = max(delay_s, crawler.settings.getfloat("DOWNLOAD_DELAY"))
    downloader = crawler.engine.downloader
    name = crawler.spider.name  # type: ignore[union-attr]
    downloader.per_slot_settings[name] = {"delay": delay_s, "jitter": 0.0}  # of a slot that is made later
    if slot := downloader.slots.get(name):
        slot.delay, slot.jitter = max(slot.delay, delay_s), 0.0
    if throttle := crawler.get_extension(AutoThrottle):
        throttle.mindelay = max(throttle.mindelay, delay_s)
        throttle.maxdelay = max(throttle.maxdelay, delay_s)


class PatientRetry(RetryMiddleware):
    """Downloader middleware: Scrapy's retries, with the waiting that a busy site asks for (scrapy issue 3849).

    After 429 or 503 the whole site rests for Retry-After, or for the usual delay, doubled with each try; a site that
    asks for more than RETRY_AFTER_MAX_S ends the crawl, to be run again then. A request without an answer in time is
    tried once more, not four times: a clip must not cost an hour.
    """

    def process_response(
        self, request: Request, response: Response, spider: Spider | None = None
    ) -> Request | Response:
        """Rest if the site is busy, then retry as Scrapy does."""
        if response.status not in (429, 503) or request.meta.get("dont_retry"):
            return super().process_response(request, response)
        downloader = self.crawler.engine.downloader
        slot = downloader.slots.get(request.meta.get("download_slot", ""))
        asked = retry_after_s((response.headers.get("Retry-After") or b"").decode("latin-1"))
        wait_s = asked
        if wait_s is None:
            wait_s = (slot.delay if slot else 0.0) * 2 ** request.meta.get("retry_times", 0)
        limit = self.crawler.settings.getfloat("RETRY_AFTER_MAX_S")
        if wait_s > limit and asked is not None:
            self._stop(response, wait_s)
            return response
        if slot and wait_s:
            slot.delay = max(slot.delay, NO_DELAY_S)  # a slot without a delay does not look at the time
            slot.lastseen = max(slot.lastseen, time.monotonic() + min(wait_s, limit) - slot.delay)
        return super().process_response(request, response)

    def process_exception(
        self, request: Request, exception: Exception, spider: Spider | None = None
    ) -> Request | Response | None:
        """Retry as Scrapy does, but what gave no answer in time once only."""
        if isinstance(exception, DownloadTimeoutError) and request.meta.get("retry_times", 0) >= 1:
            return None
        return super().process_exception(request, exception)

    def _stop(self, response: Response, wait_s: float) -> None:
        reporter: Reporter = self.crawler.get_extension(Reporter)  # type: ignore[assignment]
        if not reporter.report.error:
            then = f"{wait_s / 60:.0f} minutes" if wait_s < 7200 else f"{wait_s / 3600:.0f} hours"
            words = f"{reporter.report.base_url} is busy (HTTP status {response.status}) and asks to wait {then}"
            reporter.report.error = f"{words}; run the same command again then"
            asyncio.ensure_future(self.crawler.engine.close_spider_async(reason="told_to_wait"))  # noqa: RUF006
