"""Page cache: a killed crawl asks no page twice, and a later one asks only whether a page has changed.

Writes ``<raw>/<source>/pages.sqlite``, a page a row, its body packed by zlib. A page is fresh for
HTTPCACHE_EXPIRATION_SECS; after that, and always for robots.txt, terms and listings, it is asked with If-None-Match and
If-Modified-Since, and a 304 brings the copy. Audio is not kept here: it has its own place. Scrapy's own storage writes
seven files a page, one after the other, and a kill between them leaves a page that is empty and counts as whole; SQLite
keeps a row whole or not at all.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from pathlib import Path
from time import time
from typing import TYPE_CHECKING

from scrapy.downloadermiddlewares.httpcache import HttpCacheMiddleware
from scrapy.http import Headers
from scrapy.responsetypes import responsetypes

if TYPE_CHECKING:
    from scrapy import Request, Spider
    from scrapy.http import Response
    from scrapy.settings import BaseSettings

PAGES = "pages.sqlite"
COLUMNS = ("url TEXT", "status INTEGER", "headers TEXT", "body BLOB", "stored_at REAL")


class PageCache(HttpCacheMiddleware):
    """Downloader middleware: Scrapy's, but for handing out old pages, robots.txt too, of a site that is down."""

    def process_exception(self, request: Request, exception: Exception, spider: Spider | None = None) -> None:
        """Let it be an exception."""
        request.meta.pop("cached_response", None)


class PagePolicy:
    """Scrapy cache policy: what is kept, and for how long without asking."""

    def __init__(self, settings: BaseSettings) -> None:
        self.fresh_s = settings.getfloat("HTTPCACHE_EXPIRATION_SECS")

    def should_cache_request(self, request: Request) -> bool:
        return request.method == "GET"

    def should_cache_response(self, response: Response, request: Request) -> bool:
        return response.status == 200 and b"no-store" not in (response.headers.get("Cache-Control") or b"").lower()

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
    """Scrapy cache storage: one SQLite file a site; a dry run only reads it."""

    def __init__(self, settings: BaseSettings) -> None:
        self.raw = Path(settings["RAW_DIR"])
        self.pages: sqlite3.Connection | None = None
        self.is_read_only = False

    def open_spider(self, spider: Spider) -> None:
        self.path = self.raw / spider.name / PAGES
        self.is_read_only = spider.dry_run  # type: ignore[attr-defined]
        self.fingerprint = spider.crawler.request_fingerprinter.fingerprint

    def close_spider(self, spider: Spider) -> None:
        if self.pages is not None:
            self.pages.close()

    def retrieve_response(self, spider: Spider, request: Request) -> Response | None:
        """Return the page that is kept, None if there is none or it is damaged."""
        try:
            found = self._open().execute(
                "SELECT url, status, headers, body, stored_at FROM pages WHERE fingerprint = ?",
                (self.fingerprint(request),),
            )
            row = found.fetchone()
            if row is None:
                return None
            url, status, headers, packed, stored_at = row
            response_headers = Headers(
                {name: [value.encode("latin-1") for value in values] for name, values in json.loads(headers).items()}
            )
            body = zlib.decompress(packed)
            kind = responsetypes.from_args(headers=response_headers, url=url, body=body)
            response = kind(url=url, status=int(status), headers=response_headers, body=body)
            request.meta["cache_timestamp"] = float(stored_at)
        except sqlite3.Error as error:
            self._give_up(spider, error)
            return None
        except (zlib.error, ValueError, TypeError, AttributeError):
            return None  # a row that is damaged: the page is asked and written anew
        return response

    def store_response(self, spider: Spider, request: Request, response: Response) -> None:
        """Keep a page. A disk that is full costs no page: the clip's audio will meet it too, and say so."""
        if self.is_read_only:
            return
        headers = {
            name.decode("latin-1"): [value.decode("latin-1") for value in values]
            for name, values in response.headers.items()
        }
        values = (response.url, response.status, json.dumps(headers), zlib.compress(response.body, 1), time())
        try:
            self._open().execute(
                "INSERT OR REPLACE INTO pages VALUES (?, ?, ?, ?, ?, ?)", (self.fingerprint(request), *values)
            )
        except sqlite3.Error as error:
            self._give_up(spider, error)

    def _give_up(self, spider: Spider, error: sqlite3.Error) -> None:
        """Say that the cache cannot be used, and do without: the next run begins it anew if it is damaged."""
        if self.is_read_only:
            return  # there may be none yet, or a crawl is at work
        spider.reporter.warn(f"{self.path} cannot be used ({error}): pages are asked again")  # type: ignore[attr-defined]
        if self.pages is not None and "malformed" in str(error):
            self.pages.close()
            self.pages = None
            self.path.unlink(missing_ok=True)

    def _open(self) -> sqlite3.Connection:
        if self.pages is None:
            if self.is_read_only:
                # As it lies: a crawl that is at work holds the file, and nothing may be written beside it.
                address = f"{self.path.absolute().as_uri()}?mode=ro&immutable=1"
                self.pages = sqlite3.connect(address, uri=True, isolation_level=None, timeout=0)
            else:
                self.pages = _connect(self.path)
        return self.pages


def _connect(path: Path) -> sqlite3.Connection:
    """Open the file for one crawl alone, which holds its folder's lock; a file that is no database is begun anew."""
    for attempt in (1, 2):
        pages = sqlite3.connect(path, isolation_level=None, timeout=0)
        try:
            # One user: no shared memory, so that it works on network disks too. A commit need not reach the disk at
            # once: after a power cut a page may be gone, and is asked again.
            pages.execute("PRAGMA locking_mode = EXCLUSIVE")
            pages.execute("PRAGMA journal_mode = WAL")
            pages.execute("PRAGMA synchronous = OFF")
            pages.execute(f"CREATE TABLE IF NOT EXISTS pages (fingerprint BLOB PRIMARY KEY, {', '.join(COLUMNS)})")
            return pages
        except sqlite3.DatabaseError as error:
            pages.close()
            if attempt == 2 or isinstance(error, sqlite3.OperationalError):
                raise
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
    raise AssertionError("unreachable")
