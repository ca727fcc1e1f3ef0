"""Scrapy download handler that gives up an answer which stalls or only drips.

Scrapy's one timeout is for a whole answer, and must be long for a large file: a server that falls silent, or sends a
byte a second, would hold a clip and all that wait behind it for as long. Here DOWNLOAD_TIMEOUT is also the longest time
without a byte, and DOWNLOAD_MIN_RATE the least an answer must bring on the whole.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from scrapy import Request, signals
from scrapy.core.downloader.handlers.http11 import HTTP11DownloadHandler
from scrapy.exceptions import DownloadTimeoutError, IgnoreRequest

from crawler.rejections import rejection_of_coding

if TYPE_CHECKING:
    from scrapy.crawler import Crawler
    from scrapy.http import Response

LOOK_EVERY_S = 0.5


class TooSlowError(DownloadTimeoutError):
    """An answer that was given up; the message says how slow it was."""


class PackedError(IgnoreRequest):
    """A file that came packed: Scrapy unpacks what it can of a gzip body that was cut, and says nothing."""


class Watched:
    """One answer on its way."""

    def __init__(self, download: asyncio.Future[Response]) -> None:
        self.download = download
        self.began = self.last = time.monotonic()
        self.bytes = 0
        self.too_slow = ""
        """How slow it was, once it is given up."""


class WatchedHandler(HTTP11DownloadHandler):
    """Scrapy's own handler for http and https, with an eye on what comes."""

    def __init__(self, crawler: Crawler) -> None:
        super().__init__(crawler)
        settings = crawler.settings
        self.silent_s = settings.getfloat("DOWNLOAD_TIMEOUT")
        self.bytes_per_s = settings.getfloat("DOWNLOAD_MIN_RATE")
        self.after_s = settings.getfloat("DOWNLOAD_MIN_RATE_AFTER")
        self.watched: dict[Request, Watched] = {}
        self.timer: asyncio.TimerHandle | None = None
        crawler.signals.connect(self.bytes_received, signal=signals.bytes_received)

    def bytes_received(self, data: bytes, request: Request) -> None:
        if watched := self.watched.get(request):
            watched.last = time.monotonic()
            watched.bytes += len(data)

    async def download_request(self, request: Request) -> Response:
        """Return the answer.

        Raises:
            TooSlowError: If it was given up.
            PackedError: If it came packed, and the request's meta says ``as_it_is``.
        """
        watched = self.watched[request] = Watched(asyncio.ensure_future(super().download_request(request)))
        if self.timer is None:
            self.timer = asyncio.get_running_loop().call_later(LOOK_EVERY_S, self._look)
        try:
            response = await watched.download
        except asyncio.CancelledError:
            if watched.too_slow:
                raise TooSlowError(watched.too_slow) from None
            raise
        finally:
            del self.watched[request]
        encoding = (response.headers.get("Content-Encoding") or b"identity").decode("latin-1")
        if request.meta.get("as_it_is") and encoding.strip().lower() != "identity":
            raise PackedError(str(rejection_of_coding(encoding)))
        return response

    def _look(self) -> None:
        """Give up what is too slow, and look again while anything is on its way."""
        self.timer = None
        for watched in self.watched.values():
            watched.too_slow = self._judge(watched)
            if watched.too_slow:
                watched.download.cancel()  # which ends the connection
        if self.watched:
            self.timer = asyncio.get_running_loop().call_later(LOOK_EVERY_S, self._look)

    def _judge(self, watched: Watched) -> str:
        now = time.monotonic()
        count, seconds = watched.bytes, now - watched.began
        if now - watched.last > self.silent_s:
            return f"no byte for {self.silent_s:g} s, after {count}" if count else "no answer in time"
        if count and seconds > self.after_s and count < self.bytes_per_s * seconds:
            return f"too slow: {count} bytes in {seconds:.0f} s"
        return ""
