"""From a clip's page to its record on disk: asks its addresses for audio, best first, and stores the first that has it.

So a dead WAV link costs a clip its lossless form, not its place in the data set. What is written, and in which order,
is in crawler.store.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self
from weakref import WeakValueDictionary

from scrapy import Request
from scrapy.exceptions import DropItem
from scrapy.http import Response
from scrapy.http.request import NO_CALLBACK

from crawler.failures import DOWNLOAD_ERRORS, LeftOutError, rejection_of
from crawler.pages.fields import AudioLink, PageFields
from crawler.rejections import RejectionError, check_audio, telling
from crawler.report import FailureReason, LeftOut
from crawler.reporter import Reporter
from crawler.store import NEXT_STEP, is_full, record_of, words_of, write_clip
from crawler.tdm import HEADER, header_reserves

if TYPE_CHECKING:
    from scrapy.crawler import Crawler

    from crawler.spiders.base import SiteSpider

AUDIO_TIMEOUT_S = 900
"""A 200 MB file over a line of 2 Mbit/s; one that drips is given up much earlier."""

AS_IT_IS = {"Accept-Encoding": "identity"}


class StoreClip:
    """Item pipeline: PageFields in, an audio file and a CrawlRecord on disk out; every outcome is counted once."""

    def __init__(self, crawler: Crawler) -> None:
        self.crawler = crawler
        self.raw = Path(crawler.settings["RAW_DIR"])
        # As many clips at a time as requests: else each waiting clip asks for its redirect before one has its audio,
        # and a kill loses them all.
        self.turn = asyncio.Semaphore(crawler.settings.getint("CONCURRENT_REQUESTS_PER_DOMAIN"))
        self.asked: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.closing: asyncio.Task[None] | None = None
        self.audio_meta = {
            "download_timeout": AUDIO_TIMEOUT_S,
            "download_maxsize": crawler.settings.getint("DOWNLOAD_MAXSIZE"),
            "dont_cache": True,
            "as_it_is": True,
        }

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        return cls(crawler)

    @property
    def spider(self) -> SiteSpider:
        return self.crawler.spider  # type: ignore[return-value]

    @property
    def reporter(self) -> Reporter:
        return self.crawler.get_extension(Reporter)  # type: ignore[return-value]

    async def process_item(self, item: PageFields) -> PageFields:
        """Download the best audio of a clip and store both.

        Raises:
            DropItem: If no address gave audio; the report says why.
        """
        async with self.turn:
            return await self._fetch(item)

    async def _fetch(self, item: PageFields) -> PageFields:
        rejected: list[tuple[AudioLink, RejectionError]] = []
        for published in item.audio:
            if self.closing or not self.crawler.crawling:
                raise DropItem("the crawl is being stopped", log_level="DEBUG")
            link = AudioLink(self.spider.site.canonical(published.url), published.selector)
            async with self.asked.setdefault(link.url, asyncio.Lock()):  # another clip may be asking the same address
                try:
                    response = await self._download(link)
                    if self.spider.obeys_tdm and header_reserves(header_of(response, HEADER)):
                        raise LeftOutError(LeftOut.TDM_RESERVED, link.url)
                    extension = check_audio(response.status, response.body)
                except LeftOutError as error:
                    self.reporter.left_out(item.source_id, error.why)
                    raise DropItem(str(error), log_level="INFO") from error
                except RejectionError as rejection:
                    rejected.append((link, rejection))
                    continue
                await self._store(item, link, response, extension=extension, rejected=rejected)
                return item
        best = telling(why for _, why in rejected).reason if rejected else FailureReason.NOT_FOUND
        details = [f"{link.url}: {rejection}" for link, rejection in rejected] or ["the page names no audio"]
        self.reporter.failed(item.source_id, item.page_url, best, "; ".join(details))
        raise DropItem(f"{item.page_url}: {best}: {details[0]}", log_level="INFO")

    async def _download(self, link: AudioLink) -> Response:
        """Return the answer of an address; that of one that another clip has had is read from the disk."""
        if stored := self.reporter.shared.get(link.url):
            with suppress(OSError):
                body = (self.raw / self.spider.name / stored.file).read_bytes()
                if len(body) == stored.bytes:
                    return Response(link.url, headers={"Content-Type": stored.content_type}, body=body)
        try:
            url = self.spider.site.asked_url(link.url)
            request = Request(url, callback=NO_CALLBACK, meta=self.audio_meta, headers=AS_IT_IS)
            return await self.crawler.engine.download_async(request)
        except LeftOutError:
            raise
        except DOWNLOAD_ERRORS as error:
            raise rejection_of(error) from error

    async def _store(
        self,
        item: PageFields,
        link: AudioLink,
        response: Response,
        *,
        extension: str,
        rejected: list[tuple[AudioLink, RejectionError]],
    ) -> None:
        content_type = header_of(response, "Content-Type") or ""
        record = record_of(
            self.spider.name,
            item,
            link,
            body=response.body,
            extension=extension,
            content_type=content_type,
            rejected=rejected,
        )
        try:
            # In a thread: two files and their way to the disk take as long as some requests.
            await asyncio.to_thread(write_clip, self.raw, record, response.body)
        except OSError as error:
            self._stop(item, error)
            raise DropItem(f"{self.raw / record.source / record.audio_file}: {error}", log_level="INFO") from error
        self.reporter.stored(item.source_id, audio_selector=link.selector)
        self.reporter.share(record)

    def _stop(self, item: PageFields, error: OSError) -> None:
        """Stop the crawl: what kept one file from being written will keep the next from it as well."""
        folder = self.raw / self.spider.name
        message = f"cannot write to {folder}: {words_of(error)}"
        self.reporter.failed(item.source_id, item.page_url, FailureReason.IO_ERROR, message)
        if self.closing is None:
            self.reporter.report.error = f"{message}; {NEXT_STEP}"
            reason = "no_space" if is_full(error) else "io_error"
            # Not awaited: closing waits for this very item.
            self.closing = asyncio.ensure_future(self.crawler.engine.close_spider_async(reason=reason))


def header_of(response: Response, name: str) -> str | None:
    """Return a header of an answer as text, None if it has none of that name."""
    value = response.headers.get(name)
    return None if value is None else value.decode("latin-1")
