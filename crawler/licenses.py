"""The licence that a page prints, mapped onto the closed list of the record.

Nothing is guessed: a label without a version, or one that the list does not know, is ``unknown``, and the record
keeps the label as printed beside it.
"""

from __future__ import annotations

import re
import unicodedata

_WORDS = re.compile(r"[^a-z0-9.+]+")

_FRENCH = (
    ("domaine public", "public domain"),
    ("paternite", "attribution"),
    ("pas d utilisation commerciale", "noncommercial"),
    ("partage dans les memes conditions", "sharealike"),
    ("partage a l identique", "sharealike"),
    ("pas de modification", "noderivs"),
    ("usage personnel", "personal use"),
)
"""What lasonotheque.org and the French licence texts say, without accents."""

LICENSE_URLS = {
    "cc0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "cc-by-3.0": "https://creativecommons.org/licenses/by/3.0/",
    "cc-by-4.0": "https://creativecommons.org/licenses/by/4.0/",
    "cc-by-sa-3.0": "https://creativecommons.org/licenses/by-sa/3.0/",
    "cc-by-nc-3.0": "https://creativecommons.org/licenses/by-nc/3.0/",
    "cc-by-nc-4.0": "https://creativecommons.org/licenses/by-nc/4.0/",
    "cc-sampling-plus-1.0": "https://creativecommons.org/licenses/sampling+/1.0/",
}
"""Where the text of a licence stands, for pages that name it without a link."""


def license_of(label: str) -> str:
    """Return the entry of ``crawler.items.LICENSES`` that a page's label means; "unknown" where it is not plain.

    >>> license_of("Attribution 3.0"), license_of("CC0 (public domain)"), license_of("Attribution")
    ('cc-by-3.0', 'cc0-1.0', 'unknown')
    """
    text = _WORDS.sub(" ", _without_accents(label.lower())).strip()
    for french, english in _FRENCH:
        text = text.replace(french, english)
    words = set(text.split())
    if "cc0" in words or "cc zero" in text or "publicdomain zero" in text:
        return "cc0-1.0"
    if "public domain" in text or "publicdomain" in words:
        return "public-domain"
    if "personal use" in text:
        return "personal-use"
    if "remarc" in words:
        return "remarc"
    noncommercial = bool(words & {"noncommercial", "nc"}) or "non commercial" in text
    if "sampling" in words or "sampling+" in words:
        plus = "plus" in words or "sampling+" in words
        return "cc-sampling-plus-1.0" if plus and not noncommercial else "unknown"
    return _attribution(text, words, noncommercial=noncommercial)


def _without_accents(text: str) -> str:
    return "".join(sign for sign in unicodedata.normalize("NFD", text) if not unicodedata.combining(sign))


def _attribution(text: str, words: set[str], *, noncommercial: bool) -> str:
    share_alike = bool(words & {"sharealike", "sa"}) or "share alike" in text
    no_derivatives = bool(words & {"noderivs", "noderivatives", "nd"}) or "no deriv" in text
    # SoundBible prints "Noncommercial 3.0" for BY-NC; every Creative Commons licence from 2.0 on asks for attribution.
    attribution = bool(words & {"attribution", "by"}) or noncommercial or share_alike
    version = next((word for word in ("3.0", "4.0") if word in words), "")
    parts = ["by"] * attribution + ["nc"] * noncommercial + ["sa"] * share_alike + ["nd"] * no_derivatives
    name = f"cc-{'-'.join(parts)}-{version}"
    return name if name in LICENSE_URLS else "unknown"
