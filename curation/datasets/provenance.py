"""Says what a table's words about a clip mean: which licence of the closed list, and which site's recording; pure.

Nothing is guessed. A licence without its version ("CC-BY") is ``unknown``, as is one that the list has no name for
(CC BY-SA 4.0, GPL-2); readers say in a note which words they could not place.
"""

from __future__ import annotations

import functools
import re
from urllib.parse import parse_qs, unquote, urlsplit

from crawler.items import LICENSES
from curation.datasets.licenses import license_of_url

_SHORT = (
    (r"creative commons", "cc"),
    (r"attribution", "by"),
    (r"non-?commercial", "nc"),
    (r"share-?alike", "sa"),
    (r"no-?deriv(?:ative)?s", "nd"),
    (r"sampling ?(?:\+|plus)", "sampling-plus"),
    (r" (?:international|unported|universal)$", ""),
    (r"[ -]+", "-"),
)
_CC_NAME = re.compile(r"(?:cc-?)?(by(?:-(?:nc|sa|nd))*|zero|0|sampling-plus)(?:-v?(\d\.\d))?")

_ID_IN_PATH = {
    "freesound.org": re.compile(r"/(?:people/[^/]+/sounds|s)/0*(\d{1,12})/?"),
    "soundbible.com": re.compile(r"/0*(\d{1,12})-[^/]*\.html"),
    "bigsoundbank.com": re.compile(r"/(?:[^/]*-s(\d{3,6})|(?:detail|sound)-(\d{3,6})-[^/]*)\.html"),
    "youtu.be": re.compile(r"/([\w-]{11})"),
}
_SITES = {"freesound.org": "freesound", "soundbible.com": "soundbible", "youtu.be": "youtube"}
_YOUTUBE_ID = re.compile(r"[\w-]{11}")


@functools.lru_cache
def license_of(text: str) -> str:
    """Return the entry of ``crawler.items.LICENSES`` that a name or an address of a licence means, else "unknown".

    >>> license_of("http://creativecommons.org/licenses/by-nc/3.0/"), license_of("CC BY 4.0"), license_of("CC-BY")
    ('cc-by-nc-3.0', 'cc-by-4.0', 'unknown')
    """
    words = " ".join(text.lower().replace("_", " ").split()).removesuffix(" licence").removesuffix(" license")
    if words in LICENSES:
        return words
    if "//" in words:
        return license_of_url(words)
    if words in ("public domain", "public domain mark 1.0"):
        return "public-domain"
    for long, short in _SHORT:
        words = re.sub(long, short, words)
    match = _CC_NAME.fullmatch(words)
    if match is None:
        return "unknown"
    kind, version = match.groups()
    kind = {"0": "cc0", "zero": "cc0"}.get(kind, f"cc-{kind}")
    if kind in ("cc0", "cc-sampling-plus"):  # of which there is one version
        version = version or "1.0"
    return f"{kind}-{version}" if f"{kind}-{version}" in LICENSES else "unknown"


def origin_of(page_url: str) -> tuple[str, str]:
    """Return the site and its own id of the recording whose page this is, ("", "") where the address does not say.

    >>> origin_of("https://freesound.org/people/nfrae/sounds/100032/"), origin_of("https://example.org/1")
    (('freesound', '100032'), ('', ''))
    """
    try:
        parts = urlsplit(page_url.strip())
        host = (parts.hostname or "").removeprefix("www.").removeprefix("m.")
    except ValueError:  # http://[ is no address
        return "", ""
    if host == "youtube.com":
        found = parse_qs(parts.query).get("v", [""])[0]
        return ("youtube", found) if _YOUTUBE_ID.fullmatch(found) else ("", "")
    match = _ID_IN_PATH[host].fullmatch(unquote(parts.path)) if host in _ID_IN_PATH else None
    if match is None:
        return "", ""
    found = next(group for group in match.groups() if group)
    if host == "bigsoundbank.com":  # four digits at least, as a crawl writes them
        return "bigsoundbank", f"{int(found):04d}"
    return _SITES[host], found
