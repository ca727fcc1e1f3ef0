"""Stores each clip whole or not at all: its audio, then its record.

A clip has several addresses, best first: the first that answers with audio is taken, so a dead WAV link costs a clip
its lossless form, not its place in the data set. Writes ``<raw>/<source>/audio/<id>.<ext>`` and then
``records/<id>.json``; a record on disk therefore means that its audio is whole.
"""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self

from scrapy import Request
from scrapy.exceptions import DropItem
from scrapy.http.request import NO_CALLBACK

from crawler.failures import DOWNLOAD_ERRORS, RejectionError, reject_body, rejection_of
from crawler.items import CrawlRecord, open_whole, record_file
from crawler.licenses import LICENSE_URLS, license_of
from crawler.pages.fields import AudioLink, PageFields
from crawler.report import FailureReason
from crawler.reporter import NEXT_STEP, Reporter, is_full, words_of

if TYPE_CHECKING:
    from scrapy.crawler import Crawler
    from scrapy.http import Response

AUDIO_TIMEOUT_S = 1_800
"""A 200 MB file over a line of 1 Mbit/s; Scrapy's 180 s hold for pages."""

_EXTENSIONS = ("wav", "flac", "ogg", "mp3", "aac", "aiff", "m4a", "caf", "wma")


class StoreClip:
    """Item pipeline: PageFields in, an audio file and a CrawlRecord on disk out; every outcome is counted once."""

    def __init__(self, crawler: Crawler) -> None:
        self.crawler = crawler
        self.raw = Path(crawler.settings["RAW_DIR"])
        # As many clips at a time as requests: else each waiting clip asks for its redirect before one has its audio,
        # and a kill loses them all.
        self.turn = asyncio.Semaphore(crawler.settings.getint("CONCURRENT_REQUESTS_PER_DOMAIN"))
        self.closing: asyncio.Task[None] | None = None

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        return cls(crawler)

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
        for link in item.audio:
            if self.closing or not self.crawler.crawling:
                raise DropItem("the crawl is being stopped", log_level="DEBUG")
            try:
                response, extension = await self._download(link)
            except RejectionError as rejection:
                rejected.append((link, rejection))
                continue
            self._store(item, link, response, extension=extension, rejected=rejected)
            return item
        best = rejected[0][1].reason if rejected else FailureReason.NOT_FOUND
        details = [f"{link.url}: {rejection}" for link, rejection in rejected] or ["the page names no audio"]
        self.reporter.failed(item.source_id, item.page_url, best, "; ".join(details))
        raise DropItem(f"{item.page_url}: {best}: {details[0]}", log_level="INFO")

    async def _download(self, link: AudioLink) -> tuple[Response, str]:
        """Return an answer that is audio, and its extension; RejectionError otherwise."""
        try:
            url = self.crawler.spider.site.canonical(link.url)  # type: ignore[union-attr]
            request = Request(url, callback=NO_CALLBACK, meta={"download_timeout": AUDIO_TIMEOUT_S})
            response = await self.crawler.engine.download_async(request)
        except DOWNLOAD_ERRORS as error:
            raise rejection_of(error) from error
        return response, reject_body(response)

    def _store(
        self,
        item: PageFields,
        link: AudioLink,
        response: Response,
        *,
        extension: str,
        rejected: list[tuple[AudioLink, RejectionError]],
    ) -> None:
        record = self._record(item, link, response, extension, rejected)
        folder = self.raw / record.source
        audio = folder / record.audio_file
        try:
            with open_whole(audio) as file:
                file.write(response.body)
            try:
                with open_whole(record_file(self.raw, record.source, record.source_id), "w") as file:
                    file.write(record.to_json())
            except Exception:
                audio.unlink(missing_ok=True)
                raise
        except OSError as error:
            self._stop(item, error)
            raise DropItem(f"{audio}: {error}", log_level="INFO") from error
        for other in _EXTENSIONS:  # an earlier crawl may have had this clip in another format
            if other != extension:
                audio.with_suffix(f".{other}").unlink(missing_ok=True)
        self.reporter.stored(item.source_id, audio_selector=link.selector)

    def _record(
        self,
        item: PageFields,
        link: AudioLink,
        response: Response,
        extension: str,
        rejected: list[tuple[AudioLink, RejectionError]],
    ) -> CrawlRecord:
        spider = self.crawler.spider
        name = license_of(item.license_raw)
        extra = {**item.extra, "selectors": {**item.selectors, "audio": link.selector}}
        if rejected:
            extra["audio_not_used"] = {spider.site.canonical(other.url): str(why.reason) for other, why in rejected}  # type: ignore[union-attr]
        return CrawlRecord(
            source=spider.name,  # type: ignore[union-attr]
            source_id=item.source_id,
            page_url=item.page_url,
            audio_url=spider.site.canonical(link.url),  # type: ignore[union-attr]
            audio_file=f"audio/{item.source_id}.{extension}",
            title=item.title,
            description=item.description,
            tags=item.tags,
            author=item.author,
            license=name,
            license_raw=item.license_raw,
            license_url=item.license_url or LICENSE_URLS.get(name, ""),
            extra=extra,
            sha256=hashlib.sha256(response.body).hexdigest(),
            bytes=len(response.body),
            content_type=(response.headers.get("Content-Type") or b"").decode("latin-1"),
            retrieved_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def _stop(self, item: PageFields, error: OSError) -> None:
        """Stop the crawl: what kept one file from being written will keep the next from it as well."""
        folder = self.raw / self.crawler.spider.name  # type: ignore[union-attr]
        message = f"cannot write to {folder}: {words_of(error)}"
        self.reporter.failed(item.source_id, item.page_url, FailureReason.IO_ERROR, message)
        if self.closing is None:
            self.reporter.report.error = f"{message}; {NEXT_STEP}"
            reason = "no_space" if is_full(error) else "io_error"
            # Not awaited: closing waits for this very item.
            self.closing = asyncio.ensure_future(self.crawler.engine.close_spider_async(reason=reason))
