"""Scrapy download handler that gives up an answer which stalls or only drips.

Scrapy's one timeout is for a whole answer, and must be long for a large file: a server that falls silent, or sends a
byte a second, would hold a clip and all that wait behind it for as long. Here DOWNLOAD_TIMEOUT is also the longest time
without a byte, and DOWNLOAD_MIN_RATE the least an answer must bring on the whole.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

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


class WatchedHandler(HTTP11DownloadHandler):
    """Scrapy's own handler for http and https, with an eye on what comes."""

    def __init__(self, crawler: Crawler) -> None:
        super().__init__(crawler)
        settings = crawler.settings
        self.silent_s = settings.getfloat("DOWNLOAD_TIMEOUT")
        self.bytes_per_s = settings.getfloat("DOWNLOAD_MIN_RATE")
        self.after_s = settings.getfloat("DOWNLOAD_MIN_RATE_AFTER")
        self.arrivals: WeakKeyDictionary[Request, tuple[float, int]] = WeakKeyDictionary()
        """Request -> when its last bytes came, and how many have come."""
        crawler.signals.connect(self.bytes_received, signal=signals.bytes_received)

    def bytes_received(self, data: bytes, request: Request) -> None:
        _, count = self.arrivals.get(request, (0.0, 0))
        self.arrivals[request] = time.monotonic(), count + len(data)

    async def download_request(self, request: Request) -> Response:
        """Return the answer.

        Raises:
            TooSlowError: If it was given up.
            PackedError: If it came packed, and the request's meta says ``as_it_is``.
        """
        began = time.monotonic()
        download = asyncio.ensure_future(super().download_request(request))
        while not (await asyncio.wait({download}, timeout=LOOK_EVERY_S))[0]:
            if why := self._too_slow(request, began):
                download.cancel()  # which ends the connection
                await asyncio.wait({download}, timeout=LOOK_EVERY_S)
                raise TooSlowError(why)
        response = download.result()
        encoding = (response.headers.get("Content-Encoding") or b"identity").decode("latin-1")
        if request.meta.get("as_it_is") and encoding.strip().lower() != "identity":
            raise PackedError(str(rejection_of_coding(encoding)))
        return response

    def _too_slow(self, request: Request, began: float) -> str:
        now = time.monotonic()
        last, count = self.arrivals.get(request, (began, 0))
        if now - last > self.silent_s:
            return f"no byte for {self.silent_s:g} s, after {count}" if count else "no answer in time"
        if count and now - began > self.after_s and count < self.bytes_per_s * (now - began):
            return f"too slow: {count} bytes in {now - began:.0f} s"
        return ""
