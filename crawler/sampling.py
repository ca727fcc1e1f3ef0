"""Scrapy extension: asks some clips of a dry run for their size, so that the plan can name bytes.

Asks the page of each and the headers of its audio, nothing more; writes nothing.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from scrapy import Request, signals
from scrapy.exceptions import DontCloseSpider
from scrapy.http.request import NO_CALLBACK

from crawler.failures import DOWNLOAD_ERRORS
from crawler.pages.fields import PageError
from crawler.pipelines import header_of
from crawler.reporter import Reporter

if TYPE_CHECKING:
    from scrapy.crawler import Crawler

    from crawler.spiders.base import SiteSpider


class Sampler:
    """Extension: runs when the listing of a dry run is read."""

    def __init__(self, crawler: Crawler) -> None:
        self.crawler = crawler
        self.clips = crawler.settings.getint("SAMPLE_CLIPS")
        self.task: asyncio.Task[None] | None = None

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        sampler = cls(crawler)
        crawler.signals.connect(sampler.spider_idle, signal=signals.spider_idle)
        return sampler

    def spider_idle(self, spider: SiteSpider) -> None:
        """Start the sample when there is nothing else to do, and keep the crawl open until it ends."""
        if not spider.dry_run or (self.task and self.task.done()):
            return
        if self.task is None:
            self.task = asyncio.ensure_future(self._sample(spider))
        raise DontCloseSpider

    async def _sample(self, spider: SiteSpider) -> None:
        reporter: Reporter = self.crawler.get_extension(Reporter)  # type: ignore[assignment]
        still = reporter.report.missing
        missing = [source_id for source_id in reporter.addresses if source_id in still]
        step = max(1, len(missing) // self.clips) if self.clips else len(missing) + 1
        report, asked = reporter.report, missing[::step][: self.clips]
        before = report.requests.total()
        sizes = [await self._size(spider, reporter.addresses[source_id]) for source_id in asked]
        report.sample = tuple(size for size in sizes if size)
        if asked:
            report.requests_a_clip = max(1.0, (report.requests.total() - before) / len(asked))
        await self.crawler.engine.close_spider_async(reason="finished")

    async def _size(self, spider: SiteSpider, page_url: str) -> int:
        """Return the bytes of a clip's best audio, 0 if nobody tells."""
        engine = self.crawler.engine
        try:
            page = await engine.download_async(Request(page_url, callback=NO_CALLBACK))
            fields = spider.pages.parse_detail(spider.text_of(page), spider.site.canonical(page.url))
        except (*DOWNLOAD_ERRORS, PageError):
            return 0
        for link in fields.audio:
            url = spider.site.canonical(link.url)
            try:
                head = await engine.download_async(Request(url, method="HEAD", callback=NO_CALLBACK))
            except DOWNLOAD_ERRORS:
                continue
            length = header_of(head, "Content-Length") or ""
            is_page = (header_of(head, "Content-Type") or "").startswith("text/")
            if head.status == 200 and not is_page and length.isascii() and length.isdigit():
                return int(length[:15])
        return 0
