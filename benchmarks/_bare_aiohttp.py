"""The crawl's rival in benchmarks/crawl.py: a bare aiohttp client, in a process of its own.

    python benchmarks/_bare_aiohttp.py BASE_URL ADDRESSES FOLDER CONCURRENCY

Reads ADDRESSES (one "METHOD PATH" a line), asks for each once in that order, CONCURRENCY at a time, and writes each
body of a 200 to a file of its own in FOLDER; prints what it did as JSON. It parses nothing, checks nothing and does
not wait for the disk: it is the least that a client has to do for the same answers. Redirects are not followed,
because where they lead is an address of the list as well.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import aiohttp


async def fetch_all(base_url: str, addresses: list[str], folder: Path, *, concurrency: int) -> Counter[int]:
    """Ask for each address once and return how many answers had which status."""
    statuses: Counter[int] = Counter()
    waiting = iter(enumerate(addresses))
    connector = aiohttp.TCPConnector(limit=concurrency)
    async with aiohttp.ClientSession(base_url, connector=connector) as session:
        await asyncio.gather(*(_work(session, waiting, folder, statuses) for _ in range(concurrency)))
    return statuses


async def _work(
    session: aiohttp.ClientSession, waiting: Iterator[tuple[int, str]], folder: Path, statuses: Counter[int]
) -> None:
    for number, address in waiting:
        method, _, path = address.partition(" ")
        async with session.request(method, path, allow_redirects=False) as response:
            body = await response.read()
        statuses[response.status] += 1
        if response.status == 200:
            (folder / str(number)).write_bytes(body)


def main() -> None:
    """Run the client and print its seconds, without those that Python and the imports took, and its answers."""
    base_url, addresses, folder, concurrency = sys.argv[1:]
    lines = Path(addresses).read_text(encoding="ascii").splitlines()
    started = time.monotonic()
    statuses = asyncio.run(fetch_all(base_url, lines, Path(folder), concurrency=int(concurrency)))
    seconds = time.monotonic() - started
    print(json.dumps({"seconds": seconds, "statuses": {str(status): n for status, n in sorted(statuses.items())}}))


if __name__ == "__main__":
    main()
