"""The ceiling of the crawl in benchmarks/crawl.py: Scrapy with nothing but its engine, in a process of its own.

    python benchmarks/_bare_scrapy.py BASE_URL ADDRESSES FOLDER CONCURRENCY

Does what benchmarks/_bare_aiohttp.py does, with a spider that has no middleware and no extension and reads no
page: what a crawl takes beyond this is ours, and no spider takes less.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import scrapy
from scrapy.crawler import CrawlerProcess
from scrapy.http import Response


class BareSpider(scrapy.Spider):
    """Asks for each address once."""

    name = "bare"
    base_url: str
    addresses: list[str]
    folder: Path
    statuses: Counter[int]

    async def start(self) -> AsyncIterator[Any]:
        """Yield a request for each address."""
        for number, address in enumerate(self.addresses):
            method, _, path = address.partition(" ")
            yield scrapy.Request(self.base_url + path, self.answered, method=method, cb_kwargs={"number": number})

    def answered(self, response: Response, number: int) -> None:
        """Write the body of a 200."""
        self.statuses[response.status] += 1
        if response.status == 200:
            (self.folder / str(number)).write_bytes(response.body)


def main() -> None:
    """Run the spider and print its seconds, without those that Python and the imports took, and its answers."""
    base_url, addresses, folder, concurrency = sys.argv[1:]
    statuses: Counter[int] = Counter()
    process = CrawlerProcess(
        {
            "CONCURRENT_REQUESTS": int(concurrency),
            "CONCURRENT_REQUESTS_PER_DOMAIN": int(concurrency),
            "CONCURRENT_ITEMS": 1,
            "WARN_ON_GENERATOR_RETURN_VALUE": False,
            "DOWNLOADER_MIDDLEWARES_BASE": {},
            "SPIDER_MIDDLEWARES_BASE": {},
            "EXTENSIONS_BASE": {},
            "DUPEFILTER_CLASS": "scrapy.dupefilters.BaseDupeFilter",
            "LOG_LEVEL": "ERROR",
        }
    )
    process.crawl(
        BareSpider,
        base_url=base_url,
        addresses=Path(addresses).read_text(encoding="ascii").splitlines(),
        folder=Path(folder),
        statuses=statuses,
    )
    started = time.monotonic()
    process.start()
    seconds = time.monotonic() - started
    print(json.dumps({"seconds": seconds, "statuses": {str(status): n for status, n in sorted(statuses.items())}}))


if __name__ == "__main__":
    main()
