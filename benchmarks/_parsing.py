"""How fast benchmarks/crawl.py reads detail pages, on one core and without a network."""

from __future__ import annotations

import os
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from crawler.pages import bigsoundbank, soundbible
from crawler.pages.fields import PageFields, decode_page
from demo.pages.answers import Shelf
from demo.pages.soundbible import detail_path
from demo.site import LAYOUTS, read_catalogue

ARCHIVED = ("sites/soundbible_*_detail_2026.html", "soundbible/pages/*.html")
PAGES = 500  # of one layout, read in one go
Parse = Callable[[str, str], PageFields]
PARSERS: dict[str, Parse] = {
    "soundbible": soundbible.parse_detail,
    "soundbible-old": soundbible.parse_detail,
    "bigsoundbank": bigsoundbank.parse_detail,
}


def parsing(catalogue: Path, repeats: int) -> dict[str, dict[str, float]]:
    """Return how fast the detail pages of each layout are read, and archived ones where there are any."""
    shelf = Shelf(read_catalogue(catalogue), catalogue.parent / "audio")
    sets: dict[str, tuple[Parse, list[tuple[str, bytes]]]] = {}
    for layout, parse in PARSERS.items():
        urls = [f"{soundbible.HOME}/{detail_path(clip)}" for clip in shelf.newest]
        if layout == "bigsoundbank":
            urls = list(bigsoundbank.sitemap_links(body_of(layout, shelf, bigsoundbank.SITEMAP).decode()).values())
        sets[layout] = parse, [(url, body_of(layout, shelf, url)) for url in urls[:PAGES]]
    data = Path(os.environ.get("WAVTEXT5K_DATA") or os.devnull)
    if files := sorted(file for pattern in ARCHIVED for file in data.glob(pattern)):
        numbers = [re.search(r"\d+", file.name)[0] for file in files]  # type: ignore[index]
        pages = [(f"{soundbible.HOME}/{n}-x.html", file.read_bytes()) for n, file in zip(numbers, files, strict=True)]
        sets["soundbible, archived"] = soundbible.parse_detail, pages * (PAGES // len(pages))
    return {name: parse_rate(parse, pages, repeats) for name, (parse, pages) in sets.items()}


def body_of(layout: str, shelf: Shelf, url: str) -> bytes:
    body = LAYOUTS[layout](shelf, urlsplit(url).path, {}).body
    return body if isinstance(body, bytes) else body.read_bytes()


def parse_rate(parse: Parse, pages: list[tuple[str, bytes]], repeats: int) -> dict[str, float]:
    rates = []
    for _ in range(repeats + 1):  # the first warms up
        started = time.process_time()
        for url, body in pages:
            parse(decode_page(body, None), url)
        rates.append(len(pages) / (time.process_time() - started))
    kib = statistics.mean(len(body) for _, body in pages) / 1024
    return {"pages_per_s": statistics.median(rates[1:]), "least": min(rates[1:]), "most": max(rates[1:]), "kib": kib}
