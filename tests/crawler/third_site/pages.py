"""pebblesounds.example: listing pages and clip pages to fields. Reads one page's text, asks nothing, writes nothing.

A clip is ``article#pebble``. Beside it lie other sounds with players, finders and licences of their own (``aside``),
and the footer names a licence, that of the pages: all of it marked up as the clip's own facts are. Hence one scope for
every field, and a term of the ``dl`` without a value takes none from the term after it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from urllib.parse import urldefrag

from parsel import Selector

from crawler.pages.fields import AudioLink, Chain, PageError, PageFields, absolute, drop, parse, path_of, text_of

HOME = "https://pebblesounds.example"

_CLIP = re.compile(r"/sound/(p-[0-9]{1,12})/?")
_BROWSE = re.compile(r"/browse/[^/]+(?:/[0-9]{1,6})?/?")
_FOREIGN = ("//aside", "//header", "//footer", "//nav")
_LOSSLESS = (".flac", ".wav", ".aif", ".aiff")


def id_of(url: str) -> str | None:
    """Return the id in the address of a clip's page, None for any other address of the site."""
    match = _CLIP.fullmatch(path_of(url))
    return match[1] if match else None


def listing_links(html: str, url: str) -> dict[str, str]:
    """Return source_id -> address of the clips that a browse page lists, in page order."""
    page = parse(html)
    drop(page, *_FOREIGN)
    found: dict[str, str] = {}
    for link in page.xpath("//a/@href").getall():
        address = absolute(url, link)
        if source_id := id_of(address):
            found.setdefault(source_id, address)
    return found


def browse_links(html: str, url: str) -> list[str]:
    """Return the addresses of the browse pages that a page links to: every letter, and the next page of this one."""
    links = (urldefrag(absolute(url, link)).url for link in parse(html).xpath("//a/@href").getall())
    return [link for link in dict.fromkeys(links) if _BROWSE.fullmatch(path_of(link))]


def parse_detail(html: str, url: str) -> PageFields:
    """Return what a clip's page tells.

    Args:
        html: The decoded page.
        url: Its address after redirects; relative links are resolved against it.

    Raises:
        PageError: If the address names no clip, or the page shows none.
    """
    source_id = id_of(url)
    if source_id is None:
        raise PageError(f"the address names no clip: {url}")
    page = parse(html)
    head_title = page.xpath("string(/html/head/title)").get("")
    drop(page, *_FOREIGN)
    if not (article := page.xpath("(//article[@id='pebble'])[1]")):
        raise PageError(f"the page has no article#pebble; its title is {head_title.strip()[:80]!r}")
    clip, chain = article[0], Chain()
    length = next(iter(_facts(clip, "Length")), "").strip()
    return PageFields(
        source_id=source_id,
        page_url=url,
        title=chain.first("title", _titles(clip, head_title)),
        description=chain.first("description", (("figcaption", text) for text in _texts(clip, ".//figcaption"))),
        tags=chain.first_list("tags", [("dl Filed under", _facts(clip, "Filed under"))]),
        author=chain.first("author", (("dl Found by", text) for text in _facts(clip, "Found by"))),
        license_raw=chain.first("license", (("dl Licence", text) for text in _facts(clip, "Licence"))),
        license_url="",
        audio=tuple(_audio(clip, url)),
        extra={"length": length} if length else {},
        selectors=chain.selectors,
    )


def _titles(clip: Selector, head_title: str) -> Iterator[tuple[str, str]]:
    for text in _texts(clip, "(.//h1)[1]"):
        yield "h1", text
    name, found, _ = head_title.rpartition("~ Pebble Sounds")
    yield "head title", name if found else ""


def _texts(clip: Selector, xpath: str) -> list[str]:
    return [text_of(node) for node in clip.xpath(xpath)]


def _facts(clip: Selector, term: str) -> list[str]:
    """Return the values of a term: those that stand before the next term."""
    values = clip.xpath(".//dl/dd[normalize-space(preceding-sibling::dt[1]) = $term]", term=term)
    return [text_of(value) for value in values]


def _audio(clip: Selector, url: str) -> list[AudioLink]:
    """Return the clip's files, lossless first, and the download before the player's."""
    found: dict[str, AudioLink] = {}
    for selector, xpath in (("a.take", ".//a[@class='take']/@href"), ("audio source", ".//audio//source/@src")):
        for link in clip.xpath(xpath).getall():
            if address := absolute(url, link):
                found.setdefault(address, AudioLink(address, selector))
    return sorted(found.values(), key=lambda link: PurePosixPath(path_of(link.url)).suffix.lower() not in _LOSSLESS)
