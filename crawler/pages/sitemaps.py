"""Sitemaps (sitemaps.org) to addresses: gzipped or not, with or without a namespace prefix, CDATA and entities.

Read with patterns, not as XML: a sitemap that is cut off or holds a bare "&" still names what stands before and after.
"""

from __future__ import annotations

import re
import zlib

from crawler.pages.fields import decode_page, unescape

SITEMAP_BYTES = 50 * 2**20
"""The most a sitemap may have when unpacked, says the protocol; what is over is not read."""

_GZIP = b"\x1f\x8b"
_STEP = 1 << 16
_OPEN = re.compile(r"<(?:\w{1,20}:)?(loc|sitemap)(?:\s[^<>]{0,200})?>", re.I)


def sitemap_text(body: bytes) -> str:
    """Return the text of a sitemap's body, unpacked if it is gzipped; of a broken archive what can be read."""
    return decode_page(_unpacked(body) if body.startswith(_GZIP) else body, None)


def _unpacked(body: bytes) -> bytes:
    unpacked, more = bytearray(), zlib.decompressobj(wbits=31)
    try:
        for start in range(0, len(body), _STEP):
            unpacked += more.decompress(body[start : start + _STEP], SITEMAP_BYTES - len(unpacked))
            if len(unpacked) == SITEMAP_BYTES:
                break
    except zlib.error:
        pass
    return bytes(unpacked)


def sitemap_locs(xml: str) -> list[str]:
    """Return the addresses of the pages that a sitemap lists, in its order."""
    return _locs(xml)[0]


def sitemap_indexes(xml: str) -> list[str]:
    """Return the addresses of the sitemaps that a sitemap index lists, each once."""
    return list(dict.fromkeys(_locs(xml)[1]))


def _locs(xml: str) -> tuple[list[str], list[str]]:
    pages: list[str] = []
    sitemaps: list[str] = []
    in_sitemap = False
    pieces = _OPEN.split(xml)
    for name, rest in zip(pieces[1::2], pieces[2::2], strict=True):
        if name.lower() == "sitemap":
            in_sitemap = True
            continue
        address = rest.lstrip()
        if address.startswith("<![CDATA["):
            address = address[9:].partition("]]>")[0].strip()
        else:
            address = unescape(address.partition("<")[0].strip())
        if address:
            (sitemaps if in_sitemap else pages).append(address)
        in_sitemap = False
    return pages, sitemaps
