"""Page cache: a killed crawl asks no page twice, and a later one asks only whether a page has changed.

Writes ``<raw>/<source>/pages/<ab>/<fingerprint>.gz``: a line of JSON (address, status, headers, time), then the body,
compressed. A page is fresh for HTTPCACHE_EXPIRATION_SECS; after that, and always for robots.txt, terms and listings,
it is asked with If-None-Match and If-Modified-Since, and a 304 brings the copy. Audio is not kept here: it has its own
place. Scrapy's own storage writes seven files a page, one after the other, and a kill between them leaves a page that
is empty and counts as whole; this one writes one file and renames it.
"""

from __future__ import annotations

import gzip
import json
import zlib
from contextlib import suppress
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any

from scrapy.http import Headers
from scrapy.responsetypes import responsetypes

if TYPE_CHECKING:
    from scrapy import Request, Spider
    from scrapy.http import Response
    from scrapy.settings import BaseSettings

PAGES = "pages"
KEPT = (200, 301, 308)
"""Statuses that are kept: a page, and a page that has moved for good."""


class PagePolicy:
    """Scrapy cache policy: what is kept, and for how long without asking."""

    def __init__(self, settings: BaseSettings) -> None:
        self.fresh_s = settings.getfloat("HTTPCACHE_EXPIRATION_SECS")

    def should_cache_request(self, request: Request) -> bool:
        return request.method == "GET"

    def should_cache_response(self, response: Response, request: Request) -> bool:
        return response.status in KEPT and b"no-store" not in (response.headers.get("Cache-Control") or b"").lower()

    def is_cached_response_fresh(self, cachedresponse: Response, request: Request) -> bool:
        age_s = time() - request.meta["cache_timestamp"]
        if not request.meta.get("revalidate") and 0 <= age_s < self.fresh_s:
            return True
        for name, condition in (("ETag", "If-None-Match"), ("Last-Modified", "If-Modified-Since")):
            if value := cachedresponse.headers.get(name):
                request.headers[condition] = value
        return False

    def is_cached_response_valid(self, cachedresponse: Response, response: Response, request: Request) -> bool:
        return response.status == 304


class PageStorage:
    """Scrapy cache storage: one file a page, whole or not at all."""

    def __init__(self, settings: BaseSettings) -> None:
        self.raw = Path(settings["RAW_DIR"])
        self.is_read_only = False

    def open_spider(self, spider: Spider) -> None:
        self.folder = self.raw / spider.name / PAGES
        self.is_read_only = spider.dry_run  # type: ignore[attr-defined]
        self.fingerprint = spider.crawler.request_fingerprinter.fingerprint

    def close_spider(self, spider: Spider) -> None:
        pass

    def retrieve_response(self, spider: Spider, request: Request) -> Response | None:
        """Return the page that is kept, None if there is none or its file is damaged."""
        try:
            packed = self._path(request).read_bytes()
            head, body = _unpack(packed)
            headers = Headers({name: [value.encode("latin-1") for value in values] for name, values in head["headers"]})
            url, status = str(head["url"]), int(head["status"])
            kind = responsetypes.from_args(headers=headers, url=url, body=body)
            response = kind(url=url, status=status, headers=headers, body=body)
            request.meta["cache_timestamp"] = float(head["time"])
        except FileNotFoundError:
            return None
        except (OSError, EOFError, zlib.error, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None  # not of ours, or cut by a disk that failed: the page is asked again and written anew
        return response

    def store_response(self, spider: Spider, request: Request, response: Response) -> None:
        """Keep a page. A disk that is full costs no page: the clip's audio will meet it too, and say so."""
        if self.is_read_only:
            return
        headers = [
            (name.decode("latin-1"), [value.decode("latin-1") for value in values])
            for name, values in response.headers.items()
        ]
        head = {"url": response.url, "status": response.status, "headers": headers, "time": time()}
        path = self._path(request)
        part = path.with_name(path.name + ".part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # No fsync: after a power cut a page may be damaged, which its checksum tells, and is asked again.
            part.write_bytes(gzip.compress(json.dumps(head).encode() + b"\n" + response.body, compresslevel=1, mtime=0))
            part.replace(path)
        except OSError:
            with suppress(OSError):
                part.unlink(missing_ok=True)

    def _path(self, request: Request) -> Path:
        name = self.fingerprint(request).hex()
        return self.folder / name[:2] / f"{name}.gz"


def _unpack(packed: bytes) -> tuple[dict[str, Any], bytes]:
    if not packed:
        raise ValueError("0 bytes")
    head, _, body = gzip.decompress(packed).partition(b"\n")
    return json.loads(head), body
