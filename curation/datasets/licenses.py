"""Licences as data sets name them, by the address of their text, mapped onto ``crawler.items.LICENSES``."""

from __future__ import annotations

import re

from crawler.items import LICENSES

_TEXT = re.compile(
    r"(?:https?:)?//(?:www\.)?creativecommons\.org/(?:licenses|publicdomain)/([a-z+-]+)/(\d\.\d)\b.*", re.I
)
_NAMES = {"zero": "cc0", "mark": "public-domain", "sampling+": "cc-sampling-plus"}


def license_of_url(url: str) -> str:
    """Return the licence whose text stands at an address; "unknown" for one that the closed list does not have.

    >>> license_of_url("http://creativecommons.org/licenses/by/3.0/"), license_of_url("https://example.org/by")
    ('cc-by-3.0', 'unknown')
    """
    found = _TEXT.fullmatch(url.strip())
    if found is None:
        return "unknown"
    kind, version = found[1].lower(), found[2]
    name = _NAMES.get(kind, f"cc-{kind}")
    return next((known for known in (name, f"{name}-{version}") if known in LICENSES), "unknown")
